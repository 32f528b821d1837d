"""Manifests, which list recordings with transcripts: TSV tables, JSON lines as in NeMo, and Kaldi folders.

A complete manifest is checked before any recording is read. Errors name the file and the line. The check only tests
that audio files exist; it does not open them.
"""

from __future__ import annotations

import collections
import functools
import json
import math
import os
import reprlib
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfseq2seq.errors import UserError
from tfseq2seq.files import generated_folder, iterate_lines, write_wave

if TYPE_CHECKING:
    import numpy as np

# About 30 years. A time beyond it comes from a damaged manifest, and its samples could not be counted.
_MOST_SECONDS = 1e9


@dataclass(frozen=True)
class Utterance:
    """A recording, or a segment of one, and its transcript.

    Attributes:
        name: the name, unique in the manifest.
        path: the audio file.
        text: the transcript.
        start: the start of the segment in the file, in seconds.
        seconds: the duration of the segment; 0 means up to the end of the file.
        speaker: the speaker, or "" if the manifest does not name one.
    """

    name: str
    path: str
    text: str
    start: float = 0.0
    seconds: float = 0.0
    speaker: str = ""


def read_manifest(path: str | Path, split: str = "") -> list[Utterance]:
    """Reads the utterances of a manifest, in its order. Audio paths are relative to the folder of the manifest.

    There are three formats, which are detected from the content:

    - A Kaldi folder: `wav.scp` (id, path), `text` (id, words) and, if utterances are segments of longer recordings,
      `segments` (id, id of the recording, start, end). An end of -1 is the end of the recording. Utterances without a
      line in `text` are ignored.
    - JSON lines: objects with "audio_filepath", "text", and optionally "offset" and "duration" in seconds. The name of
      an utterance is the path, followed by @ and the offset if there is one, and by + and the duration if an earlier
      utterance has the same path and offset.
    - TSV: a header line names the columns. `path` and `text` are required. `split` is used to select a split, `speaker`
      is stored, and other columns are ignored. The name of an utterance is the path.

    Args:
        path: the file, plain or .gz, or the folder.
        split: selects the rows of a TSV manifest with this value in the column `split`; "" selects all rows.

    Raises:
        UserError: the manifest is not valid, or an audio file is missing; the message has the place.
    """
    path = Path(path)
    if "\0" in str(path):
        raise UserError(f"{str(path)!r}: the path of a manifest must not have the character NUL")
    if path.exists() and not (path.is_dir() or path.is_file()):
        # The format is detected from the first line, and what a pipe has given it does not give again.
        raise UserError(f"{path}: must be a regular file or a Kaldi folder, got {_kind_of(path.stat())}")
    if path.is_dir():
        rows = _kaldi_rows(path)
    elif next(iterate_lines(path)).lstrip().startswith(b"{"):
        rows = _json_rows(path)
    else:
        return _checked(_table_rows(path, split), path)
    if split:
        raise UserError(f"{path}: must be a TSV manifest to select the split {split!r}; other manifests have no splits")
    return _checked(rows, path)


# Readers yield a location for messages, such as "file, line 3", and the utterance at this location.
_Rows = Iterator[tuple[str, Utterance]]


def write_recordings(table: Path, recordings: Iterable[tuple[str, str, np.ndarray, str]], rate: int) -> Path:
    """Writes recordings, and a table of them with the columns split, speaker, path, seconds, sample_rate and text.

    Recordings are written to `recordings/<split>_<number>.wav` in the folder of the table. Existing files are replaced
    only when all recordings are written. The table is written last, so an existing table lists only complete
    recordings.

    Args:
        table: the .tsv file to write.
        recordings: split, speaker (may be empty), samples [S] float32 from -1 to 1, and transcript of each recording.
        rate: the sample rate in Hz.

    Returns:
        The table.

    Raises:
        UserError: a file cannot be written.
    """
    counts = collections.Counter[str]()

    def files() -> Iterator[ListedFile]:
        for split, speaker, samples, text in recordings:
            counts[split] += 1
            name = f"{split}_{counts[split]:05d}.wav"
            seconds = len(samples) / rate
            row = split, speaker or "-", f"recordings/{name}", f"{seconds:.4f}", str(rate), text
            yield name, functools.partial(write_wave, samples=samples, rate=rate), [row]

    return write_listed(table, "recordings", ("split", "speaker", "path", "seconds", "sample_rate", "text"), files())


# The name of a file, what writes it to a path, and its rows in the table.
ListedFile = tuple[str, Callable[[Path], object], Iterable[Sequence[str]]]


