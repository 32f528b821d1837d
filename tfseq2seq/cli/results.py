"""Where a command writes its outputs while it generates them.

Standard output, devices and pipes get each window of outputs at once. A file gets its name when it is complete. Until
then, the outputs are in `<name>.partial` beside it, and stay there if the process is killed, so that `--resume` can
continue.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tfseq2seq.errors import UserError
from tfseq2seq.files import destination, explained, names_folder, open_into, open_locked, put_in_place, sweep

PARTIAL = ".partial"


class Results:
    """Takes the outputs of a command in their order.

    Args:
        file: what they are written to.
        path: its name for messages; "" for standard output, whose errors the command line explains.

    Attributes:
        lines: the number of complete lines that are there.
        grown: whether lines were written.
    """

    def __init__(self, file: BinaryIO, path: str = ""):
        self._file, self._path, self.lines, self.grown = file, path, 0, False

    def write(self, lines: Sequence[str]) -> None:
        """Writes lines, which others can read then.

        Raises:
            UserError: they cannot be written.
        """
        content = "".join(f"{line}\n" for line in lines).encode("utf-8")
        with explained(Path(self._path)) if self._path else contextlib.nullcontext():
            self._file.write(content)
            self._file.flush()
        self.lines, self.grown = self.lines + len(lines), self.grown or bool(lines)


class Journal(Results):
    """Outputs in a file of which the complete lines can be kept."""

    def __init__(self, file: BinaryIO, path: str):
        super().__init__(file, path)
        self.lines = sum(line.endswith(b"\n") for line in self._rewound())

    def keep(self, count: int) -> None:
        """Cuts the file off behind so many lines."""
        end = sum(len(line) for line in itertools.islice(self._rewound(), count))
        with explained(Path(self._path)):
            self._file.seek(end)
            self._file.truncate()
        self.lines = count

    def read(self, first: int, last: int) -> list[str]:
        """Returns the lines from `first` to before `last`."""
        found = [line.decode("utf-8", "replace") for line in itertools.islice(self._rewound(), first, last)]
        self._file.seek(0, os.SEEK_END)
        return [line.removesuffix("\n") for line in found]

    def _rewound(self) -> BinaryIO:
        self._file.seek(0)
        return self._file


@contextlib.contextmanager
def open_results(output: str | None, resume: bool = False) -> Iterator[Results]:
    """Yields what takes the outputs of a command. At the end, a file gets its name.

    Args:
        output: the file; None for standard output.
        resume: whether to begin with the lines that a killed process, or an earlier one, has written to it.

    Raises:
        UserError: the file cannot be written, another process is writing it, or it cannot be continued.
    """
    if not output:
        yield Results(sys.stdout.buffer)
        return
    path = Path(output)
    with explained(path):
        if names_folder(output):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        final, straight = destination(path)
        if straight and resume:
            raise UserError(f"--resume: needs an --output that is a regular file, got {output}")
        opened = open_into(final) if straight else None
    if opened:
        with opened:
            yield Results(opened, output)
    else:
        with _journal(final, output, resume) as journal:
            yield journal


@contextlib.contextmanager
def _journal(final: Path, output: str, resume: bool) -> Iterator[Journal]:
    """As `open_results` of a regular file, or of one that is not there yet."""
    partial = final.with_name(final.name + PARTIAL)
    with explained(Path(output)):
        final.parent.mkdir(parents=True, exist_ok=True)
        sweep(final.parent, final.name)
        taken = f"{output}: is being written by another process; wait for it, or give another name"
        file = os.fdopen(open_locked(partial, taken), "r+b")
    with file:
        begun = resume and os.fstat(file.fileno()).st_size > 0
        journal = None
        try:
            with explained(Path(output)):
                if not resume:
                    file.truncate()
                elif not begun and final.exists():
                    with open(final, "rb") as earlier:
                        shutil.copyfileobj(earlier, file)
            journal = Journal(file, output)
            yield journal
            begun = True
            with explained(Path(output)):
                put_in_place(partial, final)
        except BaseException:
            # What was only copied from the output file is still there.
            if not begun and not (journal and journal.grown):
                partial.unlink(missing_ok=True)
            raise
