"""Reading hypothesis and reference files, and the checks before scoring."""

from pathlib import Path

import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.references import accepted_references, read_references
from tfseq2seq.files import read_lines


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_lines_end_at_newline_only(tmp_path):
    text = "one\u2028still one\x0cand\x85here\n\ntwo\n"
    assert read_lines(write(tmp_path / "a", text.encode())) == ["one\u2028still one\x0cand\x85here", "", "two"]


def test_byte_order_mark_carriage_returns_and_a_missing_last_newline(tmp_path):
    assert read_lines(write(tmp_path / "a", b"\xef\xbb\xbfone\r\ntwo")) == ["one", "two"]
    assert read_lines(write(tmp_path / "b", b"\n")) == [""]


def test_bytes_that_are_not_utf8_are_located(tmp_path):
    path = write(tmp_path / "latin", b"fine\ncaf\xe9\n")
    with pytest.raises(UserError, match=r"latin, line 2: byte 4 \(0xe9\)"):
        read_lines(path)


@pytest.mark.parametrize(
    "name, reason", [("empty", "is empty"), ("missing", "cannot be read"), (".", "cannot be read")]
)
def test_files_that_hold_nothing(tmp_path, name, reason):
    write(tmp_path / "empty", b"")
    with pytest.raises(UserError, match=reason):
        read_lines(tmp_path / name)


def test_one_file_is_one_reference_set(tmp_path):
    path = write(tmp_path / "a", b"x\ny\n")
    assert read_references(path) == read_references(str(path)) == read_references([path]) == [["x", "y"]]


def test_several_files_are_several_reference_sets(tmp_path):
    first, second = write(tmp_path / "a", b"x\ny\n"), write(tmp_path / "b", b"z\n\n")
    assert read_references([first, second]) == [["x", "y"], ["z", ""]]


def test_separator_gives_every_accepted_answer(tmp_path):
    path = write(tmp_path / "test.allrefs", b"AE B | EY B IY\nAA\nA|B | C\n")
    assert read_references(path, separator="|") == [["AE B", "AA", "A"], ["EY B IY", None, "B"], [None, None, "C"]]
    more = write(tmp_path / "more", b"X\nY\nZ\n")
    assert read_references([path, more], separator="|")[1:3] == [["EY B IY", "Y", "B"], ["X", None, "C"]]


def test_uneven_files_name_files_and_counts(tmp_path):
    files = [write(tmp_path / "a", b"x\ny\n"), write(tmp_path / "b", b"x\n")]
    with pytest.raises(UserError, match=r"/a has 2, .*/b has 1"):
        read_references(files)


def test_no_file_and_an_empty_separator(tmp_path):
    with pytest.raises(UserError, match="references: must have at least one file"):
        read_references([])
    with pytest.raises(UserError, match="separator: must not be empty"):
        read_references(write(tmp_path / "a", b"x\n"), separator="")


def test_missing_references_are_dropped_and_an_only_blank_one_is_kept():
    references = [["a", None, "", " "], ["b", "c", "d", ""]]
    assert accepted_references(["h"] * 4, references) == [["a", "b"], ["c"], ["d"], [""]]


@pytest.mark.parametrize(
    "hypotheses, references, reason",
    [
        ([], [[]], "hypotheses: must have at least one line, got none"),
        ("text", [["text"]], r"write \[text\]"),
        ([b"text"], [["text"]], "line 1: expected a string, got bytes"),
        (["a"], [], "must have at least one reference set"),
        (["a"], ["a"], r"write \[references\]"),
        (["a"], "a", r"write \[references\]"),
        (["a"], [[b"a"]], "example 1: references must be strings"),
        (["a", "b"], [["a", "b"], ["a"]], r"references\[1\]: must have one line per hypothesis \(2\), got 1"),
        (["a", "b"], [["a", None], ["b", None]], "example 2: must have at least one reference, got 2 times None"),
    ],
)
def test_what_cannot_be_scored_is_refused(hypotheses, references, reason):
    with pytest.raises(UserError, match=reason):
        accepted_references(hypotheses, references)
