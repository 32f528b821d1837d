"""Reading of text files with errors that name file and line, and writing of files without partial results."""

from __future__ import annotations

import codecs
import contextlib
import errno
import gzip
import json
import os
import re
import secrets
import select
import shutil
import stat
import sys
import tempfile
import time
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    import numpy as np


# The longest line of a text file, in bytes. A file without line breaks is no text file, and may not fit into memory.
_LONGEST_LINE = 1 << 26
# A pipe or terminal has no further line for now if none arrives in so many seconds.
_READY_SECONDS = 0.05
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_file(path: str | Path, limit: int = 0, pipe: bool = False) -> BinaryIO:
    """Opens a file that a user names, for reading.

    What is no regular file is refused before it is opened: a pipe waits for a writer and can be read only once, and a
    device may never end.

    Args:
        path: the file.
        limit: the largest size in bytes; 0 for no limit.
        pipe: whether a pipe or the standard input can be read too, because the file is read only once.

    Raises:
        UserError: it is no regular file, or it is too large.
        OSError: it cannot be opened.
    """
    status = os.stat(path)
    kind = next((name for test, name in _KINDS if test(status.st_mode)), "")
    if kind == "a folder":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind and not (pipe and (kind == "a pipe" or _is_standard_input(status))):
        raise UserError(f"{path}: must be a regular file, got {kind}")
    if limit and status.st_size > limit:
        raise UserError(f"{path}: must have at most {limit:,} bytes, got {status.st_size:,}; is this the right file?")
    return open(path, "rb")  # noqa: SIM115


def check_regular(path: str | Path) -> None:
    """Checks that a file can be read, and that it is a regular one.

    Raises:
        UserError: it cannot, or it is not.
    """
    try:
        open_file(path).close()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_file(path: str | Path, limit: int) -> bytes:
    """Returns the content of a regular file of at most `limit` bytes; errors are those of `open_file`."""
    with open_file(path, limit) as file:
        return file.read()


