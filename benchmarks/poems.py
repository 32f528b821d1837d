"""Poems of a language model: their form, their rhyme, what is copied, all beside the poems of people.

    python benchmarks/poems.py prepare $TFSEQ2SEQ_DATA/poems_zh data/poems
    POEMS=data/poems tfseq2seq train recipes/poems.yaml --run runs/poems
    tfseq2seq generate --run runs/poems --input data/poems/test.titles > titles.txt
    tfseq2seq generate --run runs/poems --input data/poems/test.lines > lines.txt
    python benchmarks/poems.py score data/poems titles.txt lines.txt
    tfseq2seq evaluate --run runs/poems --reference data/poems/test.txt --metric perplexity_per_character

A line of the data is a title, ｜ and a poem. Every second poem of the training has no title before ｜, so that the
model also continues a first line. The prompts are the titles, or the first lines, of the test poems.

`score` needs pypinyin (`pip install pypinyin`). Its readings are those of today: a poem of the Tang often rhymes no
longer. The share of the test poems that rhyme by the same table is therefore the goal, not 100 %.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_MARK = "｜"
# Four lines of seven characters, each with a punctuation mark.
_FORM = re.compile(r"(?:[^，。？！；、<>｜]{7}[，。？！；、]){4}")
# Finals that rhyme: what stands before the main vowel does not count.
_MEDIAL = re.compile(r"^(?:i(?=[aeo])|u(?=[aeo])|v(?=[aen])|ü(?=[aen]))")
_SAME = {
    "ui": "ei",
    "iu": "ou",
    "un": "en",
    "in": "en",
    "vn": "en",
    "ing": "eng",
    "ong": "eng",
    "ueng": "eng",
    "o": "e",
}


def prepare(data: Path, output: Path) -> None:
    """Writes the training, validation and test lines, and the prompts."""
    output.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev", "test"):
        titles, poems = (_lines(data / f"{split}.{side}") for side in ("title", "poem"))
        with_title = [f"{title}{_MARK}{poem}" for title, poem in zip(titles, poems, strict=True)]
        if split == "train":
            chosen = [line if index % 2 else f"{_MARK}{poems[index]}" for index, line in enumerate(with_title)]
        else:
            chosen = with_title
        _write(output / f"{split}.txt", chosen)
        if split == "test":
            _write(output / "test.titles", [f"{title}{_MARK}" for title in titles])
            _write(output / "test.lines", [f"{_MARK}{poem[:8]}" for poem in poems])


def score(data: Path, outputs: Sequence[Path]) -> None:
    """Prints the share of poems with the form and with rhyme, and what stands in the training data."""
    known = {_poem(line) for line in _lines(data / "train.txt")}
    known_lines = {line for poem in known for line in _halves(poem)}
    given = {str(data / "test.txt"): _lines(data / "test.txt"), **{str(path): _lines(path) for path in outputs}}
    print("| poems | count | 4 x 7 | rhyme of the even lines | repeated poems | lines of training poems |")
    print("|---|---|---|---|---|---|")
    for name, lines in given.items():
        poems = [_poem(line) for line in lines]
        whole = [poem for poem in poems if _FORM.fullmatch(poem)]
        # The first line may be the prompt.
        written = [line for poem in whole for line in _halves(poem)[1:]]
        print(
            f"| {name} | {len(poems):,} | {_share(len(whole), len(poems))} | "
            f"{_share(sum(map(rhymes, whole)), len(whole))} | {sum(poem in known for poem in poems)} | "
            f"{sum(line in known_lines for line in written)} of {len(written):,} |"
        )


def rhymes(poem: str) -> bool:
    """Whether the even lines of a poem end on characters that rhyme in one of their readings."""
    second, fourth = (_finals(line[-1]) for line in _halves(poem)[1::2])
    return bool(second & fourth)


def _finals(character: str) -> set[str]:
    from pypinyin import Style, pinyin

    (readings,) = pinyin(character, style=Style.FINALS, heteronym=True, strict=True)
    found = {_SAME.get(final, final) for final in readings}
    return {_MEDIAL.sub("", final) for final in found}


def _poem(line: str) -> str:
    return line.split(_MARK, 1)[-1]


def _halves(poem: str) -> list[str]:
    return [line for line in re.split("[，。？！；、]", poem) if line]


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else "-"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("prepare", help="write the lines of the data")
    one.add_argument("data", type=Path, help="folder with SPLIT.title and SPLIT.poem")
    one.add_argument("output", type=Path, help="folder to write")
    other = commands.add_parser("score", help="score outputs")
    other.add_argument("data", type=Path, help="the folder that prepare has written")
    other.add_argument("outputs", type=Path, nargs="*", help="files of `tfseq2seq generate`")
    given = parser.parse_args()
    if given.command == "prepare":
        prepare(given.data, given.output)
    else:
        score(given.data, given.outputs)


if __name__ == "__main__":
    main()
