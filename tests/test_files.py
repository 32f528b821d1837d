"""Reading of lines with errors that name the line, and writing without partial files."""

import errno
import gzip
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tfseq2seq import files
from tfseq2seq.errors import UserError
from tfseq2seq.files import (
    append_line,
    exclusive,
    folder_aside,
    generated_folder,
    iterate_lines,
    read_file,
    read_lines,
    write_whole,
    written_aside,
)

ZIPPED = gzip.compress(b"one line\n" * 1000, mtime=0)


@pytest.mark.parametrize("suffix", [".txt", ".gz"])
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\n\n\n", [b"a", b"", b""]),
        (b"\n", [b""]),
        (b"a\rb\nc\r\r\n", [b"a\rb", b"c\r"]),
        ("\ufeffa\n\ufeffb\n".encode(), [b"a", "\ufeffb".encode()]),
        ("a\u2028b\u2029c\x85d\x0ce\x0bf\x1cg\n".encode(), ["a\u2028b\u2029c\x85d\x0ce\x0bf\x1cg".encode()]),
        (b" a \t\n", [b" a \t"]),
    ],
)
def test_lines(tmp_path, suffix, content, lines):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(content, mtime=0) if suffix == ".gz" else content)
    assert list(iterate_lines(path)) == lines
    assert read_lines(str(path)) == [line.decode() for line in lines]


def test_gz_of_several_members_is_read_to_its_end(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"a\nb\n", mtime=0) + gzip.compress(b"c\n", mtime=0))
    assert read_lines(path) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin1.txt", "gut\nsch\u00f6n\n".encode("latin1"), "line 2: byte 4 (0xf6)"),
        ("cut.txt", "gut\n\u6211".encode()[:-1], "line 2: byte 1 (0xe6)"),
        ("surrogate.txt", b"\xed\xa0\x80\n", "line 1"),
        ("empty.txt", b"", "empty"),
        ("empty.gz", b"", "empty"),
        ("nothing-in.gz", gzip.compress(b"", mtime=0), "empty"),
        ("cut.gz", ZIPPED[:-12], "damaged after line"),
        ("plain.gz", b"one line\n", "damaged after line 0"),
        ("checksum.gz", ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:], "damaged after line 1000"),
        ("more-behind.gz", ZIPPED + b"more", "damaged after line 1000"),
        ("deflate.gz", ZIPPED[:15] + bytes([ZIPPED[15] ^ 0xFF]) + ZIPPED[16:], "damaged after line 0"),
    ],
)
def test_errors_name_the_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(iterate_lines(path))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_before_a_fault_come_first(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a\nb\n\xff\n")
    lines = iterate_lines(path)
    assert [next(lines), next(lines)] == [b"a", b"b"]
    with pytest.raises(UserError, match="line 3: byte 1"):
        next(lines)


@pytest.mark.parametrize("name", ["missing", "missing.gz", "."])
def test_unreadable_path(tmp_path, name):
    with pytest.raises(UserError, match="cannot be read") as caught:
        list(iterate_lines(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_written_file_takes_its_name_when_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "file.tar.gz"
    with written_aside(path) as aside:
        assert aside.parent == path.parent, "another folder may be another disk, where renaming is copying"
        assert aside.name.endswith(path.name), "writers choose a format by the suffix"
        aside.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert names(path.parent) == [path.name]


def test_old_content_stays_until_the_new_is_whole(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    with written_aside(path) as aside:
        aside.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, stop):
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(stop), written_aside(path) as aside:
        aside.write_bytes(b"half of the n")
        raise stop
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["folder", "file/below", "x" * 250])
def test_unwritable_path(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written") as caught:
        write_whole(tmp_path / name, b"content")
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_folder_aside(tmp_path, stop):
    folder = tmp_path / "new" / "model"
    with pytest.raises(stop), folder_aside(folder) as aside:
        (aside / "half").write_bytes(b"")
        raise stop
    assert not list(folder.parent.iterdir())
    with folder_aside(folder) as aside:
        (aside / "whole").write_bytes(b"")
        assert not folder.exists()
    assert names(folder.parent) == ["model"]
    assert names(folder) == ["whole"]


# ---- partial files and folders --------------------------------------------------------------------------------------


def left_behind(folder, name):
    """A partial file and a partial folder of a process that was killed."""
    (folder / f".partial-1-{name}").write_bytes(b"half")
    (folder / f".partial-0a1b2c3d-{name}").mkdir()
    (folder / f".partial-0a1b2c3d-{name}" / "half").write_bytes(b"half")


def test_what_killed_processes_left_is_swept_when_the_same_target_is_written(tmp_path):
    left_behind(tmp_path, "model")
    left_behind(tmp_path, "file")
    (tmp_path / ".partial-1-other").write_bytes(b"half of another file")
    write_whole(tmp_path / "file", b"")
    with folder_aside(tmp_path / "model"):
        pass
    assert names(tmp_path) == [".partial-1-other", "file", "model"]


def test_writers_of_one_target_leave_the_partial_files_of_each_other_alone(tmp_path):
    with written_aside(tmp_path / "file") as one, written_aside(tmp_path / "file") as other:
        assert one != other
        one.write_bytes(b"one")
        other.write_bytes(b"other")
        files.sweep(tmp_path)
        assert one.read_bytes() == b"one"
    assert (tmp_path / "file").read_bytes() == b"one"
    with (
        pytest.raises(UserError, match="folder: exists now, as another process has written it"),
        folder_aside(tmp_path / "folder") as one,
        folder_aside(tmp_path / "folder") as other,
    ):
        (one / "one").touch()
        (other / "other").touch()
    # The second found the folder of the first, and did not mix with it.
    assert names(tmp_path) == ["file", "folder"] and names(tmp_path / "folder") == ["other"]


def test_without_locks_only_old_partial_files_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_lock", lambda *arguments, **options: None)
    left_behind(tmp_path, "file")
    os.utime(tmp_path / ".partial-1-file", (0, 0))
    files.sweep(tmp_path)
    assert names(tmp_path) == [".partial-0a1b2c3d-file"]


def test_generated_data_of_a_killed_process_is_swept(tmp_path):
    left_behind(tmp_path, "generated")
    with generated_folder(tmp_path) as aside:
        assert names(tmp_path) == [aside.name]
    assert names(tmp_path) == []


# ---- targets of every kind ------------------------------------------------------------------------------------------


def test_new_files_and_folders_have_the_mode_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"")
        with folder_aside(tmp_path / "folder"):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664])