def parse_object(content: bytes, path: str | Path) -> dict[str, Any]:
    """Returns the keys and values of a JSON file of someone else.

    Args:
        content: of the file.
        path: of the file, for messages.

    Raises:
        UserError: it is no JSON, or something else than keys and values.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: must be JSON, and is not") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: must have keys and values, got {json.dumps(found)[:40]}")
    return found


def _is_standard_input(status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(0), status)
    except OSError:
        return False


def iterate_lines(path: str | Path, limit: int = 0, pipe: bool = False) -> Iterator[bytes]:
    r"""Yields the lines of a plain or .gz file as bytes, each checked to be UTF-8.

    Lines end only at "\n". `str.splitlines` would also split at form feeds, U+2028 and other characters, which occur
    inside of real sentences and would shift all following lines. A "\r" before the "\n" and a byte order mark at the
    start of the file are removed.

    Args:
        path: the file.
        limit: the largest size of the file in bytes; 0 for no limit.
        pipe: whether it can be a pipe or the standard input, because it is read only once.

    Raises:
        UserError: the file is missing, empty, too large, truncated or not regular, or has bytes that are not UTF-8; the
            message has the line.
    """
    return cast("Iterator[bytes]", _checked_lines(path, limit, pipe))


def iterate_arriving(path: str | Path) -> Iterator[bytes | None]:
    """As `iterate_lines` of a file that may be a pipe. Yields None too whenever no further line has arrived."""
    return _checked_lines(path, pipe=True, wait=True)


def _checked_lines(path: str | Path, limit: int = 0, pipe: bool = False, wait: bool = False) -> Iterator[bytes | None]:
    path = Path(path)
    number = 0
    try:
        with open_file(path, limit, pipe) as raw:
            file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            arrives = wait and file is raw and is_arriving(raw)
            lines = arriving_lines(raw) if arrives else iter(lambda: file.readline(_LONGEST_LINE + 1), b"")
            for line in lines:
                if line is None:
                    yield None
                    continue
                number += 1
                if len(line) > _LONGEST_LINE:
                    raise UserError(
                        f"{path}, line {number}: must have at most {_LONGEST_LINE:,} bytes; is this a text file?"
                    )
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
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        # A name with a NUL is a ValueError.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); give the path of a text file") from None
    if not number:
        raise UserError(f"{path}: must have one line per example, but the file is empty")


def is_arriving(file: BinaryIO) -> bool:
    """Returns whether a file is a terminal, a pipe or the like, whose lines arrive one after the other."""
    try:
        return not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:
        # A file in memory has no descriptor.
        return False


def arriving_lines(file: BinaryIO) -> Iterator[bytes | None]:
    r"""Yields the lines of a terminal or a pipe as soon as they arrive, without the "\n" at their ends.

    None stands for a moment in which no further line is there. A line that is too long is not read up to its end.

    Args:
        file: open for reading, and nothing has been read yet.
    """
    descriptor = file.fileno()
    parts: list[bytes] = []
    while True:
        if not select.select([descriptor], [], [], _READY_SECONDS)[0]:
            yield None
        block = os.read(descriptor, 1 << 16)
        first, *others = block.split(b"\n")
        parts.append(first)
        if others:
            yield b"".join(parts)
            yield from others[:-1]
            parts = [others[-1]]
        if sum(map(len, parts)) > _LONGEST_LINE or not block:
            break
    if line := b"".join(parts):
        yield line


def read_lines(path: str | Path, limit: int = 0, pipe: bool = False) -> list[str]:
    """Returns the lines of a file as text, see `iterate_lines`."""
    return [line.decode("utf-8") for line in iterate_lines(path, limit, pipe)]


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


def full_disk(error: BaseException) -> str:
    """Returns what the system says about a full disk, quota or file, if an error of any library says it, or else "".

    TensorFlow and HDF5 have errors of their own, but all of them quote the system.
    """
    found = str(error)
    return next((text for text in map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)) if text in found), "")


def names_folder(path: str | Path) -> bool:
    """Whether a path is a folder, or ends in a slash and so means one that may not exist yet."""
    return str(path).endswith("/") or os.path.isdir(path)


@contextlib.contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Yields a temporary name to write to, and renames it to `path` when it is complete.

    The temporary file is in the same folder and has the same suffixes. Readers never see a partial file. Missing
    folders are created. A symbolic link stays, and its target is replaced. A file that exists already keeps its mode.
    What is no regular file, such as a device or a pipe, stays as it is, and the content is written into it.

    Raises:
        UserError: the file cannot be written.
    """
    # A Path drops the slash at its end.
    path, is_folder = Path(path), names_folder(path)
    with explained(path):
        if is_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        final, straight = destination(path)
        if straight:
            with tempfile.TemporaryDirectory() as folder:
                aside = Path(folder, path.name)
                yield aside
                copy_into(aside, final)
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(final) as aside:
            yield aside
            put_in_place(aside, final)