def write_listed(table: Path, folder: str, columns: Sequence[str], files: Iterable[ListedFile]) -> Path:
    """Writes files, and a TSV table that lists them.

    Existing files are replaced only when all are written. The table is written last, so an existing table lists only
    complete files.

    Args:
        table: the file to write.
        folder: the name of the folder of the files, in that of the table.
        columns: the names of the columns of the table.
        files: name, writer and rows of each file.

    Returns:
        The table.

    Raises:
        UserError: a file cannot be written.
    """
    lines, names = ["\t".join(columns) + "\n"], []
    with generated_folder(table.parent) as aside:
        (table.parent / folder).mkdir(exist_ok=True)
        for name, write, rows in files:
            names.append(name)
            write(aside / name)
            lines += ["\t".join(row) + "\n" for row in rows]
        (aside / table.name).write_text("".join(lines), encoding="utf-8", newline="\n")
        table.unlink(missing_ok=True)
        for name in names:
            (aside / name).replace(table.parent / folder / name)
        (aside / table.name).replace(table)
    return table


def _checked(rows: _Rows, path: Path) -> list[Utterance]:
    locations: dict[str, str] = {}
    utterances, existing_files = [], set()
    for location, utterance in rows:
        if utterance.name in locations:
            raise UserError(f"{location}: {utterance.name} is listed twice, first in {locations[utterance.name]}")
        locations[utterance.name] = location
        # Segments can share a file, which is then checked only once.
        if utterance.path not in existing_files and (fault := file_fault(utterance.path)):
            raise UserError(f"{location}: {fault}")
        existing_files.add(utterance.path)
        utterances.append(utterance)
    if not utterances:
        raise UserError(f"{path}: the manifest must have at least one utterance, found no utterances")
    return utterances


def file_fault(path: str, noun: str = "audio file") -> str:
    """Returns what is wrong with the path of a file, or "". Only a regular file can be read again and again."""
    if "\0" in path:
        article = "an" if noun[0] in "aeiou" else "a"
        return f"the path of {article} {noun} must not have the character NUL, got {reprlib.repr(path)}"
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"the {noun} {path} does not exist"
    except OSError as error:
        return f"the {noun} {path} cannot be read ({error.strerror or error})"
    if stat.S_ISREG(found.st_mode):
        return ""
    return f"the {noun} {path} must be a regular file, got {_kind_of(found)}"


