"""Shortlists: for each source, only the target tokens that may translate it are candidates.

The output layer then computes some hundreds of logits instead of all (Jean et al. 2015, L'Hostis et al. 2016).

The translations are learned from pairs of lines with IBM model 1 (Brown et al. 1993) and stored in a text file in the
format of CTranslate2's vocabulary maps, with one line per source token:

    source token <tab> target tokens, separated by spaces

A line with an empty source token has the target tokens that are always candidates.

The log-probabilities of outputs found with a shortlist are normalized over the candidates of their source. They are
slightly higher than those over all tokens, which `score` returns with or without a shortlist.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.files import expanded_path, iterate_lines, write_whole
from tfseq2seq.progress import tracked
from tfseq2seq.search.beam import StepFunction
from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.fusion import Fusion, Scorer
from tfseq2seq.spec import PAD, SPECIAL_TOKENS, SearchSpec

# The largest file of translations, in bytes.
_LARGEST_FILE = 1 << 28
# The number of pairs of lines whose possible links are in memory at a time.
_PAIRS = 20_000


class Translations(NamedTuple):
    """The content of a shortlist.

    Attributes:
        of: maps source ids to target ids, likeliest first.
        always: target ids that are always candidates.
    """

    of: dict[int, list[int]]
    always: list[int]


# ---- in the graph ---------------------------------------------------------------------------------------------------


class Candidates(NamedTuple):
    """The candidates for the output tokens of a batch.

    Attributes:
        ids: [C] int32, ascending, special tokens first.
        penalty: [B, 1, C] float32, to add to logits: 0 for candidates of the example, FORBIDDEN for candidates of other
            examples only. The output of an example therefore does not depend on the rest of the batch.
        indices: [V] int32, the index of each token in `ids`.
    """

    ids: tf.Tensor
    penalty: tf.Tensor
    indices: tf.Tensor


class Shortlist(tf.Module):
    """Finds the candidates for source ids.

    Args:
        translations: the content of the shortlist. Its `always` must include the special tokens.
        source_size: the size of the source vocabulary.
        target_size: the size of the target vocabulary.
    """

    def __init__(self, translations: Translations, source_size: int, target_size: int):
        super().__init__(name="shortlist")
        widest = max([1, *map(len, translations.of.values())])
        table = np.full((source_size, widest), PAD, "int32")
        for source, targets in translations.of.items():
            table[source, : len(targets)] = targets
        always = np.zeros(target_size, "int32")
        always[translations.always] = 1
        self.table, self.always, self.size = tf.constant(table), tf.constant(always), target_size

    def translations(self) -> Translations:
        """Returns the content of the shortlist."""
        rows = enumerate(self.table.numpy().tolist())
        of = {source: targets for source, row in rows if (targets := [one for one in row if one != PAD])}
        return Translations(of, np.flatnonzero(self.always.numpy()).tolist())

    def __call__(self, source: Any, prefix: Any = None) -> Candidates:
        """Returns the candidates for source ids [B, S]. Prefix ids [B, P] of the outputs are candidates too."""
        batch = tf.shape(source)[0]
        chosen = tf.reshape(tf.gather(self.table, source), tf.stack([batch, -1]))
        if prefix is not None:
            chosen = tf.concat([chosen, prefix], axis=1)
        rows = tf.broadcast_to(tf.expand_dims(tf.range(batch), 1), tf.shape(chosen))
        indices = tf.reshape(tf.stack([rows, chosen], axis=2), [-1, 2])
        counts = tf.scatter_nd(indices, tf.ones_like(indices[:, 0]), tf.stack([batch, self.size]))
        own = counts + self.always > 0
        in_batch = tf.reduce_any(own, axis=0)
        ids = tf.cast(tf.reshape(tf.where(in_batch), [-1]), tf.int32)
        penalty = tf.where(tf.gather(own, ids, axis=1), 0.0, FORBIDDEN)
        return Candidates(ids, tf.expand_dims(penalty, 1), tf.cumsum(tf.cast(in_batch, tf.int32)) - 1)


def narrowed_step(step: StepFunction, candidates: Candidates) -> StepFunction:
    """Wraps the step function of a model for a search over indices of candidates instead of token ids.

    `fixed` must come from `model.start(..., candidates.ids)`.
    """

    def narrowed(ids: Any, index: Any, visible: Any, fixed: Any, cache: Any) -> tuple[Any, Any, Any]:
        logits, cache, attention = step(tf.gather(candidates.ids, ids), index, visible, fixed, cache)
        return tf.cast(logits, tf.float32) + candidates.penalty, cache, attention

    return narrowed


class _Narrowed:
    """Wraps an external scorer: tokens are indices of candidates."""

    def __init__(self, scorer: Scorer, candidates: Candidates):
        self.scorer, self.candidates = scorer, candidates

    def start(self, batch: Any, beam: int) -> Any:
        return self.scorer.start(batch, beam)

    def scores(self, states: Any) -> tf.Tensor:
        return tf.gather(self.scorer.scores(states), self.candidates.ids, axis=2)

    def advance(self, states: Any, tokens: tf.Tensor) -> Any:
        return self.scorer.advance(states, tf.gather(self.candidates.ids, tokens))


def narrowed_fusion(fusion: Fusion, candidates: Candidates) -> Fusion:
    """Wraps external scorers for a search over indices of candidates."""
    return Fusion([(_Narrowed(scorer, candidates), weight) for scorer, weight in fusion.scorers])


# ---- training -------------------------------------------------------------------------------------------------------


def learn_translations(
    pairs: Iterable[tuple[Sequence[int], Sequence[int]]],
    source_size: int,
    target_size: int,
    each: int,
    frequent: int,
    iterations: int = 5,
) -> Translations:
    """Learns the likeliest translations of each source token with IBM model 1.

    Args:
        pairs: pairs of source and target ids, both without <eos>, of lines that are translations of each other.
        source_size: the size of the source vocabulary.
        target_size: the size of the target vocabulary.
        each: the maximum number of target tokens per source token.
        frequent: how many of the most frequent target tokens are always candidates, in addition to the special tokens.
        iterations: the number of iterations of expectation maximization.
    """
    chunks = [[(np.array(one, "int32"), np.array(other, "int32")) for one, other in chunk] for chunk in _chunked(pairs)]
    # A key encodes a possible link: a source token, or `source_size` for the empty word, and a target token.
    keys = np.zeros(0, "int64")
    for chunk in chunks:
        keys = np.union1d(keys, _links(chunk, source_size, target_size)[0])
    sources, targets = np.divmod(keys, target_size)
    probabilities = np.ones(len(keys))
    for iteration in range(iterations):
        counts = np.zeros(len(keys))
        for chunk in tracked(chunks, f"pass {iteration + 1} of {iterations}", len(chunks)):
            links, tokens = _links(chunk, source_size, target_size)
            indices = np.searchsorted(keys, links)
            shares = probabilities[indices]
            shares /= np.bincount(tokens, shares)[tokens]
            counts += np.bincount(indices, shares, len(keys))
        probabilities = counts / np.bincount(sources, counts, source_size + 1)[sources]
    order = np.lexsort((targets, -probabilities, sources))
    rank = np.arange(len(order)) - np.searchsorted(sources, sources[order])
    order = order[(rank < each) & (sources[order] < source_size)]
    found: dict[int, list[int]] = {}
    for source, target in zip(sources[order].tolist(), targets[order].tolist()):
        found.setdefault(source, []).append(target)
    totals = np.zeros(target_size, "int64")
    for chunk in chunks:
        totals += np.bincount(np.concatenate([target for _, target in chunk]), minlength=target_size)
    totals[: len(SPECIAL_TOKENS)] = 0
    ranked = np.argsort(-totals, kind="stable")[:frequent]
    return Translations(found, [*range(len(SPECIAL_TOKENS)), *sorted(ranked[totals[ranked] > 0].tolist())])


def _chunked(
    pairs: Iterable[tuple[Sequence[int], Sequence[int]]],
) -> Iterator[list[tuple[Sequence[int], Sequence[int]]]]:
    rest = iter(pairs)
    while chunk := list(itertools.islice(rest, _PAIRS)):
        yield chunk


def _links(chunk: Sequence[Any], source_size: int, target_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists the possible links of a chunk: every target token with every source token of its line and the empty word.

    Returns:
        The key of each link, and the index of its target token in the chunk.
    """
    keys, tokens, count = [], [], 0
    for source, target in chunk:
        behind = np.append(source.astype("int64"), source_size) * target_size
        keys.append((behind[np.newaxis] + target[:, np.newaxis]).ravel())
        tokens.append(np.repeat(np.arange(count, count + len(target)), len(behind)))
        count += len(target)
    return np.concatenate(keys), np.concatenate(tokens)


