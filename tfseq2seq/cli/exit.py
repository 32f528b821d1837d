"""How commands end: their messages about errors, and their exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click

from tfseq2seq.runtime.outputs import cut_warnings, length_limit
from tfseq2seq.spec import SearchSpec

USAGE_ERROR = 2
# Of a command that Ctrl-C ends: 128 and the number of the signal.
INTERRUPTED = 130


class Stopped(click.ClickException):
    """A signal has stopped the command, usually Ctrl-C.

    Args:
        message: what to tell the user.
        code: the exit code, 128 and the number of the signal.
    """

    def __init__(self, message: str, code: int = INTERRUPTED):
        super().__init__(message)
        self.code = code


class Failed(click.ClickException):
    """The command itself was right, but its work has failed."""

    exit_code = 1


def fail(message: str, code: int) -> None:
    """Writes a message to standard error in one line, and ends the program."""
    tell(message)
    sys.exit(code)


def report(faults: Sequence[tuple[int, str]]) -> None:
    """Writes a line to standard error for each recording that cannot be used, and ends the program if there is one."""
    for _, message in faults:
        tell(message)
    if faults:
        sys.exit(USAGE_ERROR)


def warn(messages: Sequence[str]) -> None:
    """Writes a line to standard error for each thing that the user should know about outputs that are there."""
    for message in messages:
        tell(f"warning: {message}")


def warn_of_cut(cut: Iterable[bool], search: SearchSpec, noun: str = "outputs", each: str = "") -> None:
    """Writes a line to standard error if outputs of a run may have been cut off at the length that its search allows.

    Args:
        cut: of each output.
        search: that of the run.
        noun: what is counted.
        each: what the limit is for, if not for an output.
    """
    remedy = f"raise it with --set search.max_length={2 * search.max_length}"
    warn(cut_warnings(cut, length_limit(search.max_length, search.max_ratio) + each, remedy, noun))


def tell(message: str) -> None:
    """Writes a line to standard error."""
    click.echo(f"tfseq2seq: {' '.join(message.splitlines())}", err=True)


def one_line(text: str) -> str:
    """Replaces line breaks, so that each input has exactly one line of output."""
    return text.replace("\n", " ").replace("\r", " ")