def _kind_of(found: os.stat_result) -> str:
    """Returns what a path is that is not a regular file."""
    if stat.S_ISDIR(found.st_mode):
        return "a folder"
    if stat.S_ISFIFO(found.st_mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(found.st_mode) else "a device"


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the lines that are not blank, each with its location for messages."""
    for number, line in enumerate(iterate_lines(path), start=1):
        # Spaces outside of ASCII are blank too, and a line of them has no first word.
        if (text := line.decode("utf-8")).strip():
            yield f"{path}, line {number}", text


# ---- TSV ------------------------------------------------------------------------------------------------------------


def open_table(path: Path) -> tuple[str, list[str], Iterator[tuple[str, str]]]:
    """Returns the location of the header line of a table, the columns that it names, and the lines after it."""
    lines = numbered_lines(path)
    location, header = next(lines, (f"{path}, line 1", ""))
    return location, [name.strip() for name in header.split("\t")], lines


def selected_rows(
    path: Path, names: Sequence[str], lines: Iterator[tuple[str, str]], split: str
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the location and the cells by the names of their columns, of each row of a split.

    Args:
        path: the table, for messages.
        names, lines: from `open_table`.
        split: selects the rows with this value in the column `split`, which must be there; "" selects all rows.

    Raises:
        UserError: a row has more or fewer cells, or no row has the split.
    """
    splits: set[str] = set()
    for location, line in lines:
        cells = line.split("\t")
        if len(cells) != len(names):
            raise UserError(
                f"{location}: expected {len(names)} columns (the header line names {len(names)}), got {len(cells)}"
            )
        row = dict(zip(names, cells))
        splits.add(row.get("split", ""))
        if not split or row["split"] == split:
            yield location, row
    if split and splits and split not in splits:
        raise UserError(f"{path}: no row has the split {split!r}; the splits are {', '.join(sorted(splits))}")


def _table_rows(path: Path, split: str) -> _Rows:
    location, names, lines = open_table(path)
    for required in ("path", "text", "split") if split else ("path", "text"):
        if names.count(required) != 1:
            times = "none" if required not in names else "more than one"
            raise UserError(
                f"{location}: the header line must have one column {required!r}, got {times}; the columns, separated "
                f"by tabs, are {', '.join(names)[:200]}"
            )
    for location, row in selected_rows(path, names, lines, split):
        if not row["path"].strip():
            raise UserError(f"{location}: the column 'path' must not be empty")
        yield (
            location,
            Utterance(
                row["path"], _beside(path, row["path"]), row["text"].strip(), speaker=row.get("speaker", "").strip()
            ),
        )


# ---- JSON lines -----------------------------------------------------------------------------------------------------


def _json_rows(path: Path) -> _Rows:
    names: dict[tuple[str, float, float], str] = {}
    taken: set[str] = set()
    for location, line in numbered_lines(path):
        row = _json_object(line, location)
        audio, text = (_json_text(row.get(key), location, key) for key in ("audio_filepath", "text"))
        if not audio.strip():
            raise UserError(f"{location}: 'audio_filepath' must not be empty")
        start, seconds = (_seconds(row.get(key), location, key) for key in ("offset", "duration"))
        stretch = (audio, start, seconds)
        if stretch not in names:
            name = f"{audio}@{_shortest(start)}" if start else audio
            while name in taken:
                name += f"+{_shortest(seconds)}"
            names[stretch] = name
            taken.add(name)
        yield location, Utterance(names[stretch], _beside(path, audio), text.strip(), start, seconds)


def _json_object(line: str, location: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{location}: not valid JSON ({error})") from None
    except ValueError:
        # Python converts no more digits, which would take time with their square.
        raise UserError(f"{location}: a number must have at most 4,300 digits, got more") from None
    if not isinstance(row, dict):
        raise UserError(f"{location}: expected a JSON object")
    return row


def _json_text(value: Any, location: str, key: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{location}: {key!r} is missing or not a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        # JSON can write half of a surrogate pair, which is no character and has no UTF-8.
        half = ord(value[error.start])
        raise UserError(f"{location}: {key!r} must be text, got half of a surrogate pair (\\u{half:04x})") from None
    return value


def _seconds(value: Any, location: str, key: str) -> float:
    """Converts a number of seconds, given as a number or as text, to a float; None becomes 0."""
    try:
        seconds = 0.0 if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if isinstance(value, bool) or not 0.0 <= seconds < math.inf:
        raise UserError(f"{location}: {key!r} must be a number of seconds, at least 0, got {reprlib.repr(value)}")
    if seconds > _MOST_SECONDS:
        raise UserError(
            f"{location}: {key!r} must be a number of seconds, at most {_MOST_SECONDS:.0e}, got {reprlib.repr(value)}"
        )
    return seconds


def _shortest(seconds: float) -> str:
    """Returns the shortest text that no other number has."""
    return repr(seconds).removesuffix(".0")


# ---- Kaldi ----------------------------------------------------------------------------------------------------------


def _kaldi_rows(folder: Path) -> _Rows:
    for required in ("wav.scp", "text"):
        if not (folder / required).is_file():
            raise UserError(f"{folder}: a Kaldi folder must have the files wav.scp and text; {required} is missing")
    recordings: dict[str, str] = {}
    for location, key, path in _kaldi_table(folder / "wav.scp"):
        if path.endswith("|"):
            raise UserError(
                f"{location}: {key} must be a file, got a command, which is not supported; write its output to a file "
                "and give the path"
            )
        if not path:
            raise UserError(f"{location}: {key} must have a path, got none")
        recordings[key] = _beside(folder / "wav.scp", path)
    has_segments = (folder / "segments").is_file()
    segments = dict(_kaldi_segments(folder, recordings)) if has_segments else {}
    for location, key, text in _kaldi_table(folder / "text"):
        if has_segments and key in segments:
            recording, start, seconds = segments[key]
            yield location, Utterance(key, recordings[recording], text, start, seconds)
        elif not has_segments and key in recordings:
            yield location, Utterance(key, recordings[key], text)
        else:
            raise UserError(
                f"{location}: utterance {key} is not in {folder / ('segments' if has_segments else 'wav.scp')}"
            )


def _kaldi_table(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields location, first word and rest of each line. Raises UserError if a first word occurs twice."""
    locations: dict[str, str] = {}
    for location, line in numbered_lines(path):
        key, *rest = line.split(None, 1)
        if key in locations:
            raise UserError(f"{location}: {key} is listed twice, first in {locations[key]}")
        locations[key] = location
        yield location, key, rest[0].strip() if rest else ""


def _kaldi_segments(folder: Path, recordings: dict[str, str]) -> Iterator[tuple[str, tuple[str, float, float]]]:
    for location, key, rest in _kaldi_table(folder / "segments"):
        words = rest.split()
        if len(words) != 3:
            raise UserError(
                f"{location}: expected 4 words (an utterance, its recording, start and end), got {len(words) + 1}"
            )
        recording, start, end = words[0], _seconds(words[1], location, "start"), words[2]
        if recording not in recordings:
            raise UserError(f"{location}: recording {recording} is not in {folder / 'wav.scp'}")
        if end in ("-1", "-1.0"):
            yield key, (recording, start, 0.0)
            continue
        seconds = _seconds(end, location, "end") - start
        if seconds <= 0:
            raise UserError(f"{location}: the end of {key} must be after its start, got {words[1]} to {end}")
        yield key, (recording, start, seconds)


def _beside(manifest: Path, path: str) -> str:
    """Returns an audio path of a manifest, relative to the folder of the manifest."""
    return str(manifest.parent / path.strip())
