"""Lists of recordings with what is said in them: TSV tables, JSON lines as NeMo has them, Kaldi folders.

A manifest is checked whole before anything is read from a recording: every fault names its file and line. Audio files
are only looked for, not opened.
"""

from __future__ import annotations

import collections
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfseq2seq.errors import UserError
from tfseq2seq.files import generated_folder, iterate_lines, write_wave

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Utterance:
    """A recording, or a stretch of one, and its text.

    Attributes:
        name: unique in its manifest.
        path: the audio file.
        text: what is said.
        start: seconds into the file at which it begins.
        seconds: how long it is (0: up to the end of the file).
        speaker: who says it, where the manifest tells.
    """

    name: str
    path: str
    text: str
    start: float = 0.0
    seconds: float = 0.0
    speaker: str = ""


def read_manifest(path: str | Path, split: str = "") -> list[Utterance]:
    """The utterances a manifest lists, in its order. Audio paths in it are relative to its own folder.

    Three forms, told apart by what is there:

    - a folder as Kaldi has it: `wav.scp` (id, path), `text` (id, words) and, where utterances are stretches of longer
      recordings, `segments` (id, recording's id, start, end; an end of -1 is that of the recording). What has no line
      in `text` is left out;
    - JSON lines: objects with "audio_filepath", "text", and optionally "offset" and "duration" in seconds. Names are
      the paths, with @ and the offset where there is one;
    - TSV: a header line names the columns, of which `path` and `text` are needed, `split` is used where a split is
      asked for, `speaker` is kept, and others are left alone. Names are the paths.

    Args:
        path: the file, plain or .gz, or the folder.
        split: rows of a TSV manifest to take, by their column `split`; empty takes all rows.

    Raises:
        UserError: something in the manifest is wrong, or an audio file is missing; the message says which and where.
    """
    path = Path(path)
    if path.is_dir():
        rows = _kaldi_rows(path)
    elif next(iterate_lines(path)).lstrip().startswith(b"{"):
        rows = _json_rows(path)
    else:
        return _checked(_table_rows(path, split), path)
    if split:
        raise UserError(f"{path}: split {split!r} is asked for, and only a TSV manifest has a column for it")
    return _checked(rows, path)


# What readers yield: a place for messages, such as "file, line 3", and the utterance there.
_Rows = Iterator[tuple[str, Utterance]]


def write_recordings(table: Path, recordings: Iterable[tuple[str, str, np.ndarray, str]], rate: int) -> Path:
    """Writes recordings, and a table of them with the columns split, speaker, path, seconds, sample_rate and text.

    A recording becomes `recordings/<split>_<number>.wav` beside the table. Files of the same names are replaced, once
    all are written; the table comes last, so that one that is there tells of whole recordings.

    Args:
        table: a .tsv file.
        recordings: split, speaker (may be empty), float32 samples [S] from -1 to 1, and text, of each.
        rate: samples a second.

    Returns:
        The table.

    Raises:
        UserError: something cannot be written.
    """
    lines, counts = ["split\tspeaker\tpath\tseconds\tsample_rate\ttext\n"], collections.Counter[str]()
    with generated_folder(table.parent) as aside:
        folder = table.parent / "recordings"
        folder.mkdir(exist_ok=True)
        names = []
        for split, speaker, samples, text in recordings:
            counts[split] += 1
            names.append(f"{split}_{counts[split]:05d}.wav")
            write_wave(aside / names[-1], samples, rate)
            seconds = len(samples) / rate
            lines.append(f"{split}\t{speaker or '-'}\trecordings/{names[-1]}\t{seconds:.4f}\t{rate}\t{text}\n")
        (aside / table.name).write_text("".join(lines), encoding="utf-8", newline="\n")
        table.unlink(missing_ok=True)
        for name in names:
            (aside / name).replace(folder / name)
        (aside / table.name).replace(table)
    return table


def _checked(rows: _Rows, path: Path) -> list[Utterance]:
    locations: dict[str, str] = {}
    utterances, found = [], set()
    for location, utterance in rows:
        if utterance.name in locations:
            raise UserError(f"{location}: {utterance.name} is there twice, first in {locations[utterance.name]}")
        locations[utterance.name] = location
        # Segments share files.
        if utterance.path not in found and not os.path.isfile(utterance.path):
            raise UserError(f"{location}: there is no audio file {utterance.path}")
        found.add(utterance.path)
        utterances.append(utterance)
    if not utterances:
        raise UserError(f"{path}: the manifest has no utterance")
    return utterances


