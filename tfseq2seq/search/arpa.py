"""N-gram language models: learned from text, read from and written to ARPA files.

An ARPA file keeps log10 numbers; a model in memory keeps nats. Columns of such a file are separated by white space, so
a token that is or holds white space (a space, in a vocabulary of characters) is spelt with U+2581 in the model, as
SentencePiece does. Everything that looks words up spells them so first.
"""

from __future__ import annotations

import collections
import gzip
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfseq2seq.errors import UserError
from tfseq2seq.files import iterate_lines, written_aside

START, END, UNKNOWN = "<s>", "</s>", "<unk>"

Gram = tuple[str, ...]
Entries = dict[Gram, tuple[float, float]]

_LN10 = math.log(10.0)
# What SRILM writes for a probability of zero; <s> is never predicted.
_ZERO = -99.0
# What KenLM gives unknown words where a file has no <unk>, in log10.
_NO_UNKNOWN = -100.0
# For orders with too few different counts to estimate discounts from, such as those of tiny corpora.
_FALLBACK = (0.5, 1.0, 1.5)
_SPACES = str.maketrans(dict.fromkeys(" \t\n\r\v\f\0", "\u2581"))


def spelt(word: str) -> str:
    """A word as models hold it: with U+2581 in place of white space that ends a column in an ARPA file."""
    return word.translate(_SPACES)


@dataclass(frozen=True)
class NgramModel:
    """A back-off model. `entries[n - 1]` has the n-grams: words to (log-probability, back-off weight), both in nats.

    The back-off weight belongs to the n-gram as a context; it is 0 for those of the highest order. `<unk>` is added
    where it is missing, with log10 probability -100.

    Raises:
        UserError: there is no `</s>`, so that sentences could not end.
    """

    entries: tuple[Entries, ...]

    def __post_init__(self) -> None:
        if not self.entries or (END,) not in self.entries[0]:
            raise UserError(f"a language model needs the word {END}; learn it from sentences")
        self.entries[0].setdefault((UNKNOWN,), (_NO_UNKNOWN * _LN10, 0.0))

    @property
    def order(self) -> int:
        """Words in the longest n-grams."""
        return len(self.entries)

    def known(self, word: str) -> str:
        """The word as the model holds it, `<unk>` if it does not; the marks of sentence ends are no words."""
        word = spelt(word)
        return word if word not in (START, END) and (word,) in self.entries[0] else UNKNOWN

    def conditional(self, context: Sequence[str], word: str) -> float:
        """Log-probability in nats of `word` after `context`; both as the model holds them, `<s>` and `</s>` included.

        Of the context the last `order - 1` words count.
        """
        past, total = tuple(context)[max(0, len(context) - self.order + 1) :], 0.0
        while past and (*past, word) not in self.entries[len(past)]:
            total += self.entries[len(past) - 1].get(past, (0.0, 0.0))[1]
            past = past[1:]
        return total + self.entries[len(past)][*past, word][0]

    def log_prob(self, words: Sequence[str], with_end: bool = True) -> float:
        """Log-probability in nats of a sentence, after `<s>`, with its end unless told otherwise."""
        sentence = [START, *map(self.known, words)] + [END] * with_end
        return sum(self.conditional(sentence[:index], sentence[index]) for index in range(1, len(sentence)))

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> tuple[float, int, int]:
        """Of text: perplexity with sentence ends and unknown words, tokens (ends counted), and unknown words in them.

        Raises:
            UserError: there is no sentence.
        """
        total, tokens, unknown = 0.0, 0, 0
        for words in sentences:
            total += self.log_prob(words)
            tokens += len(words) + 1
            unknown += sum(self.known(word) == UNKNOWN for word in words)
        if not tokens:
            raise UserError("perplexity: there is no sentence")
        return math.exp(-total / tokens), tokens, unknown


# ---- learning -------------------------------------------------------------------------------------------------------


