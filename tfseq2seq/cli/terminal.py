"""What the commands get from the terminal or shell: arguments, and the three standard streams."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from tfseq2seq.errors import UserError


def use_utf8() -> None:
    """Starts the program again in Python's UTF-8 mode, if the locale has another encoding.

    Otherwise, Python could neither open a file whose name is not ASCII nor read such an argument. Nothing that the
    commands read or write depends on the locale.
    """
    encoding = codecs.lookup(sys.getfilesystemencoding()).name
    if encoding != "utf-8" and not sys.flags.utf8_mode and sys.executable and len(sys.orig_argv) > 1:
        os.execv(sys.executable, [sys.orig_argv[0], "-X", "utf8", *sys.orig_argv[1:]])


def prepare_streams() -> None:
    """Makes the standard streams take all text, and tells the user if one that is needed is closed.

    Files and pipes get UTF-8. A terminal with another encoding gets escapes for characters that it does not have.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise, the next file to be opened would get the number of the stream, and messages would go into it.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            # Escapes, because lone surrogates have no encoding in UTF-8 either.
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def check_arguments(arguments: Sequence[str]) -> None:
    """Checks that all arguments are text or names of existing files.

    Raises:
        UserError: an argument has bytes that are not UTF-8.
    """
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError:
            name = argument.partition("=")[2] if argument.startswith("--") else argument
            with contextlib.suppress(ValueError):
                if os.path.lexists(name):
                    continue
            shown = ascii(os.fsencode(argument))[1:]
            raise UserError(f"argument {shown}: must be UTF-8 text or the name of a file that exists") from None


class _Closed(io.TextIOBase):
    """Stands for a closed standard output. Results that are written to it would be lost."""

    encoding = "utf-8"

    @property
    def buffer(self) -> BinaryIO:
        raise self._error()

    def write(self, text: str) -> int:
        raise self._error()

    def _error(self) -> Any:
        return UserError("standard output: must be open to take the results, and it is closed")
