"""Dialogues from files: one on each line, and an example for each turn after the first.

    line        A __eou__ B __eou__ C
    examples    A -> B,  A B -> C        with data.history 1 or more

The source of an example is a text with U+001E between turns; see `features/turns.py`. A line without any turn, or with
a single one, gives no example. That is counted and told, and is no error.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tfseq2seq.data.corpora import TrainingCorpora, held_out, of_lines, pairs_dataset
from tfseq2seq.errors import UserError
from tfseq2seq.features.turns import TURN_END, Context, Turn, examples_of, mark_and_text, parse_line
from tfseq2seq.files import expanded_path, iterate_lines
from tfseq2seq.progress import tracked
from tfseq2seq.spec import DataSpec, DialogueSpec


@dataclass(frozen=True)
class DialogueFile:
    """A file of dialogues that was read once, whole, and has no fault.

    Attributes:
        path: the file.
        separator: what is between the turns of a line.
        history: the number of turns before the one that is answered.
        sizes: the number of examples of each line.
        empty, single: the numbers, from 1, of lines that have no turn and of those that have one.
        silent: the number of turns that are no answer, as they or all turns before them have no text.
    """

    path: str
    separator: str
    history: int
    sizes: Sequence[int]
    empty: Sequence[int] = field(default_factory=list)
    single: Sequence[int] = field(default_factory=list)
    silent: int = 0

    @property
    def count(self) -> int:
        """The number of examples."""
        return sum(self.sizes)

    def told(self, name: str) -> str:
        """Returns a sentence about the file, and what of it is left out. `name` says what it is, as "data.train"."""
        text = f"{name}.dialogues: {sum(map(bool, self.sizes)):,} dialogues with {self.count:,} answers"
        for lines, what in ((self.empty, "without text"), (self.single, "of one turn, which has no answer")):
            if lines:
                text += f"; left out are {len(lines):,} lines {what}, the first is line {lines[0]:,}"
        if self.silent:
            text += f"; left out are {self.silent:,} answers without text, or to nothing"
        return text

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields the context and the answer of each example."""
        for _, turns in self.dialogues():
            for context, answer in examples_of(turns, self.history):
                yield TURN_END.join(context).encode(), answer.encode()

    def dialogues(self) -> Iterator[tuple[int, list[Turn]]]:
        """Yields the numbers and the turns of the lines that give examples."""
        lines = iterate_dialogues(self.path, self.separator)
        return (found for found, size in zip(lines, self.sizes) if size)

    def texts(self, side: str) -> Iterator[bytes]:
        """Yields the text of each example that vocabularies are learned from: of the source, the last turn alone.

        With the turns before it, those in the middle of a dialogue would be counted several times.
        """
        for _, turns in self.dialogues():
            for context, answer in examples_of(turns, self.history):
                yield (mark_and_text(context[-1])[1] if side == "source" else answer).encode()


def iterate_dialogues(path: str, separator: str) -> Iterator[tuple[int, list[Turn]]]:
    """Yields the number of each line, from 1, and its turns.

    Raises:
        UserError: the file cannot be read, or lines begin as JSON lists and are none of turns. The message has the
            first of these lines, and their number; it comes when all lines are read.
    """
    fault, faults = "", 0
    for number, line in enumerate(iterate_lines(path), start=1):
        try:
            yield number, parse_line(line.decode("utf-8"), separator)
        except UserError as error:
            fault, faults = fault or f"{path}, line {number}: {error}", faults + 1
    if faults:
        raise UserError(fault if faults == 1 else f"{fault}; {faults:,} lines of the file have such faults")


def open_dialogues(path: str, spec: DialogueSpec, history: int, name: str) -> DialogueFile:
    """Reads a file once, whole.

    Args:
        path: the file; `~` and `$VARIABLES` are replaced.
        spec: of the source.
        history: the number of turns before the one that is answered.
        name: what it is, for messages, such as "data.train".

    Raises:
        UserError: the file has a fault, or no dialogue in it has two turns.
    """
    path = expanded_path(path)
    sizes, empty, single, silent = [], [], [], 0
    for number, turns in tracked(iterate_dialogues(path, spec.separator), f"checking {name}.dialogues"):
        sizes.append(len(examples_of(turns, history)))
        if not any(turn.text.strip() for turn in turns):
            empty.append(number)
        elif len(turns) == 1:
            single.append(number)
        else:
            silent += len(turns) - 1 - sizes[-1]
    found = DialogueFile(path, spec.separator, history, sizes, empty, single, silent)
    if not found.count:
        raise UserError(
            f"{path}: must have a dialogue of at least two turns; turns are separated by {spec.separator!r} "
            "(source.separator), or are a JSON list"
        )
    return found


def dialogue_corpora(data: DataSpec, source: DialogueSpec, seed: int) -> tuple[TrainingCorpora, list[str]]:
    """Checks and opens what a recipe trains on. Without validation files, whole dialogues serve as them.

    Args:
        data: where the corpora are. At least `data.holdout` examples are held out.
        source: how turns are separated.
        seed: draws the dialogues held out; equal seeds draw the same ones from the same corpus.

    Returns:
        The corpora, and sentences about them.

    Raises:
        UserError: a file is missing or has a fault, or nothing is left to train or to validate with.
    """

    def opened(name: str, path: str) -> DialogueFile:
        if not path:
            raise UserError(f"{name}.dialogues: no file is given; a model of dialogues learns from one")
        return open_dialogues(path, source, data.history, name)

    train = opened("data.train", data.train.dialogues)
    examples = pairs_dataset(train.pairs)
    if data.validation.given:
        validation = opened("data.validation", data.validation.dialogues)
        others = pairs_dataset(validation.pairs), validation.count
        found = of_lines(examples, train.count, *others, frozenset(), data, train.texts)
        return found, [train.told("data.train"), validation.told("data.validation")]
    if not data.holdout:
        raise UserError(
            "data.validation.dialogues: no file is given; give one, or let data.holdout take dialogues out of the "
            "training corpus"
        )
    held = _held_dialogues(train.sizes, data.holdout, seed)
    told = f"{train.told('data.train')}; of these answers {len(held):,}, of whole dialogues, are held out"
    return held_out(examples, train.count, held, data, train.texts), [told]


def _held_dialogues(sizes: Sequence[int], holdout: int, seed: int) -> frozenset[int]:
    """Returns the places of the examples of dialogues drawn at random, at least `holdout` of them.

    Examples of one dialogue share turns, so that one half of it must not be learned and the other be validated with.
    """
    starts = list(itertools.accumulate(sizes, initial=0))
    order = [number for number, size in enumerate(sizes) if size]
    random.Random(f"holdout {seed}").shuffle(order)
    held: list[int] = []
    while order and len(held) < holdout:
        number = order.pop()
        held += range(starts[number], starts[number] + sizes[number])
    if not order:
        raise UserError(f"data.holdout: {holdout} of {starts[-1]} answers leave no dialogue to train on")
    return frozenset(held)


def contexts_and_answers(path: str, spec: DialogueSpec, history: int) -> tuple[list[Context], list[str], list[int]]:
    """Returns the context, the answer and the number of the line of each example of a file, and checks it.

    Raises:
        UserError: the file has a fault, or no dialogue in it has two turns.
    """
    contexts, answers, lines = [], [], []
    for number, turns in open_dialogues(path, spec, history, "dialogues").dialogues():
        for context, answer in examples_of(turns, history):
            contexts.append(context)
            answers.append(answer)
            lines.append(number)
    return contexts, answers, lines
