"""Shortlists: of each source only the target tokens that may translate it are candidates, so that the output layer
computes some hundreds of logits instead of all (Jean et al. 2015, L'Hostis et al. 2016).

Which ones is learned from pairs of lines by IBM model 1 (Brown et al. 1993) and kept in a text file in the form of
CTranslate2's vocabulary maps, a line for each source token:

    source token <tab> target tokens, a space between

A line whose source token is empty has the target tokens that may always come.

Log-probabilities of outputs found so are those among the candidates of their source, somewhat above those among all
tokens, which `score` gives with or without a shortlist.
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
from tfseq2seq.search.beam import StepFunction
from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.fusion import Fusion, Scorer
from tfseq2seq.spec import PAD, SPECIAL_TOKENS, SearchSpec

# Pairs of lines whose possible links are in memory at a time.
_PAIRS = 20_000


class Translations(NamedTuple):
    """Target ids by source id, likeliest first, and those that may always come."""

    of: dict[int, list[int]]
    always: list[int]


# ---- in the graph ---------------------------------------------------------------------------------------------------


class Candidates(NamedTuple):
    """What may come in the outputs of a batch.

    ids [C] int32, ascending, special tokens first; barred [B, 1, C] float32, 0 for those of the example itself and a
    large negative number for those of others in the batch, so that no example's output depends on its neighbors;
    places [V] int32, where among `ids` a token is.
    """

    ids: tf.Tensor
    barred: tf.Tensor
    indices: tf.Tensor


class Shortlist(tf.Module):
    """Finds the candidates for source ids.

    Args:
        translations: special tokens among those that may always come.
        source_size: source tokens in all.
        target_size: target tokens in all.
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
        """What it was made of."""
        rows = enumerate(self.table.numpy().tolist())
        of = {source: targets for source, row in rows if (targets := [one for one in row if one != PAD])}
        return Translations(of, np.flatnonzero(self.always.numpy()).tolist())

    def __call__(self, source: Any, prefix: Any = None) -> Candidates:
        """Of source ids [B, S] and, where outputs begin with them, of prefix ids [B, P]."""
        batch = tf.shape(source)[0]
        chosen = tf.reshape(tf.gather(self.table, source), tf.stack([batch, -1]))
        if prefix is not None:
            chosen = tf.concat([chosen, prefix], axis=1)
        rows = tf.broadcast_to(tf.expand_dims(tf.range(batch), 1), tf.shape(chosen))
        indices = tf.reshape(tf.stack([rows, chosen], axis=2), [-1, 2])
        counts = tf.scatter_nd(indices, tf.ones_like(indices[:, 0]), tf.stack([batch, self.size]))
        own = counts + self.always > 0
        anyone = tf.reduce_any(own, axis=0)
        ids = tf.cast(tf.reshape(tf.where(anyone), [-1]), tf.int32)
        barred = tf.where(tf.gather(own, ids, axis=1), 0.0, FORBIDDEN)
        return Candidates(ids, tf.expand_dims(barred, 1), tf.cumsum(tf.cast(anyone, tf.int32)) - 1)


def narrowed_step(step: StepFunction, candidates: Candidates) -> StepFunction:
    """A model's step over places among the candidates instead of ids, for search; `fixed` must be of
    `model.start(..., candidates.ids)`."""

    def narrowed(ids: Any, index: Any, visible: Any, fixed: Any, cache: Any) -> tuple[Any, Any, Any]:
        logits, cache, attention = step(tf.gather(candidates.ids, ids), index, visible, fixed, cache)
        return tf.cast(logits, tf.float32) + candidates.barred, cache, attention

    return narrowed


class _Narrowed:
    """A scorer over places among the candidates."""

    def __init__(self, scorer: Scorer, candidates: Candidates):
        self.scorer, self.candidates = scorer, candidates

    def start(self, batch: Any, beam: int) -> Any:
        return self.scorer.start(batch, beam)

    def scores(self, states: Any) -> tf.Tensor:
        return tf.gather(self.scorer.scores(states), self.candidates.ids, axis=2)

    def advance(self, states: Any, tokens: tf.Tensor) -> Any:
        return self.scorer.advance(states, tf.gather(self.candidates.ids, tokens))


def narrowed_fusion(fusion: Fusion, candidates: Candidates) -> Fusion:
    """Scorers beside a narrowed model."""
    return Fusion([(_Narrowed(scorer, candidates), weight) for scorer, weight in fusion.scorers])


# ---- learning -------------------------------------------------------------------------------------------------------