def train_ngram(sentences: Iterable[Sequence[str]], order: int, min_count: Sequence[int] = ()) -> NgramModel:
    """Interpolated modified Kneser-Ney (Chen & Goodman 1998, section 4), as KenLM computes it (Heafield et al. 2013).

    N-grams below the highest order count by the different words before them, those that begin with `<s>` by how often
    they come. Unigrams are interpolated with the uniform distribution over all words, `</s>` and `<unk>`. Each order's
    three discounts come from its counts of counts; where no n-gram counts 1, 2 or 3, or a discount is not positive,
    they are 0.5, 1 and 1.5.

    Args:
        sentences: words of each, without `<s>` and `</s>`. `<unk>` is a word like any other.
        order: words in the longest n-grams, at least 1.
        min_count: for pruning: how often an n-gram must come to be kept, for orders 1, 2, ...; orders beyond the list
            take its last number. It begins with 1 and does not fall. What pruned n-grams held goes to the back-off
            weight of their context, so that every distribution still sums to 1.

    Raises:
        UserError: no sentence, an order below 1, a `min_count` that cannot work, a sentence with `<s>`, `</s>` or an
            empty word.
    """
    if order < 1:
        raise UserError(f"order {order}: an n-gram has at least one word")
    least = [*min_count, *[min_count[-1] if min_count else 1] * order][:order]
    if least[0] != 1 or least != sorted(least):
        raise UserError(f"min_count {tuple(min_count)}: begins with 1, as no word is pruned, and must not fall")
    counts = _counts(sentences, order)
    model = [_unigrams(_adjusted(counts, 1))]
    for n in range(2, order + 1):
        pruned = {gram for gram, count in counts[n - 1].items() if count < least[n - 1]}
        model.append(_interpolated(_adjusted(counts, n), pruned, model[-1]))
    logs: list[Entries] = [
        {gram: (math.log(probability), math.log(weight)) for gram, (probability, weight) in entries.items()}
        for entries in model
    ]
    logs[0][(START,)] = (_ZERO * _LN10, logs[0][(START,)][1])
    return NgramModel(tuple(logs))


def _counts(sentences: Iterable[Sequence[str]], order: int) -> list[collections.Counter[Gram]]:
    """How often each n-gram comes, for orders 1 to `order`."""
    counts: list[collections.Counter[Gram]] = [collections.Counter() for _ in range(order)]
    for number, sentence in enumerate(sentences, start=1):
        words = [START, *map(spelt, sentence), END]
        for word in ("", START, END):
            if word in words[1:-1]:
                raise UserError(f"sentence {number} has the word {word!r}, which a language model cannot learn")
        for n, grams in enumerate(counts, start=1):
            grams.update(zip(*(words[index:] for index in range(n))))
    if not counts[0]:
        raise UserError("there is no sentence to learn a language model from")
    return counts


def _adjusted(counts: list[collections.Counter[Gram]], n: int) -> dict[Gram, int]:
    """Of n-grams: what they count in estimation, see `train_ngram`. `<s>` alone counts nothing."""
    if n == len(counts):
        adjusted = counts[n - 1]
    else:
        adjusted = collections.Counter(gram[1:] for gram in counts[n])
        adjusted.update({gram: count for gram, count in counts[n - 1].items() if gram[0] == START})
    return {gram: count for gram, count in adjusted.items() if gram != (START,)}


def _discounts(adjusted: dict[Gram, int]) -> tuple[float, float, float]:
    """What is taken from counts of 1, of 2, and of 3 and more (Chen & Goodman 1998, eq. 26)."""
    having = collections.Counter(adjusted.values())
    if not (having[1] and having[2] and having[3]):
        return _FALLBACK
    share = having[1] / (having[1] + 2 * having[2])
    first, second, third = (k - (k + 1) * share * having[k + 1] / having[k] for k in (1, 2, 3))
    return (first, second, third) if min(first, second, third) > 0 else _FALLBACK


def _unigrams(adjusted: dict[Gram, int]) -> Entries:
    """Probabilities and back-off weights of single words, of `<s>` too."""
    total, discounts = sum(adjusted.values()), _discounts(adjusted)
    words = {*adjusted, (UNKNOWN,)}
    taken = {gram: discounts[min(count, 3) - 1] for gram, count in adjusted.items()}
    uniform = sum(taken.values()) / total / len(words)
    entries = {gram: ((adjusted.get(gram, 0) - taken.get(gram, 0.0)) / total + uniform, 1.0) for gram in words}
    return {**entries, (START,): (1.0, 1.0)}


def _interpolated(adjusted: dict[Gram, int], pruned: set[Gram], lower: Entries) -> Entries:
    """Probabilities of n-grams; sets the back-off weights of their contexts in `lower`."""
    discounts = _discounts(adjusted)
    taken: collections.defaultdict[Gram, float] = collections.defaultdict(float)
    totals: collections.Counter[Gram] = collections.Counter()
    for gram, count in adjusted.items():
        totals[gram[:-1]] += count
        taken[gram[:-1]] += count if gram in pruned else discounts[min(count, 3) - 1]
    for context, total in totals.items():
        # The context of n-grams that are all pruned may be pruned itself; its weight is 1, like that of any unseen.
        if context in lower:
            lower[context] = (lower[context][0], taken[context] / total)
    entries = {}
    for gram, count in adjusted.items():
        if gram not in pruned:
            own = (count - discounts[min(count, 3) - 1]) / totals[gram[:-1]]
            entries[gram] = (own + lower[gram[:-1]][1] * lower[gram[1:]][0], 1.0)
    return entries


