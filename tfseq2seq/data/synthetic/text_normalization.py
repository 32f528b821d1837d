"""Generated text normalization data, for the quick start: written forms and how they are said.

    on Nov 21, 2026    on november twenty-first twenty twenty-six
    costs £3.99        costs three pounds and ninety-nine pence
    下午2:05开会        下 午 两 点 零 五 分 开 会

What is said is a function of what is written:

- An input is Chinese if it holds a Chinese character or "¥", and English otherwise: "14:35" is English, "14:35开会"
  Chinese.
- A date in figures has its year first ("2026-11-21"), or last and then its day first ("21/11/2026").
- In English, four figures without a unit are a year ("in 2026"); bare numbers are not made.

Chinese targets have a space between characters, so that a vocabulary of words stays small in both languages.
Sources have at most 30 characters, targets at most 14 words. `spoken` says the numbers, `written` lists the forms.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from tfseq2seq.data.synthetic.written_forms import Form, forms
from tfseq2seq.errors import UserError
from tfseq2seq.files import generated_folder


def most_pairs() -> int:
    """How many different pairs there are."""
    return sum(form.size for form in forms())


def generate_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` pairs of written source and spoken target, in random order; no source comes twice.

    The kinds of written form have even shares, up to small integer weights, as far as they have enough values. Equal
    `count` and `seed` give equal pairs.

    Raises:
        UserError: `count` is negative, or above `most_pairs()`.
    """
    if not 0 <= count <= most_pairs():
        raise UserError(f"cannot generate {count} different pairs: ask for 0 to {most_pairs()}")
    # From the text, as Python's generator ignores the sign of an integer seed.
    generator = random.Random(str(seed))
    pairs = []
    for form, share in zip(forms(), shares(count, forms(), generator), strict=True):
        pairs += [form.pair(index) for index in generator.sample(range(form.size), share)]
    generator.shuffle(pairs)
    return pairs


def shares(count: int, among: Sequence[Form], generator: random.Random) -> list[int]:
    """How many of `count` pairs each form gives: its weight times a common level, or all that it has if that is less.

    What is left below the next level goes to forms drawn at random. `among` has at least `count` pairs in all.
    """

    def given(level: int) -> list[int]:
        return [min(form.size, form.weight * level) for form in among]

    # The highest level that gives no more than `count`; level `count` is high enough, as weights are at least 1.
    level = bisect_right(range(count + 1), count, key=lambda level: sum(given(level))) - 1
    result, more = given(level), given(level + 1)
    left = count - sum(result)
    for index in generator.sample(range(len(among)), len(among)):
        extra = min(left, more[index] - result[index])
        result[index] += extra
        left -= extra
    return result


def write_generated(
    folder: str | os.PathLike[str], train: int = 30_000, validation: int = 500, test: int = 1_000, seed: int = 1
) -> dict[str, Path]:
    """Writes three splits that have no source in common, as UTF-8 line files; files of the same names are replaced.

    Returns the path of each file by its name: train.source, train.target, and likewise for validation and test.

    Raises:
        UserError: a split would be empty, there are not so many different pairs, or `folder` cannot be written to.
    """
    counts = {"train": train, "validation": validation, "test": test}
    for split, count in counts.items():
        if count < 1:
            raise UserError(f"cannot generate {count} {split} pairs: ask for at least 1")
    pairs = generate_pairs(sum(counts.values()), seed)
    folder = Path(folder)
    paths, start = {}, 0
    with generated_folder(folder) as aside:
        for split, count in counts.items():
            sources, targets = zip(*pairs[start : start + count], strict=True)
            start += count
            for name, lines in ((f"{split}.source", sources), (f"{split}.target", targets)):
                text = "".join(f"{line}\n" for line in lines)
                (aside / name).write_text(text, encoding="utf-8", newline="\n")
                paths[name] = folder / name
        for name, path in paths.items():
            os.replace(aside / name, path)
    return paths
