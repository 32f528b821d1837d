"""Reading of text files with errors that name file and line, and writing of files without partial results."""

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
    r"""Yields the lines of a plain or .gz file as bytes, each checked to be UTF-8.

    Lines end only at "\n". `str.splitlines` would also split at form feeds, U+2028 and other characters, which occur
    inside of real sentences and would shift all following lines. A "\r" before the "\n" and a byte order mark at the
    start of the file are removed.

    Raises:
        UserError: the file is missing, empty or truncated, or has bytes that are not UTF-8; the message has the line.
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
        raise UserError(f"{path}: damaged after line {number} ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a text file") from None
    if not number:
        raise UserError(f"{path}: must have one line per example, but the file is empty")


def read_lines(path: str | Path) -> list[str]:
    """Returns the lines of a file as text, see `iterate_lines`."""
    return [line.decode("utf-8") for line in iterate_lines(path)]


def check_parallel(source: str | Path, sources: int, target: str | Path, targets: int) -> None:
    """Checks that two parallel files have the same number of lines.

    Args:
        source: the source file.
        sources: its number of lines.
        target: the target file.
        targets: its number of lines.

    Raises:
        UserError: the numbers of lines differ.
    """
    if sources != targets:
        raise UserError(
            f"{source} has {sources:,} lines and {target} has {targets:,}; both must have the same number of lines "
            "(line i of the source belongs to line i of the target)"
        )


def expanded_path(path: str) -> str:
    """Returns a path with `~` and `$VARIABLES` replaced.

    Raises:
        UserError: a variable is not set.
    """
    path = os.path.expanduser(os.path.expandvars(path))
    if unset := re.search(r"\$\{?(\w+)", path):
        raise UserError(f"{path}: the environment variable {unset.group(1)} is not set")
    return path


def partial_name(path: Path) -> Path:
    """Returns the temporary name of a file or folder while it is written."""
    return path.with_name(f".partial-{os.getpid()}-{path.name}")


@contextlib.contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Yields a temporary name to write to, and renames it to `path` when it is complete.

    The temporary file is in the same folder and has the same suffixes. Readers never see a partial file. Missing
    folders are created.

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
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


@contextlib.contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder to write to, and renames it to `folder` when it is complete.

    If an exception is raised, the temporary folder is deleted.

    Raises:
        UserError: the folder cannot be written.
    """
    aside = partial_name(folder)
    try:
        # A killed process may have left this folder. In a container the next process can have the same process id.
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        aside.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes a file. Readers never see a partial file under the name `path`."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


@contextlib.contextmanager
def generated_folder(folder: str | Path) -> Iterator[Path]:
    """Creates a folder for generated data, and yields a temporary folder inside it to write to first.

    The body of the `with` statement moves the complete files from there to `folder`. An interrupted run therefore
    leaves no partial file under a final name.

    Raises:
        UserError: `folder` is a file, or a file cannot be written.
    """
    folder = Path(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file; give a folder to write the generated data to")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".generated-", dir=folder) as aside:
            yield Path(aside)
    except OSError as error:
        raise UserError(f"{folder}: the generated data cannot be written ({error})") from error


def write_wave(path: Path | BinaryIO, samples: np.ndarray, rate: int) -> None:
    """Writes samples [N] in [-1, 1] as a WAV file with one channel and 16 bits.

    Args:
        path: the file to write.
        samples: [N] float.
        rate: the sample rate in Hz.
    """
    with wave.open(str(path) if isinstance(path, Path) else path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())