# ---- files ----------------------------------------------------------------------------------------------------------


def write_shortlist(translations: Translations, path: str | Path, source: Sequence[str], target: Sequence[str]) -> None:
    """Writes translations as a vocabulary map. The file is compressed if its name ends in .gz.

    Args:
        translations: the content of the file.
        path: the file to write.
        source, target: the tokens of the vocabularies.

    Raises:
        UserError: a token has white space, which the file format does not support; or the file cannot be written.
    """
    lines = []
    for token, ids in [("", translations.always), *((source[of], ids) for of, ids in translations.of.items())]:
        names = [token, *(target[one] for one in ids)]
        if odd := [name for name in names if any(letter.isspace() for letter in name)]:
            raise UserError(f"{path}: tokens of a shortlist must not have white space, got {odd[0]!r}")
        lines.append(f"{token}\t{' '.join(names[1:])}\n")
    content = "".join(lines).encode("utf-8")
    write_whole(path, gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def read_shortlist(path: str | Path, source: Sequence[str], target: Sequence[str]) -> Translations:
    """Reads a vocabulary map. `source` and `target` are the tokens of the vocabularies.

    Raises:
        UserError: the file cannot be read; a line is not valid; or a token is not in the vocabulary.
    """
    source_ids, target_ids = ({token: index for index, token in enumerate(side)} for side in (source, target))
    found, always = {}, None
    for number, raw in enumerate(iterate_lines(path, _LARGEST_FILE), start=1):
        token, tab, rest = raw.decode("utf-8").partition("\t")
        where = f"{path}, line {number}"
        if not tab:
            raise UserError(
                f"{where}: expected a source token, a tab, and target tokens separated by spaces, got no tab"
            )
        if " " in token:
            raise UserError(f"{where}: expected a single source token before the tab, got {token!r}")
        names = rest.split(" ") if rest else []
        if unknown := [name for name in names if name not in target_ids]:
            raise UserError(f"{where}: {unknown[0]!r} is not in the target vocabulary; create the file again")
        ids = [target_ids[name] for name in names]
        if not token:
            always = ids
        elif token not in source_ids:
            raise UserError(f"{where}: {token!r} is not in the source vocabulary; create the file again")
        else:
            found[source_ids[token]] = ids
    return Translations(found, always or [])


def load_shortlist(
    search: SearchSpec, source: Sequence[str], target: Sequence[str], always_allowed: Collection[int] = ()
) -> Shortlist | None:
    """Loads the file that `search.shortlist` names. Returns None if there is none.

    Args:
        search: the options of the search.
        source, target: the tokens of the vocabularies.
        always_allowed: further target ids that are always candidates.

    Raises:
        UserError: as for `read_shortlist`; or fewer tokens are always candidates than the beam needs.
    """
    if not search.shortlist:
        return None
    of, always = read_shortlist(expanded_path(search.shortlist), source, target)
    always = sorted({*range(len(SPECIAL_TOKENS)), *always, *always_allowed})
    # A beam ranks this many continuations at a time, and some of them are special tokens.
    needed = 2 * search.beam + len(SPECIAL_TOKENS)
    if len(target) < needed:
        raise UserError(
            f"search.shortlist: a beam of {search.beam} needs at least {needed} tokens in the target vocabulary, got "
            f"{len(target)}; use this vocabulary without a shortlist"
        )
    if len(always) < needed:
        raise UserError(
            f"{search.shortlist}: a beam of {search.beam} needs at least {needed} target tokens that are always "
            f"candidates, got {len(always)}; create the file again with a larger --frequent"
        )
    return Shortlist(Translations(of, always), len(source), len(target))