def _numbered(path: Path) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, each with its place for messages."""
    for number, line in enumerate(iterate_lines(path), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.decode("utf-8")


# ---- TSV ------------------------------------------------------------------------------------------------------------


def _table_rows(path: Path, split: str) -> _Rows:
    lines = _numbered(path)
    location, header = next(lines, (f"{path}, line 1", ""))
    names = [name.strip() for name in header.split("\t")]
    for needed in ("path", "text", "split") if split else ("path", "text"):
        if names.count(needed) != 1:
            times = "no" if needed not in names else "more than one"
            raise UserError(
                f"{location}: {times} column {needed!r}; the header line names the columns, with tabs between them, here "
                f"{', '.join(names)[:200]}"
            )
    splits: set[str] = set()
    chosen = False
    for location, line in lines:
        cells = line.split("\t")
        if len(cells) != len(names):
            raise UserError(f"{location}: {len(cells)} columns, and the header line names {len(names)}")
        row = dict(zip(names, cells))
        splits.add(row.get("split", ""))
        if split and row["split"] != split:
            continue
        chosen = True
        if not row["path"].strip():
            raise UserError(f"{location}: the column 'path' is empty")
        yield (
            location,
            Utterance(
                row["path"], _beside(path, row["path"]), row["text"].strip(), speaker=row.get("speaker", "").strip()
            ),
        )
    if split and splits and not chosen:
        raise UserError(f"{path}: no row of split {split!r}; there are {', '.join(sorted(splits))}")


# ---- JSON lines -----------------------------------------------------------------------------------------------------


def _json_rows(path: Path) -> _Rows:
    for location, line in _numbered(path):
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{location}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{location}: a JSON object is expected")
        for key in ("audio_filepath", "text"):
            if not isinstance(row.get(key), str):
                raise UserError(f"{location}: {key!r} is missing or not a string")
        if not row["audio_filepath"].strip():
            raise UserError(f"{location}: 'audio_filepath' is empty")
        start, seconds = (_seconds(row.get(key), location, key) for key in ("offset", "duration"))
        name = f"{row['audio_filepath']}@{start:g}" if start else row["audio_filepath"]
        yield location, Utterance(name, _beside(path, row["audio_filepath"]), row["text"].strip(), start, seconds)


def _seconds(value: Any, location: str, key: str) -> float:
    """A number of seconds given as a number or as text; 0 for None."""
    try:
        seconds = 0.0 if value is None else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(value, bool) or not 0.0 <= seconds < math.inf:
        raise UserError(f"{location}: {key!r} is {value!r}; a number of seconds from 0 on is expected")
    return seconds


# ---- Kaldi ----------------------------------------------------------------------------------------------------------


def _kaldi_rows(folder: Path) -> _Rows:
    for needed in ("wav.scp", "text"):
        if not (folder / needed).is_file():
            raise UserError(f"{folder}: a Kaldi folder has the files wav.scp and text; there is no {needed}")
    recordings: dict[str, str] = {}
    for location, key, path in _kaldi_table(folder / "wav.scp"):
        if path.endswith("|"):
            raise UserError(
                f"{location}: {key} is a command, and commands are not run; write its output to a file and give the path"
            )
        if not path:
            raise UserError(f"{location}: {key} has no path")
        recordings[key] = _beside(folder / "wav.scp", path)
    segmented = (folder / "segments").is_file()
    stretches = dict(_kaldi_segments(folder, recordings)) if segmented else {}
    for location, key, text in _kaldi_table(folder / "text"):
        if segmented and key in stretches:
            recording, start, seconds = stretches[key]
            yield location, Utterance(key, recordings[recording], text, start, seconds)
        elif not segmented and key in recordings:
            yield location, Utterance(key, recordings[key], text)
        else:
            raise UserError(
                f"{location}: utterance {key} is not in {folder / ('segments' if segmented else 'wav.scp')}"
            )


def _kaldi_table(path: Path) -> Iterator[tuple[str, str, str]]:
    """Place, first word and rest of each line; no first word occurs twice."""
    locations: dict[str, str] = {}
    for location, line in _numbered(path):
        key, *rest = line.split(None, 1)
        if key in locations:
            raise UserError(f"{location}: {key} is there twice, first in {locations[key]}")
        locations[key] = location
        yield location, key, rest[0].strip() if rest else ""


def _kaldi_segments(folder: Path, recordings: dict[str, str]) -> Iterator[tuple[str, tuple[str, float, float]]]:
    for location, key, rest in _kaldi_table(folder / "segments"):
        words = rest.split()
        if len(words) != 3:
            raise UserError(f"{location}: an utterance, its recording, start and end are expected")
        recording, start, end = words[0], _seconds(words[1], location, "start"), words[2]
        if recording not in recordings:
            raise UserError(f"{location}: recording {recording} is not in {folder / 'wav.scp'}")
        if end in ("-1", "-1.0"):
            yield key, (recording, start, 0.0)
            continue
        seconds = _seconds(end, location, "end") - start
        if seconds <= 0:
            raise UserError(f"{location}: {key} ends at {end}, which is not after its start at {words[1]}")
        yield key, (recording, start, seconds)


def _beside(manifest: Path, path: str) -> str:
    """An audio path as a manifest gives it, relative to the manifest's folder."""
    return str(manifest.parent / path.strip())
