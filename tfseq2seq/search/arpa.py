"""N-gram language models: estimated from text, read from and written to ARPA files.

An ARPA file has log10 probabilities; a model in memory has nats. The columns of an ARPA file are separated by white
space. White space inside a token (for example the space in a vocabulary of characters) is therefore replaced by U+2581
in the model, as in SentencePiece. Every look-up of a word makes this replacement first.
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
# SRILM writes this log10 number for a probability of zero. <s> has it, because it is never predicted.
_ZERO = -99.0
# In bytes. A model in memory takes several times as much.
_LARGEST_FILE = 1 << 32
# The largest log10 back-off weight. Sums of larger ones would not be exact, or even infinite.
_LARGEST_BACKOFF = 99
# The log10 probability that KenLM gives to unknown words if a file has no <unk>.
_NO_UNKNOWN = -100.0
# Discounts for orders whose counts of counts are too few to estimate them, as in tiny corpora.
_FALLBACK = (0.5, 1.0, 1.5)
_SPACES = str.maketrans(dict.fromkeys(" \t\n\r\v\f\0", "\u2581"))


def escaped(word: str) -> str:
    """Returns the word as models store it: white space that would end a column of an ARPA file becomes U+2581."""
    return word.translate(_SPACES)


@dataclass(frozen=True)
class NgramModel:
    """A back-off language model.

    Attributes:
        entries: `entries[n - 1]` maps each n-gram to (log-probability, back-off weight), both in nats. The back-off
            weight applies when the n-gram is a context; it is 0 for n-grams of the highest order. A missing `<unk>` is
            added with log10 probability -100.

    Raises:
        UserError: `</s>` is missing, so sentences could not end.
    """

    entries: tuple[Entries, ...]

    def __post_init__(self) -> None:
        if not self.entries or (END,) not in self.entries[0]:
            raise UserError(f"the language model does not have the word {END}; train it on sentences")
        self.entries[0].setdefault((UNKNOWN,), (_NO_UNKNOWN * _LN10, 0.0))

    @property
    def order(self) -> int:
        """The number of words in the longest n-grams."""
        return len(self.entries)

    def known(self, word: str) -> str:
        """Returns the word as the model stores it, or `<unk>` for unknown words and for `<s>` and `</s>`."""
        word = escaped(word)
        return word if word not in (START, END) and (word,) in self.entries[0] else UNKNOWN

    def conditional(self, context: Sequence[str], word: str) -> float:
        """Returns the log-probability in nats of `word` after `context`.

        Args:
            context: words as the model stores them, possibly with `<s>`. Only the last `order - 1` words count.
            word: a word as the model stores it, or `</s>`.
        """
        past, total = tuple(context)[max(0, len(context) - self.order + 1) :], 0.0
        while past and (*past, word) not in self.entries[len(past)]:
            total += self.entries[len(past) - 1].get(past, (0.0, 0.0))[1]
            past = past[1:]
        return total + self.entries[len(past)][*past, word][0]

    def log_prob(self, words: Sequence[str], with_end: bool = True) -> float:
        """Returns the log-probability in nats of a sentence after `<s>`. It includes `</s>` if `with_end`."""
        sentence = [START, *map(self.known, words)] + [END] * with_end
        return sum(self.conditional(sentence[:index], sentence[index]) for index in range(1, len(sentence)))

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> tuple[float, int, int]:
        """Returns the perplexity of text, the number of tokens and the number of unknown words among them.

        Sentence ends count as tokens. The perplexity includes sentence ends and unknown words.

        Raises:
            UserError: there are no sentences.
        """
        total, tokens, unknown = 0.0, 0, 0
        for words in sentences:
            total += self.log_prob(words)
            tokens += len(words) + 1
            unknown += sum(self.known(word) == UNKNOWN for word in words)
        if not tokens:
            raise UserError("perplexity: the text has no sentences")
        return math.exp(-total / tokens), tokens, unknown


# ---- training -------------------------------------------------------------------------------------------------------


def train_ngram(sentences: Iterable[Sequence[str]], order: int, min_count: Sequence[int] = ()) -> NgramModel:
    """Trains an n-gram model with interpolated modified Kneser-Ney smoothing.

    See Chen & Goodman 1998, section 4. The computation is that of KenLM (Heafield et al. 2013). The count of an n-gram
    below the highest order is the number of different words before it; n-grams that begin with `<s>` have their
    frequency as count. Unigrams are interpolated with the uniform distribution over all words, `</s>` and `<unk>`. The
    three discounts of each order are estimated from its counts of counts. If no n-gram has the count 1, 2 or 3, or if a
    discount is not positive, the discounts are 0.5, 1 and 1.5.

    Args:
        sentences: the words of each sentence, without `<s>` and `</s>`. `<unk>` is a word like any other.
        order: the number of words in the longest n-grams, at least 1.
        min_count: the minimum frequency of the n-grams to keep, for orders 1, 2, ... (pruning). Higher orders use the
            last number. The first number must be 1, and the numbers must not decrease. The probability of pruned
            n-grams goes to the back-off weight of their context, so every distribution still sums to 1.

    Raises:
        UserError: there are no sentences; the order is below 1; `min_count` is invalid; or a sentence has `<s>`, `</s>`
            or an empty word.
    """
    if order < 1:
        raise UserError(f"order: must be at least 1, got {order}")
    thresholds = [*min_count, *[min_count[-1] if min_count else 1] * order][:order]
    if thresholds[0] != 1 or thresholds != sorted(thresholds):
        raise UserError(
            f"min_count: must begin with 1 (words are not pruned) and must not decrease, got {tuple(min_count)}"
        )
    counts = _counts(sentences, order)
    model = [_unigrams(_adjusted(counts, 1))]
    for n in range(2, order + 1):
        pruned = {gram for gram, count in counts[n - 1].items() if count < thresholds[n - 1]}
        model.append(_interpolated(_adjusted(counts, n), pruned, model[-1]))
    logs: list[Entries] = [
        {gram: (math.log(probability), math.log(weight)) for gram, (probability, weight) in entries.items()}
        for entries in model
    ]
    logs[0][(START,)] = (_ZERO * _LN10, logs[0][(START,)][1])
    return NgramModel(tuple(logs))


def _counts(sentences: Iterable[Sequence[str]], order: int) -> list[collections.Counter[Gram]]:
    """Counts the n-grams of orders 1 to `order`."""
    counts: list[collections.Counter[Gram]] = [collections.Counter() for _ in range(order)]
    for number, sentence in enumerate(sentences, start=1):
        words = [START, *map(escaped, sentence), END]
        for word in ("", START, END):
            if word in words[1:-1]:
                raise UserError(f"sentence {number}: must not have the word {word!r}")
        for n, grams in enumerate(counts, start=1):
            grams.update(zip(*(words[index:] for index in range(n))))
    if not counts[0]:
        raise UserError("training a language model needs at least one sentence, got none")
    return counts


def _adjusted(counts: list[collections.Counter[Gram]], n: int) -> dict[Gram, int]:
    """Returns the adjusted counts of n-grams, see `train_ngram`. The unigram `<s>` has none."""
    if n == len(counts):
        adjusted = counts[n - 1]
    else:
        adjusted = collections.Counter(gram[1:] for gram in counts[n])
        adjusted.update({gram: count for gram, count in counts[n - 1].items() if gram[0] == START})
    return {gram: count for gram, count in adjusted.items() if gram != (START,)}


def _discounts(adjusted: dict[Gram, int]) -> tuple[float, float, float]:
    """Returns the discounts for counts of 1, of 2, and of 3 or more (Chen & Goodman 1998, eq. 26)."""
    counts_of_counts = collections.Counter(adjusted.values())
    if not (counts_of_counts[1] and counts_of_counts[2] and counts_of_counts[3]):
        return _FALLBACK
    share = counts_of_counts[1] / (counts_of_counts[1] + 2 * counts_of_counts[2])
    first, second, third = (k - (k + 1) * share * counts_of_counts[k + 1] / counts_of_counts[k] for k in (1, 2, 3))
    return (first, second, third) if min(first, second, third) > 0 else _FALLBACK


def _unigrams(adjusted: dict[Gram, int]) -> Entries:
    """Returns probabilities and back-off weights of unigrams, including `<s>`."""
    total, discounts = sum(adjusted.values()), _discounts(adjusted)
    words = {*adjusted, (UNKNOWN,)}
    taken = {gram: discounts[min(count, 3) - 1] for gram, count in adjusted.items()}
    uniform = sum(taken.values()) / total / len(words)
    entries = {gram: ((adjusted.get(gram, 0) - taken.get(gram, 0.0)) / total + uniform, 1.0) for gram in words}
    return {**entries, (START,): (1.0, 1.0)}


def _interpolated(adjusted: dict[Gram, int], pruned: set[Gram], lower: Entries) -> Entries:
    """Returns probabilities of n-grams, and sets the back-off weights of their contexts in `lower`."""
    discounts = _discounts(adjusted)
    taken: collections.defaultdict[Gram, float] = collections.defaultdict(float)
    totals: collections.Counter[Gram] = collections.Counter()
    for gram, count in adjusted.items():
        totals[gram[:-1]] += count
        taken[gram[:-1]] += count if gram in pruned else discounts[min(count, 3) - 1]
    for context, total in totals.items():
        # If all n-grams of a context are pruned, the context may be pruned too. Then its weight is 1, as for any
        # context that was not seen.
        if context in lower:
            lower[context] = (lower[context][0], taken[context] / total)
    entries = {}
    for gram, count in adjusted.items():
        if gram not in pruned:
            discounted = (count - discounts[min(count, 3) - 1]) / totals[gram[:-1]]
            entries[gram] = (discounted + lower[gram[:-1]][1] * lower[gram[1:]][0], 1.0)
    return entries


# ---- files ----------------------------------------------------------------------------------------------------------


def write_arpa(model: NgramModel, path: str | Path) -> None:
    """Writes a model as an ARPA file. It is compressed if the name ends in .gz. Equal models give equal files.

    Raises:
        UserError: the file cannot be written.
    """
    with written_aside(path) as aside, open(aside, "wb") as raw:
        # The gzip header has no file name and no time, because both would differ between equal models.
        zipped = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if aside.suffix == ".gz" else raw
        with io.TextIOWrapper(zipped, encoding="utf-8", newline="\n") as file:  # type: ignore[type-var]
            file.write("\\data\\\n")
            file.writelines(f"ngram {n}={len(grams)}\n" for n, grams in enumerate(model.entries, start=1))
            for n, grams in enumerate(model.entries, start=1):
                file.write(f"\n\\{n}-grams:\n")
                for gram, (probability, weight) in sorted(grams.items()):
                    backoff = f"\t{weight / _LN10:.7g}" if n < model.order else ""
                    file.write(f"{probability / _LN10:.7g}\t{' '.join(gram)}{backoff}\n")
            file.write("\n\\end\\\n")


def read_arpa(path: str | Path) -> NgramModel:
    """Reads an ARPA file, plain or .gz, as written by SRILM, KenLM and others.

    Columns may be separated by tabs or spaces. Back-off weights may be missing. If the file has no `<unk>`, unknown
    words get a log10 probability of -100, as in KenLM.

    Raises:
        UserError: the file cannot be read or is not a valid ARPA file; the message has the line.
    """
    return _Reader(path).read()


class _Reader:
    """Reads an ARPA file line by line and keeps the line number for messages."""

    def __init__(self, path: str | Path):
        self.path, self.number = path, 0
        self.lines = self._filled()

    def _filled(self) -> Iterator[bytes]:
        for line in iterate_lines(self.path, _LARGEST_FILE):
            self.number += 1
            if stripped := line.strip():
                yield stripped

    def fault(self, reason: str) -> UserError:
        return UserError(f"{self.path}, line {self.number}: {reason}")

    def read(self) -> NgramModel:
        if not any(line == b"\\data\\" for line in self.lines):
            raise UserError(f"{self.path}: the line \\data\\ is missing; is this an ARPA language model?")
        sizes: list[int] = []
        line = next(self.lines, b"")
        while found := re.fullmatch(rb"ngram\s+(\d{1,3})\s*=\s*(\d{1,15})", line):
            if int(found[1]) != len(sizes) + 1:
                raise self.fault(f"expected the number of {len(sizes) + 1}-grams, got that of {int(found[1])}-grams")
            sizes.append(int(found[2]))
            line = next(self.lines, b"")
        if not sizes:
            raise self.fault(f"expected a line like 'ngram 1=5000' after \\data\\, got {_shown(line)}")
        entries = []
        for n, size in enumerate(sizes, start=1):
            if line != b"\\%d-grams:" % n:
                raise self.fault(f"expected \\{n}-grams:, got {_shown(line)}")
            grams, line = self._section(n, len(sizes))
            if len(grams) != size:
                raise self.fault(f"expected {size} {n}-grams (the header line 'ngram {n}={size}'), got {len(grams)}")
            entries.append(grams)
        if line != b"\\end\\":
            raise self.fault(f"expected \\end\\, got {_shown(line)}")
        try:
            return NgramModel(tuple(entries))
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def _section(self, n: int, order: int) -> tuple[Entries, bytes]:
        """Returns the n-grams of a section and the line after them, which is empty at the end of the file."""
        grams: Entries = {}
        for line in self.lines:
            if line.startswith(b"\\") and (line == b"\\end\\" or line.endswith(b"-grams:")):
                return grams, line
            columns = line.split()
            if len(columns) not in (n + 1, n + 2):
                raise self.fault(
                    f"expected {n + 1} or {n + 2} columns (a log-probability, {n} word{'s'[: n > 1]} and an optional "
                    f"back-off weight), got {len(columns)}"
                )
            gram = tuple(word.decode("utf-8") for word in columns[1 : n + 1])
            if gram in grams:
                raise self.fault(f"{' '.join(gram)!r} is listed twice")
            probability = self._log10(columns[0])
            if probability > 0:
                raise self.fault(f"a log-probability must be at most 0, got {columns[0].decode()}")
            # N-grams of the highest order are never a context, so their back-off weight is ignored.
            weight = self._log10(columns[-1]) if len(columns) == n + 2 else 0.0
            if weight > _LARGEST_BACKOFF * _LN10:
                raise self.fault(f"a back-off weight must be at most {_LARGEST_BACKOFF}, got {columns[-1].decode()}")
            grams[gram] = (probability, weight if n < order else 0.0)
        return grams, b""

    def _log10(self, column: bytes) -> float:
        """Converts a log10 number to nats. Files write the logarithm of zero as -99 or -inf."""
        try:
            value = float(column)
        except ValueError:
            value = math.nan
        if math.isnan(value) or value == math.inf:
            raise self.fault(f"expected a number, got {column.decode()!r}")
        return max(value, _ZERO - 1) * _LN10


def _shown(line: bytes) -> str:
    return repr(line.decode()) if line else "the end of the file"