def test_a_file_that_exists_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_whole(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there/file")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    (tmp_path / "dangling").symlink_to("new/file")
    write_whole(tmp_path / "chain", b"new")
    write_whole(tmp_path / "dangling", b"new")
    assert (
        (tmp_path / "link").is_symlink() and (tmp_path / "chain").is_symlink() and (tmp_path / "dangling").is_symlink()
    )
    assert (tmp_path / "there" / "file").read_bytes() == (tmp_path / "new" / "file").read_bytes() == b"new"
    assert names(tmp_path / "there") == names(tmp_path / "new") == ["file"]


def test_a_loop_of_links_is_told(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="cannot be written"):
        write_whole(tmp_path / "loop", b"")


def test_a_pipe_is_written_into(tmp_path):
    path, found = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write_whole(path, b"content")
    reader.join(10)
    assert found == [b"content"] and stat.S_ISFIFO(path.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


def test_a_device_is_written_into(tmp_path):
    path = tmp_path / "null"
    try:
        # Of the kind of /dev/null, which a test that fails must not replace.
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        path.write_bytes(b"")
    except OSError:
        pytest.skip("devices cannot be made here")
    (tmp_path / "link").symlink_to("null")
    write_whole(path, b"content")
    write_whole(tmp_path / "link", b"content")
    assert stat.S_ISCHR(path.stat().st_mode) and (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["link", "null"]


# Never the link of the system itself, which a test that fails would replace.
@pytest.mark.parametrize("name", ["/proc/self/fd/1", "link"])
def test_the_standard_output_is_written_into(tmp_path, name):
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    code = """
import sys
from tfseq2seq.files import write_whole
print("before")
write_whole(sys.argv[1], b"content\\n")
print("after")
"""
    command = [sys.executable, "-c", code, name]
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).stdout == b"before\ncontent\nafter\n"
    with open(tmp_path / "out", "wb") as file:
        subprocess.run(command, stdout=file, cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_bytes() == b"before\ncontent\nafter\n"
    assert names(tmp_path) == ["link", "out"]


def test_a_file_that_cannot_be_replaced_is_written_into(tmp_path, monkeypatch):
    path = tmp_path / "mounted"
    path.write_bytes(b"longer than the new one")

    def busy(*_):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "replace", busy)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["mounted"]


def test_a_name_with_a_slash_at_its_end_is_no_file(tmp_path):
    with pytest.raises(UserError, match="Is a directory"):
        write_whole(f"{tmp_path}/new/", b"")
    assert names(tmp_path) == []


# ---- full disks -----------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_what_was_there(tmp_path, largest_file):
    write_whole(tmp_path / "file", b"old")
    append_line(tmp_path / "log", "first")
    with largest_file(1000):
        for write in (
            lambda: write_whole(tmp_path / "file", b"x" * 2000),
            lambda: append_line(tmp_path / "log", "x" * 2000),
        ):
            with pytest.raises(UserError, match="cannot be written .File too large"):
                write()
        with pytest.raises(UserError, match="cannot be written"), folder_aside(tmp_path / "folder") as aside:
            (aside / "file").write_bytes(b"x" * 2000)
    assert names(tmp_path) == ["file", "log"]
    assert ((tmp_path / "file").read_bytes(), (tmp_path / "log").read_bytes()) == (b"old", b"first\n")


@pytest.mark.parametrize("write", [written_aside, folder_aside])
def test_the_full_disk_of_another_library_is_told_in_one_line(tmp_path, write):
    with pytest.raises(UserError) as caught, write(tmp_path / "new"):
        raise RuntimeError("ResourceExhausted: part-0\n; No space left on device\n[Op:SaveV2]")
    assert str(caught.value) == f"{tmp_path / 'new'}: cannot be written (No space left on device)"
    assert names(tmp_path) == []


# ---- locks ----------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path):
    path = tmp_path / "lock"
    with exclusive(path, "taken"):
        with pytest.raises(UserError, match="^taken$"), exclusive(path, "taken"):
            pass
        assert path.exists()
    assert names(tmp_path) == []
    with pytest.raises(RuntimeError), exclusive(path, "taken"):
        raise RuntimeError
    assert names(tmp_path) == []


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = """
import sys, time
from pathlib import Path
from tfseq2seq.files import exclusive
with exclusive(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    time.sleep(60)
"""
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="taken"), exclusive(path, "taken"):
            pass
        holder.send_signal(signal.SIGKILL)
    assert path.exists()
    with exclusive(path, "taken"):
        pass
    assert names(tmp_path) == []


# ---- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_lines, lambda path: read_file(path, 10)])
def test_only_regular_files_are_read(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(UserError, match=f"{path}: must be a regular file, got {kind}"):
            read(path)


def test_a_pipe_is_read_where_once_is_enough(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(b"a\nb\n"))
    writer.start()
    assert read_lines(path, pipe=True) == ["a", "b"]
    writer.join()
    with pytest.raises(UserError, match="must be a regular file, got a device"):
        read_lines("/dev/zero", pipe=True)


def test_large_files_and_lines_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 11)
    for read in (read_file, read_lines):
        with pytest.raises(UserError, match="must have at most 10 bytes, got 11"):
            read(path, 10)
    monkeypatch.setattr(files, "_LONGEST_LINE", 10)
    path.write_bytes(b"x" * 9 + b"\n" + b"x" * 11)
    with pytest.raises(UserError, match="line 2: must have at most 10 bytes"):
        read_lines(path)