@contextlib.contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder to write to, and renames it to `folder` when it is complete.

    If an exception is raised, the temporary folder is deleted.

    Raises:
        UserError: the folder cannot be written.
    """
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(folder, is_folder=True) as aside:
            yield aside
            try:
                aside.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise UserError(f"{folder}: exists now, as another process has written it; give another name") from None


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `folder`, on the same disk, from which complete files can be moved.

    It is deleted at the end.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _claimed(folder, is_folder=True) as aside:
        yield aside


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes a file. Readers never see a partial file under the name `path`."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def append_line(path: Path, line: str) -> None:
    """Adds a line to a file. If it cannot be written as a whole, the file stays as it was.

    Raises:
        UserError: the line cannot be written.
    """
    with explained(path), open(path, "ab", buffering=0) as file:
        size, content = os.fstat(file.fileno()).st_size, memoryview(f"{line}\n".encode())
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise


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
        with scratch_folder(folder / "generated") as aside:
            yield aside
    except OSError as error:
        raise UserError(f"{folder}: the generated data cannot be written ({error})") from error


@contextlib.contextmanager
def exclusive(path: Path, taken: str) -> Iterator[None]:
    """Holds the lock file `path` inside of the context. The lock of a killed process ends with it.

    Args:
        path: the lock file. It is created, and deleted at the end.
        taken: the message if another process holds the lock.

    Raises:
        UserError: another process holds the lock, or the file cannot be written.
    """
    with explained(path):
        descriptor = open_locked(path, taken)
    try:
        yield
    finally:
        if _is_at(descriptor, path):
            _delete(path)
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Returns whether a process holds the lock file `path`; see `exclusive`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return _lock(descriptor) is False
    finally:
        os.close(descriptor)


def sweep(folder: Path, name: str = "") -> None:
    """Deletes partial files and folders that killed processes have left.

    Whoever writes one holds a lock on it, which ends with the process. Where the file system has no locks, only what is
    a day old is deleted.

    Args:
        folder: the folder to look in.
        name: the name of the complete file or folder. By default, those of all names are deleted.
    """
    pattern = re.compile(rf"\.partial-[0-9a-f]+-{re.escape(name) if name else '.+'}", re.DOTALL)
    with contextlib.suppress(OSError):
        for left in [Path(folder, each) for each in os.listdir(folder) if pattern.fullmatch(each)]:
            with contextlib.suppress(OSError):
                descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    free = _lock(descriptor)
                    age = time.time() - os.fstat(descriptor).st_mtime
                    if free or (free is None and age > _STALE_SECONDS):
                        _delete(left)
                finally:
                    os.close(descriptor)


# Without locks, a partial file that is older than this belongs to no process that still writes.
_STALE_SECONDS = 24 * 60 * 60
# Names that stand for open files of a process. What they name is not replaced, because others write to it too.
_OPEN_FILES = re.compile(r"/dev/(fd/\d+|stdin|stdout|stderr)|/proc/[^/]+/fd/\d+")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raises `UserError` for errors inside that mean that a file cannot be written."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    except Exception as error:
        if reason := full_disk(error):
            raise UserError(f"{path}: cannot be written ({reason})") from None
        raise


@contextlib.contextmanager
def _claimed(path: Path, is_folder: bool = False) -> Iterator[Path]:
    """Creates a file or folder with a random name beside `path` and holds a lock on it. It is deleted at the end.

    A process id would not do as a name: in containers every process is the first.
    """
    sweep(path.parent, path.name)
    while True:
        aside = path.with_name(f".partial-{secrets.token_hex(4)}-{path.name}")
        try:
            if is_folder:
                aside.mkdir()
                descriptor = os.open(aside, os.O_RDONLY)
            else:
                descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        except FileNotFoundError:
            # Another process may have swept the new folder before it was opened here.
            if is_folder and path.parent.is_dir():
                continue
            raise
        try:
            _lock(descriptor, wait=True)
            if not _is_at(descriptor, aside):
                continue  # swept before it was locked
            try:
                yield aside
            finally:
                _delete(aside)
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, wait: bool = False) -> bool | None:
    """Locks an open file until it is closed. False if another holds it, None if the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def open_locked(path: Path, taken: str) -> int:
    """Opens and locks a lock file; see `exclusive`."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if _lock(descriptor) is False:
            os.close(descriptor)
            raise UserError(taken)
        if _is_at(descriptor, path):
            return descriptor
        # The last holder has deleted the file after it was opened here.
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _delete(path: Path) -> None:
    """Deletes a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def destination(path: Path) -> tuple[Path, bool]:
    """Returns the end of a chain of symbolic links, and whether it is written into instead of being replaced."""
    for _ in range(40):
        if _OPEN_FILES.fullmatch(os.path.abspath(path)):
            return path, True
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return path, False
    return path, not stat.S_ISREG(mode)


def put_in_place(aside: Path, final: Path) -> None:
    """Gives a complete file its name, with the mode of the file that had it before."""
    _keep_mode(final, aside)
    try:
        os.replace(aside, final)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # A file that a container has mounted alone cannot be replaced.
        copy_into(aside, final)
        aside.unlink()


def copy_into(content: Path, final: Path) -> None:
    """Writes the content of a file into what is no regular file."""
    with open(content, "rb") as file, open_into(final) as target:
        shutil.copyfileobj(file, target)


def open_into(final: Path) -> BinaryIO:
    """Opens what is no regular file for writing."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.stat(final)):
                # Opened anew, it would begin at the start of the file and overwrite what is there.
                if stream is not None:
                    stream.flush()
                return os.fdopen(os.dup(descriptor), "wb")
    return open(final, "wb")  # noqa: SIM115


def _keep_mode(old: Path, new: Path) -> None:
    """Gives a new file the mode and, as far as permitted, the owner of the file that it replaces."""
    try:
        status = os.stat(old)
    except FileNotFoundError:
        return
    with contextlib.suppress(OSError):
        os.chown(new, status.st_uid, status.st_gid)
    os.chmod(new, stat.S_IMODE(status.st_mode))


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
