"""How commands end: what they say when they cannot go on, and with which exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

USAGE_ERROR = 2


class Stopped(click.ClickException):
    """The user pressed Ctrl-C."""

    exit_code = 130


def fail(message: str, code: int) -> None:
    _tell(message)
    sys.exit(code)


def report(faults: Sequence[tuple[int, str]]) -> None:
    """A line on standard error for each recording that could not be used, and exit code 2 if there was any."""
    for _, message in faults:
        _tell(message)
    if faults:
        sys.exit(USAGE_ERROR)


def _tell(message: str) -> None:
    click.echo(f"tfseq2seq: {' '.join(message.splitlines())}", err=True)


def one_line(text: str) -> str:
    """A line out for each line in: a line break inside an output would shift all that follow."""
    return text.replace("\n", " ").replace("\r", " ")
