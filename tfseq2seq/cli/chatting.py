"""The command for a conversation with a model of dialogues."""

from __future__ import annotations

import collections
import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from tfseq2seq.cli.exit import USAGE_ERROR, one_line, tell, warn
from tfseq2seq.cli.inputs import standard_input, standard_lines
from tfseq2seq.cli.options import run_options
from tfseq2seq.cli.runs import open_predictor, open_runs, require
from tfseq2seq.errors import UserError
from tfseq2seq.spec import NEEDS

if TYPE_CHECKING:
    from tfseq2seq.runtime.outputs import Output

_RESET, _QUIT = "/reset", "/quit"

# Gives the answer to turns and warnings about it. It raises `UserError` for a last turn that is not answered.
Reply = Callable[[list[str]], tuple["Output", list[str]]]


@click.command()
@run_options(required=False)
@click.option(
    "--model", "folder", type=click.Path(), help="Folder of an exported TFLite or CTranslate2 model, instead of --run."
)
def chat(runs: tuple[str, ...], weights: str | None, overrides: tuple[str, ...], folder: str | None) -> None:
    """Talk to a model of dialogues.

    Each line that is typed is a turn, and the model answers it with what was said before in mind, as many turns as it
    was trained with. /reset begins a new dialogue. /quit, and the end of the input, end the command. A line that begins
    with // is a turn that begins with one /.

    Without a terminal, each line of standard input that is a turn has one line of output. If a line is too long to be
    answered, its output is an empty line, a line on standard error says so, and the exit code is 2.
    """
    if bool(runs) == bool(folder):
        raise UserError(f"chat: needs either --run or --model, got {'both' if runs else 'neither'}")
    if folder:
        for name, value in (("--weights", weights), ("--set", overrides)):
            if value:
                raise UserError(f"{name}: needs --run, got --model")
        reply, history = _exported_reply(folder)
    else:
        opened = open_runs(runs, overrides)
        require(opened[0].recipe, "dialogue", "chat")
        history = opened[0].recipe.data.history
        model = open_predictor(opened, weights, 1, 1)
        from tfseq2seq.inference.generator import Generator

        generator, answers = Generator(model, 1, 1), itertools.count()

        def reply(turns: list[str]) -> tuple[Output, list[str]]:
            for _, message in model.faults([turns]):
                raise UserError(message)
            # With search.sample, the same turns can have another answer.
            found = generator.generate([turns], streams=[next(answers)])
            return found[0], [message for _, message in model.warnings([turns])]

    if not _talk(reply, history):
        sys.exit(USAGE_ERROR)


def _exported_reply(folder: str) -> tuple[Reply, int]:
    """How an exported model answers, and the number of turns that it reads before the last one."""
    from tfseq2seq.export.formats import format_of

    exported = format_of(folder).open(folder, 1, 0)
    spec = exported.source.spec
    if "dialogue" not in spec.provides:
        raise UserError(f"chat: needs {NEEDS['dialogue']}, got source.kind {spec.kind}")

    def reply(turns: list[str]) -> tuple[Output, list[str]]:
        for _, message in exported.faults([turns]):
            raise UserError(message)
        return exported.generate([turns])[0], [message for _, message in exported.warnings([turns])]

    return reply, exported.source.history


def _talk(reply: Reply, history: int) -> bool:
    """Answers lines until there are no more. Returns whether all were answered."""
    # A model reads the last turn, and `history` turns before it.
    turns = collections.deque[str](maxlen=history + 1)
    typed, all_answered, told = sys.stdin is not None and sys.stdin.isatty(), True, False
    for line in _typed_lines() if typed else _lines():
        text = line.strip()
        if text == _QUIT:
            break
        if text == _RESET:
            turns.clear()
            told = False
            if typed:
                tell("a new dialogue begins")
            continue
        if not text:
            continue
        if text.startswith("/") and not text.startswith("//"):
            tell(f"{text.split()[0]}: must be {_RESET} or {_QUIT}; a turn that begins with / is written with //")
            all_answered = False
            continue
        turn = text[1:] if text.startswith("//") else text
        try:
            answer, warnings = reply([*turns, turn][-history - 1 :])
        except UserError as error:
            # What is not answered is not part of the dialogue.
            tell(str(error))
            all_answered = False
            if not typed:
                click.echo()
            continue
        if not told:
            warn(warnings)
        told = told or bool(warnings)
        click.echo(one_line(answer.texts[0]))
        turns.extend((turn, answer.texts[0]))
    return all_answered or typed


def _typed_lines() -> Iterator[str]:
    # With it, `input` lets a user edit lines and call earlier ones. Not every Python has it.
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401

    while True:
        try:
            yield input("> ")
        except EOFError:
            click.echo()
            return


def _lines() -> Iterator[str]:
    for line in standard_lines(standard_input("lines to answer")):
        if line is not None:
            yield line
