"""Generated text normalization data for the quick start: written forms with their spoken forms.

    on Nov 21, 2026    on november twenty-first twenty twenty-six
    costs £3.99        costs three pounds and ninety-nine pence
    下午2:05开会        下午两点零五分开会

The spoken form is a function of the written form:

- An input is Chinese if it has a Chinese character or "¥", and English otherwise: "14:35" is English, "14:35开会" is
  Chinese.
- A date in digits begins with the year ("2026-11-21"), or begins with the day and ends with the year ("21/11/2026").
- In English, four digits without a unit are a year ("in 2026"). There are no bare numbers.

Sources have at most 30 characters, and targets have at most 14 words or Chinese characters. `spoken_forms` converts
numbers to words, and `written_forms` lists the forms.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from tfseq2seq.data.synthetic.splits import check_sizes, write_splits
from tfseq2seq.data.synthetic.written_forms import Form, forms
from tfseq2seq.errors import UserError


def most_pairs() -> int:
    """Returns the number of different pairs."""
    return sum(form.size for form in forms())


def generate_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Returns `count` pairs of written source and spoken target in random order. All sources are different.

    All kinds of written forms have equal shares, apart from small integer weights, if they have enough values. Equal
    `count` and `seed` give equal pairs.

    Raises:
        UserError: `count` is below 0 or above `most_pairs()`.
    """
    if not 0 <= count <= most_pairs():
        raise UserError(f"the number of different pairs: must be from 0 to {most_pairs()}, got {count}")
    # The seed is a string, because Python's generator ignores the sign of an integer seed.
    generator = random.Random(str(seed))
    pairs = []
    for form, share in zip(forms(), shares(count, forms(), generator), strict=True):
        pairs += [form.pair(index) for index in generator.sample(range(form.size), share)]
    generator.shuffle(pairs)
    return pairs


def shares(count: int, available: Sequence[Form], generator: random.Random) -> list[int]:
    """Returns how many of `count` pairs each form provides: its weight times a common level, but at most its size.

    The remaining pairs below the next level go to random forms.

    Args:
        count: the total number of pairs.
        available: the forms, with at least `count` pairs in total.
        generator: selects the forms of the remaining pairs.
    """

    def allotted(level: int) -> list[int]:
        return [min(form.size, form.weight * level) for form in available]

    # The highest level with at most `count` pairs. It is at most `count`, because weights are at least 1.
    level = bisect_right(range(count + 1), count, key=lambda level: sum(allotted(level))) - 1
    result, next_level = allotted(level), allotted(level + 1)
    remaining = count - sum(result)
    for index in generator.sample(range(len(available)), len(available)):
        extra = min(remaining, next_level[index] - result[index])
        result[index] += extra
        remaining -= extra
    return result


def write_generated(
    folder: str | os.PathLike[str], train: int = 30_000, validation: int = 500, test: int = 1_000, seed: int = 1
) -> dict[str, Path]:
    """Writes three splits that have no source in common, as UTF-8 text files with one line per example.

    Existing files are replaced.

    Args:
        folder: the folder to write to.
        train, validation, test: the number of pairs of each split.
        seed: the seed of the pairs.

    Returns:
        The path of each file by its name: train.source, train.target, and the same for validation and test.

    Raises:
        UserError: a split would be empty, there are not enough different pairs, or `folder` cannot be written.
    """
    counts = {"train": train, "validation": validation, "test": test}
    check_sizes(counts)
    pairs = generate_pairs(sum(counts.values()), seed)
    splits, start = {}, 0
    for split, count in counts.items():
        splits[split] = pairs[start : start + count]
        start += count
    return write_splits(folder, splits)
