"""A recipe that suits a corpus of text pairs, with the reason for each choice.

The rules come from our own recipes and from what is usual for translation. They give a start that trains at once; the
best settings for a corpus are found by trying.
"""

from __future__ import annotations

import collections
import unicodedata
from typing import NamedTuple

from tfseq2seq.errors import UserError
from tfseq2seq.files import check_parallel, iterate_lines
from tfseq2seq.presets import transformer
from tfseq2seq.spec import (
    CorpusSpec,
    DataSpec,
    OptimizerSpec,
    Recipe,
    ScheduleSpec,
    SearchSpec,
    TextSpec,
    TrainingSpec,
)

# Below these numbers of pairs: width, layers, heads, inner width, dropout.
_SIZES = (
    (10_000, (128, 2, 4, 512, 0.3)),
    (200_000, (256, 3, 4, 1024, 0.3)),
    (2_000_000, (256, 6, 4, 1024, 0.1)),
)
_LARGEST = (512, 6, 8, 2048, 0.1)
# A token should be seen about this often.
_SEEN = 50
_LARGEST_VOCABULARY = 16_000
_FEW_SYMBOLS = 300
# Each pair is seen about this often, if training does not stop early.
_EPOCHS = 40


class _Side(NamedTuple):
    """What the lines of a side are like.

    Attributes:
        lines: the number of lines.
        characters: the number of characters.
        distinct: the number of distinct characters that come at least twice.
        words: the number of words: between spaces, with two Chinese, Japanese or Korean characters as one.
        longest: the number of words that 99 % of the lines do not exceed.
        symbols: the number of distinct words, if they are few, as phonemes are; otherwise 0.
        spelled: whether lines are single words, which are read by their characters.
    """

    lines: int
    characters: int
    distinct: int
    words: float
    longest: float
    symbols: int
    spelled: bool


def propose_recipe(source: str, target: str, name: str) -> tuple[Recipe, list[str]]:
    """Returns a recipe for two parallel files of text, and a sentence for each choice.

    Args:
        source: the file of source lines.
        target: the file of target lines.
        name: the name of the recipe.

    Raises:
        UserError: a file cannot be read, the files have different numbers of lines, or there are too few pairs.
    """
    sides = {"source": _look(source), "target": _look(target)}
    pairs = sides["source"].lines
    check_parallel(source, pairs, target, sides["target"].lines)
    if pairs < 20:
        raise UserError(f"{source}: must have at least 20 pairs to train on, got {pairs}")
    reasons, texts, lengths = [], {}, {}
    for side, found in sides.items():
        texts[side], tokens, reason = _text(found)
        reasons.append(f"{side}: {reason}")
        lengths[f"max_{side}_length"] = max(128, _round(1.5 * found.longest * tokens / max(found.words, 1), 32))
    if max(lengths.values()) > 128:
        reasons.append(
            "lengths: 99 % of the lines have at most "
            + " and ".join(f"{found.longest:,.0f} {side} words" for side, found in sides.items())
        )
    width, layers, heads, ffn, dropout = next((size for limit, size in _SIZES if pairs < limit), _LARGEST)
    reasons.append(
        f"model: {pairs:,} pairs suit width {width} and {layers} layers; dropout {dropout} because "
        + ("few pairs are soon learned by heart" if dropout > 0.1 else "there are many pairs")
    )
    tokens = max(found.words for found in sides.values()) * 1.3
    batch_tokens = 4096 if pairs >= 200_000 else 2048
    epoch = max(tokens / batch_tokens, 1.0)
    steps = min(max(_round(_EPOCHS * epoch, 500), 1000), 100_000)
    every = max(_round(steps / 20, 50), 50)
    warmup = min(4000, max(steps // 10, 100))
    reasons.append(
        f"steps: an epoch has about {epoch:,.0f} batches of {batch_tokens:,} tokens, so {steps:,} steps are "
        f"{steps / epoch:,.0f} epochs; training stops before if 5 evaluations in a row bring nothing"
    )
    holdout = min(2000, max(pairs // 50, 5))
    reasons.append(f"holdout: {holdout:,} random pairs are for validation; set data.validation if you have files of it")
    data = DataSpec(
        train=CorpusSpec(source=source, target=target),
        holdout=holdout,
        batch_tokens=batch_tokens,
        max_source_length=lengths["max_source_length"],
        max_target_length=lengths["max_target_length"],
    )
    recipe = Recipe(
        name=name,
        data=data,
        source=texts["source"],
        target=texts["target"],
        model=transformer(width, layers, heads, ffn, dropout),
        training=TrainingSpec(
            steps=steps,
            evaluate_every=every,
            patience=5,
            optimizer=OptimizerSpec(learning_rate=0.001 if width < 512 else 0.0007),
            schedule=ScheduleSpec(name="inverse_sqrt", warmup=warmup),
        ),
        search=SearchSpec(length_penalty="average", alpha=1.0, max_length=max(128, lengths["max_target_length"])),
    )
    return recipe, reasons


def _look(path: str) -> _Side:
    counts: collections.Counter[str] = collections.Counter()
    lengths: collections.Counter[int] = collections.Counter()
    symbols: set[str] = set()
    lines = 0
    for line in iterate_lines(path):
        text = unicodedata.normalize("NFC", line.decode("utf-8")).strip()
        lines += 1
        counts.update(text)
        dense = sum(map(_is_dense, text)) if not text.isascii() else 0
        if len(symbols) <= _FEW_SYMBOLS:
            symbols.update(text.split())
        spaced = sum(1 for word in text.split() if not all(map(_is_dense, word)))
        lengths[round(spaced + dense / 2)] += 1
    characters = sum(counts.values())
    words = sum(length * count for length, count in lengths.items())
    ordered = sorted(lengths.elements())
    longest = ordered[int(0.99 * (lines - 1))]
    distinct = sum(1 for count in counts.values() if count > 1)
    few = len(symbols) if len(symbols) <= _FEW_SYMBOLS and words >= _SEEN * len(symbols) else 0
    return _Side(lines, characters, distinct, float(words), float(longest), few, words <= 1.05 * lines)


def _is_dense(letter: str) -> bool:
    """Whether a character is of a script that writes a word in one or two: Chinese, Japanese, Korean."""
    code = ord(letter)
    return (
        0x3040 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0xAC00 <= code <= 0xD7A3 or 0x20000 <= code <= 0x3FFFF
    )


def _text(side: _Side) -> tuple[TextSpec, float, str]:
    """The settings of a side, its expected number of tokens, and why."""
    if side.symbols:
        return TextSpec(scheme="words"), side.words, f"there are only {side.symbols} words, so each is a token"
    if side.spelled:
        reason = f"lines are single words, so tokens are their characters ({side.distinct:,} different ones)"
        return TextSpec(scheme="characters"), float(side.characters), reason
    # Room for each character, so that none becomes <unk>, and for pieces of words that are seen often enough.
    size = _round(min(max(side.words / _SEEN, 1.3 * side.distinct + 100), _LARGEST_VOCABULARY), 100)
    reason = f"{side.words:,.0f} words of {side.distinct:,} characters suit a vocabulary of {size:,} tokens"
    return TextSpec(scheme="unigram", vocabulary_size=size), 1.3 * side.words, reason


def _round(number: float, unit: int) -> int:
    return max(unit, unit * round(number / unit))
