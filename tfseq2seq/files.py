"""Reading text with faults told by file and line, and writing so that no half file is ever seen."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import os
import re
import shutil
import tempfile
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def iterate_lines(path: str | Path) -> Iterator[bytes]:
    r"""The lines of a plain or .gz file as bytes, each known to be UTF-8.

    Lines end at "\n" only: `str.splitlines` would also split at form feeds, U+2028 and others, which occur inside real
    sentences and would shift every later line. A "\r" before the "\n" and a byte order mark at the start are no text.

    Raises:
        UserError: the file is missing, empty, cut short, or has bytes that are not UTF-8 (with the line's number).
    """
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                line.decode("utf-8")
                yield line
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(
            f"{path}, line {number}: byte {error.start + 1} (0x{byte:02x}) is not UTF-8; convert the file, "
            "for example with `iconv -f latin1 -t utf-8`"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged after line {number}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a text file") from None
    if not number:
        raise UserError(f"{path}: the file is empty; it needs one line for each example")


def read_lines(path: str | Path) -> list[str]:
    """The lines of a file as text; see `iterate_lines`."""
    return [line.decode("utf-8") for line in iterate_lines(path)]


def check_parallel(source: str | Path, sources: int, target: str | Path, targets: int) -> None:
    """Tells of two files that should correspond line by line, and have so many lines.

    Raises:
        UserError: one has more.
    """
    if sources != targets:
        raise UserError(
            f"{source} has {sources:,} lines and {target} has {targets:,}; line i of one must belong to line i "
            "of the other"
        )


def expanded_path(path: str) -> str:
    """A path with `~` and `$VARIABLES` replaced.

    Raises:
        UserError: a variable is not set.
    """
    path = os.path.expanduser(os.path.expandvars(path))
    if unset := re.search(r"\$\{?(\w+)", path):
        raise UserError(f"{path}: the environment variable {unset.group(1)} is not set")
    return path


def partial_name(path: Path) -> Path:
    """Where a file or folder is written before it takes its name."""
    return path.with_name(f".partial-{os.getpid()}-{path.name}")


@contextlib.contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to, with its suffixes; it takes the place of `path` once whole.

    No reader ever meets half a file. Missing folders are made.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    aside = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


@contextlib.contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write to, which takes its name once whole; where anything is raised it is deleted.

    Raises:
        UserError: the folder cannot be written.
    """
    aside = partial_name(folder)
    try:
        # A killed process leaves it, and in a container the next one has the same number.
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        aside.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes a file so that `path` never holds half of it."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


@contextlib.contextmanager
def generated_folder(folder: str | Path) -> Iterator[Path]:
    """Makes a folder for generated data and gives another, inside it, to write to first: a run that is cut off then
    leaves no half file behind under its final name. The body moves the files to their places.

    Raises:
        UserError: `folder` is a file, or something cannot be written.
    """
    folder = Path(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file: name a folder to write the generated data to")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".generated-", dir=folder) as aside:
            yield Path(aside)
    except OSError as error:
        raise UserError(f"cannot write the generated data to {folder}: {error}") from error


def write_wave(path: Path | BinaryIO, samples: np.ndarray, rate: int) -> None:
    """Writes samples [N] in [-1, 1] as a WAV file of one channel and 16 bits."""
    with wave.open(str(path) if isinstance(path, Path) else path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())