def learn_translations(
    pairs: Iterable[tuple[Sequence[int], Sequence[int]]],
    source_size: int,
    target_size: int,
    each: int,
    frequent: int,
    iterations: int = 5,
) -> Translations:
    """The likeliest translations of each token in pairs of source and target ids, both without <eos>.

    Args:
        pairs: of lines that translate each other.
        source_size: source tokens in all.
        target_size: target tokens in all.
        each: target tokens for a source token, at most.
        frequent: of the most frequent target tokens, how many may always come, beside the special tokens.
        iterations: of expectation maximization.
    """
    chunks = [[(np.array(one, "int32"), np.array(other, "int32")) for one, other in chunk] for chunk in _chunked(pairs)]
    # A key is a source token, or nothing, and a target token it may stand behind.
    keys = np.zeros(0, "int64")
    for chunk in chunks:
        keys = np.union1d(keys, _links(chunk, source_size, target_size)[0])
    sources, targets = np.divmod(keys, target_size)
    chances = np.ones(len(keys))
    for _ in range(iterations):
        counts = np.zeros(len(keys))
        for chunk in chunks:
            links, tokens = _links(chunk, source_size, target_size)
            indices = np.searchsorted(keys, links)
            shares = chances[indices]
            shares /= np.bincount(tokens, shares)[tokens]
            counts += np.bincount(indices, shares, len(keys))
        chances = counts / np.bincount(sources, counts, source_size + 1)[sources]
    order = np.lexsort((targets, -chances, sources))
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
    """Of every target token with every source token of its line, and with none of them: the key, and which target token
    of the chunk it is."""
    keys, tokens, count = [], [], 0
    for source, target in chunk:
        behind = np.append(source.astype("int64"), source_size) * target_size
        keys.append((behind[np.newaxis] + target[:, np.newaxis]).ravel())
        tokens.append(np.repeat(np.arange(count, count + len(target)), len(behind)))
        count += len(target)
    return np.concatenate(keys), np.concatenate(tokens)


# ---- files ----------------------------------------------------------------------------------------------------------


def write_shortlist(translations: Translations, path: str | Path, source: Sequence[str], target: Sequence[str]) -> None:
    """Writes translations as a vocabulary map, compressed where the name ends in .gz.

    Args:
        translations: to write.
        path: of the file.
        source, target: the vocabularies' tokens.

    Raises:
        UserError: a token holds white space, which such a file has no way to write; or the file cannot be written.
    """
    lines = []
    for token, ids in [("", translations.always), *((source[of], ids) for of, ids in translations.of.items())]:
        names = [token, *(target[one] for one in ids)]
        if odd := [name for name in names if any(letter.isspace() for letter in name)]:
            raise UserError(f"a shortlist has no way to write the token {odd[0]!r}, which holds white space")
        lines.append(f"{token}\t{' '.join(names[1:])}\n")
    content = "".join(lines).encode("utf-8")
    write_whole(path, gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def read_shortlist(path: str | Path, source: Sequence[str], target: Sequence[str]) -> Translations:
    """Reads a vocabulary map; `source` and `target` are the vocabularies' tokens.

    Raises:
        UserError: the file cannot be read, or a line is not of such a file or of these vocabularies.
    """
    source_ids, target_ids = ({token: index for index, token in enumerate(side)} for side in (source, target))
    found, always = {}, None
    for number, raw in enumerate(iterate_lines(path), start=1):
        token, tab, rest = raw.decode("utf-8").partition("\t")
        where = f"{path}, line {number}"
        if not tab:
            raise UserError(f"{where}: no tab; a line is a source token, a tab, and target tokens with spaces between")
        if " " in token:
            raise UserError(f"{where}: {token!r} is several source tokens; a shortlist goes by single ones")
        names = rest.split(" ") if rest else []
        if unknown := [name for name in names if name not in target_ids]:
            raise UserError(f"{where}: {unknown[0]!r} is no token of the target vocabulary; make the file anew")
        ids = [target_ids[name] for name in names]
        if not token:
            always = ids
        elif token not in source_ids:
            raise UserError(f"{where}: {token!r} is no token of the source vocabulary; make the file anew")
        else:
            found[source_ids[token]] = ids
    return Translations(found, always or [])


def load_shortlist(
    search: SearchSpec, source: Sequence[str], target: Sequence[str], wanted: Collection[int] = ()
) -> Shortlist | None:
    """What `search.shortlist` names, or None; `wanted` ids may always come.

    Raises:
        UserError: as `read_shortlist`; or too few tokens may always come for the beam.
    """
    if not search.shortlist:
        return None
    of, always = read_shortlist(expanded_path(search.shortlist), source, target)
    always = sorted({*range(len(SPECIAL_TOKENS)), *always, *wanted})
    # So many continuations a beam ranks at once, some of which are special tokens.
    needed = 2 * search.beam + len(SPECIAL_TOKENS)
    if len(target) < needed:
        raise UserError(f"search.shortlist: the target vocabulary has {len(target)} tokens; that is short as it is")
    if len(always) < needed:
        raise UserError(
            f"{search.shortlist}: {len(always)} target tokens may always come, and a beam of {search.beam} needs "
            f"{needed}; make the file anew with a larger --frequent"
        )
    return Shortlist(Translations(of, always), len(source), len(target))