# ---- files ----------------------------------------------------------------------------------------------------------


def write_arpa(model: NgramModel, path: str | Path) -> None:
    """Writes a model as an ARPA file, compressed where the name ends in .gz; equal models give equal files.

    Raises:
        UserError: the file cannot be written.
    """
    with written_aside(path) as aside, open(aside, "wb") as raw:
        # Neither a name nor a time goes into the compressed file, as both would differ from one writing to the next.
        zipped = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if aside.suffix == ".gz" else raw
        with io.TextIOWrapper(zipped, encoding="utf-8", newline="\n") as file:  # type: ignore[type-var]
            file.write("\\data\\\n")
            file.writelines(f"ngram {n}={len(grams)}\n" for n, grams in enumerate(model.entries, start=1))
            for n, grams in enumerate(model.entries, start=1):
                file.write(f"\n\\{n}-grams:\n")
                for gram, (probability, weight) in sorted(grams.items()):
                    backs_off = f"\t{weight / _LN10:.7g}" if n < model.order else ""
                    file.write(f"{probability / _LN10:.7g}\t{' '.join(gram)}{backs_off}\n")
            file.write("\n\\end\\\n")


def read_arpa(path: str | Path) -> NgramModel:
    """Reads an ARPA file, plain or .gz, as SRILM, KenLM and others write it.

    Columns may be separated by tabs or spaces and back-off weights may be missing. Without `<unk>`, unknown words get a
    log10 probability of -100, as in KenLM.

    Raises:
        UserError: the file cannot be read or is not as it says; the message has the line.
    """
    return _Reader(path).read()


class _Reader:
    """Reads line by line and knows where it is."""

    def __init__(self, path: str | Path):
        self.path, self.number = path, 0
        self.lines = self._filled()

    def _filled(self) -> Iterator[bytes]:
        for line in iterate_lines(self.path):
            self.number += 1
            if stripped := line.strip():
                yield stripped

    def fault(self, reason: str) -> UserError:
        return UserError(f"{self.path}, line {self.number}: {reason}")

    def read(self) -> NgramModel:
        if not any(line == b"\\data\\" for line in self.lines):
            raise UserError(f"{self.path}: no line is \\data\\; is this an ARPA language model?")
        sizes: list[int] = []
        line = next(self.lines, b"")
        while found := re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line):
            if int(found[1]) != len(sizes) + 1:
                raise self.fault(f"the number of {len(sizes) + 1}-grams is expected, not of {int(found[1])}-grams")
            sizes.append(int(found[2]))
            line = next(self.lines, b"")
        if not sizes:
            raise self.fault("a line like 'ngram 1=5000' must follow \\data\\")
        entries = []
        for n, size in enumerate(sizes, start=1):
            if line != b"\\%d-grams:" % n:
                raise self.fault(f"\\{n}-grams: is expected here, not {_shown(line)}")
            grams, line = self._section(n, len(sizes))
            if len(grams) != size:
                raise self.fault(f"{len(grams)} {n}-grams came, but the file says at its top that there are {size}")
            entries.append(grams)
        if line != b"\\end\\":
            raise self.fault(f"\\end\\ is expected here, not {_shown(line)}")
        try:
            return NgramModel(tuple(entries))
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def _section(self, n: int, order: int) -> tuple[Entries, bytes]:
        """The n-grams, and the line after them; empty at the end of the file."""
        grams: Entries = {}
        for line in self.lines:
            if line.startswith(b"\\") and (line == b"\\end\\" or line.endswith(b"-grams:")):
                return grams, line
            columns = line.split()
            if len(columns) not in (n + 1, n + 2):
                raise self.fault(
                    f"{len(columns)} columns; a log-probability, {n} word{'s'[: n > 1]} and, where there is one, a "
                    "back-off weight are expected"
                )
            gram = tuple(word.decode("utf-8") for word in columns[1 : n + 1])
            if gram in grams:
                raise self.fault(f"{' '.join(gram)!r} comes a second time")
            probability = self._log10(columns[0])
            if probability > 0:
                raise self.fault(f"{columns[0].decode()} is no log-probability, which is at most 0")
            # A weight after the longest n-grams has no use.
            weight = self._log10(columns[-1]) if len(columns) == n + 2 else 0.0
            grams[gram] = (probability, weight if n < order else 0.0)
        return grams, b""

    def _log10(self, column: bytes) -> float:
        """In nats; a logarithm of zero is written as -99 or -inf."""
        try:
            value = float(column)
        except ValueError:
            value = math.nan
        if math.isnan(value) or value == math.inf:
            raise self.fault(f"{column.decode()} is not a number")
        return max(value, _ZERO - 1) * _LN10


def _shown(line: bytes) -> str:
    return repr(line.decode()) if line else "the end of the file"
