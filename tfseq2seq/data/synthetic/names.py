"""Generated sentences with names that no vocabulary has, to be copied.

    Vosmira gave the key to Tobrun on Monday    Tobrun got the key from Vosmira on Monday
    陆知远 和 秦若川 在 周一 见面                  周一 秦若川 见 了 陆知远

Half of the sentences are English and half Chinese, with spaces between words. A target says what its source says the
other way round. Each name is one word, and no name is in two splits. A model of words therefore meets only unknown
names in validation and test, and can write them only if it copies.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tfseq2seq.data.synthetic.splits import check_sizes, write_splits
from tfseq2seq.errors import UserError


class Sentences(NamedTuple):
    """The sentences of a language.

    Attributes:
        patterns: pairs of source and target with {a} and {b} for names, and slots that `words` fills.
        words: the words of each slot.
        name: draws a name.
    """

    patterns: tuple[tuple[str, str], ...]
    words: dict[str, tuple[str, ...]]
    name: Callable[[random.Random], str]


# The most pairs in a split whose names the others do not have. There are about 100,000 Chinese names.
_MOST = 10_000
_ONSETS = ("b", "br", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ia", "eo")
_CODAS = ("", "", "", "n", "r", "s", "l")
_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡"
_GIVEN = (
    "文明志远若川知行子涵雨桐嘉怡思源浩然清扬云舒景行天佑书瑶梓萱安宁博雅凯旋晨曦少卿永康伯言仲谋长风万里如意春华秋实"
)


def _english_name(generator: random.Random) -> str:
    count = generator.randint(2, 3)
    syllables = (generator.choice(_ONSETS) + generator.choice(_VOWELS) + generator.choice(_CODAS) for _ in range(count))
    return "".join(syllables).capitalize()


def _chinese_name(generator: random.Random) -> str:
    return generator.choice(_SURNAMES) + "".join(generator.choice(_GIVEN) for _ in range(generator.randint(1, 2)))


ENGLISH = Sentences(
    patterns=(
        ("{a} gave the {thing} to {b} on {day}", "{b} got the {thing} from {a} on {day}"),
        ("please call {a} before {b} arrives", "{b} arrives after the call to {a}"),
        ("{a} works for {b} in the {place}", "{b} is the boss of {a} in the {place}"),
        ("did {a} see {b} at the {place}", "was {b} seen by {a} at the {place}"),
        ("{a} and {b} met on {day}", "on {day} {b} met {a}"),
        ("the {thing} in the {place} belongs to {a}", "{a} owns the {thing} in the {place}"),
    ),
    words={
        "thing": ("book", "key", "letter", "phone", "ticket", "camera", "map", "guitar"),
        "place": ("library", "hotel", "station", "garden", "museum", "office", "harbor"),
        "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    },
    name=_english_name,
)
CHINESE = Sentences(
    patterns=(
        ("{a} 在 {day} 把 {thing} 给 了 {b}", "{b} 在 {day} 收到 {a} 的 {thing}"),
        ("请 在 {b} 到 之前 打 电话 给 {a}", "打 电话 给 {a} 之后 {b} 到"),
        ("{a} 在 {place} 为 {b} 工作", "{b} 是 {a} 在 {place} 的 老板"),
        ("{a} 在 {place} 看见 {b} 了 吗", "{b} 在 {place} 被 {a} 看见 了 吗"),
        ("{a} 和 {b} 在 {day} 见面", "{day} {b} 见 了 {a}"),
        ("{place} 的 {thing} 是 {a} 的", "{a} 有 {place} 的 {thing}"),
    ),
    words={
        "thing": ("书", "钥匙", "信", "手机", "票", "相机", "地图", "吉他"),
        "place": ("图书馆", "酒店", "车站", "花园", "博物馆", "办公室", "码头"),
        "day": ("周一", "周二", "周三", "周四", "周五", "周六", "周日"),
    },
    name=_chinese_name,
)


def generate_names(count: int, seed: int, taken: set[str]) -> list[tuple[str, str]]:
    """Returns `count` pairs of source and target, half of them English and half Chinese, in random order.

    Equal arguments give equal pairs.

    Args:
        count: the number of pairs.
        seed: the seed of sentences and names.
        taken: names that are not used. All names of the pairs are added to it.
    """
    # The seed is a string, because Python's generator ignores the sign of an integer seed.
    generator = random.Random(str(seed))
    before, own = set(taken), set()

    def names(language: Sentences) -> Iterator[str]:
        while True:
            name = language.name(generator)
            if name not in before:
                own.add(name)
                yield name

    drawn = [(language, names(language)) for language in (ENGLISH, CHINESE)]
    pairs = []
    for index in range(count):
        language, fresh = drawn[index % 2]
        source, target = generator.choice(language.patterns)
        first = next(fresh)
        second = next(name for name in fresh if name != first)
        slots = {slot: generator.choice(words) for slot, words in language.words.items()}
        pairs.append((source.format(a=first, b=second, **slots), target.format(a=first, b=second, **slots)))
    taken |= own
    generator.shuffle(pairs)
    return pairs


def write_names(
    folder: str | os.PathLike[str], train: int = 20_000, validation: int = 500, test: int = 1_000, seed: int = 1
) -> dict[str, Path]:
    """Writes three splits that have no name in common, as UTF-8 text files with one line per example.

    Existing files are replaced.

    Args:
        folder: the folder to write to.
        train, validation, test: the number of pairs of each split.
        seed: the seed of the pairs.

    Returns:
        The path of each file by its name: train.source, train.target, and the same for validation and test.

    Raises:
        UserError: a split would be empty or too large, or `folder` cannot be written.
    """
    counts = {"test": test, "validation": validation, "train": train}
    check_sizes(counts)
    for split in ("validation", "test"):
        if counts[split] > _MOST:
            raise UserError(
                f"{split}: must have at most {_MOST:,} pairs, as others get no name of it, got {counts[split]}"
            )
    taken: set[str] = set()
    splits = {split: generate_names(count, seed + place, taken) for place, (split, count) in enumerate(counts.items())}
    return write_splits(folder, splits)
