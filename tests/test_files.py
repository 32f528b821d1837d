"""Reading of lines with errors that name the line, and writing without partial files."""

import gzip

import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.files import folder_aside, iterate_lines, partial_name, read_lines, write_whole, written_aside

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
    partial_name(folder).mkdir()
    (partial_name(folder) / "left by a killed process").write_bytes(b"")
    with folder_aside(folder) as aside:
        (aside / "whole").write_bytes(b"")
        assert not folder.exists()
    assert names(folder.parent) == ["model"]
    assert names(folder) == ["whole"]
