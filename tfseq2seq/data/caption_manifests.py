"""Manifests that list pictures with captions: TSV tables, and the JSON of COCO captions.

A complete manifest is checked before any picture is read. Errors name the file and the line. The check only tests that
the files of the pictures exist; it does not open them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from tfseq2seq.data.manifests import file_fault, open_table, selected_rows
from tfseq2seq.errors import UserError
from tfseq2seq.files import iterate_lines, read_file

# The captions of all of COCO take 90 MB.
_LARGEST_JSON = 1 << 30
# What the columns are called; the first name is the usual one.
_PATH, _TEXT = ("path", "image"), ("text", "caption")


@dataclass(frozen=True)
class Picture:
    """A picture with its captions, at least one.

    Attributes:
        path: the file.
        captions: the captions, in the order of the manifest.
    """

    path: str
    captions: tuple[str, ...]


# A location for messages, such as "file, line 3", the path of a picture as it is written there, and a caption.
_Rows = Iterator[tuple[str, str, str]]


def read_pictures(path: str | Path, split: str = "", clips: bool = False) -> list[Picture]:
    """Reads the pictures of a manifest in the order in which it first names them.

    Paths are relative to the folder of the manifest, and must not lead out of it; absolute paths can. There are two
    formats, which are detected from the content:

    - TSV: a header line names the columns. `path` (or `image`) and `text` (or `caption`) are required. A picture with
      several captions has a row for each. `split` is used to select a split, and other columns are ignored.
    - COCO captions (Chen et al. 2015): a JSON object with "images", each with "id" and "file_name", and "annotations",
      each with "image_id" and "caption". Pictures without an annotation are ignored.

    Args:
        path: the file; a TSV file can be compressed (.gz).
        split: selects the rows of a TSV manifest with this value in the column `split`; "" selects all rows.
        clips: whether what is listed are clips, each of which can also be a folder of frames.

    Raises:
        UserError: the manifest is not valid, or the file of a picture is missing; the message has the place.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: must be a manifest of pictures (TSV or COCO JSON), got a folder")
    if next(iterate_lines(path)).lstrip().startswith(b"{"):
        if split:
            raise UserError(
                f"{path}: must be a TSV manifest to select the split {split!r}; COCO captions have no splits"
            )
        rows = _coco_rows(path)
    else:
        rows = _table_rows(path, split)
    captions: dict[str, list[str]] = {}
    for location, written, caption in rows:
        file = _beside(path, written, location)
        if file not in captions:
            if not (clips and Path(file).is_dir()) and (fault := file_fault(file, "clip" if clips else "picture")):
                raise UserError(f"{location}: {fault}")
            captions[file] = []
        captions[file].append(caption)
    if not captions:
        raise UserError(f"{path}: the manifest must have at least one picture with a caption, found none")
    return [Picture(file, tuple(texts)) for file, texts in captions.items()]


def _beside(manifest: Path, written: str, location: str) -> str:
    """Returns the path of a picture, which is relative to the folder of the manifest."""
    path = PurePath(written.strip())
    if not path.is_absolute() and ".." in path.parts:
        raise UserError(
            f"{location}: a relative path must stay below the folder of the manifest, got {written!r}; give an "
            "absolute path"
        )
    return str(manifest.parent / path)


def _table_rows(path: Path, split: str) -> _Rows:
    location, names, lines = open_table(path)
    columns = []
    for known in (_PATH, _TEXT, ("split",)) if split else (_PATH, _TEXT):
        found = [name for name in names if name in known]
        if len(found) != 1:
            wanted = " or ".join(map(repr, known))
            raise UserError(
                f"{location}: the header line must have one column {wanted}, got {len(found) or 'none'}; the columns, "
                f"separated by tabs, are {', '.join(names)[:200]}"
            )
        columns += found
    for location, row in selected_rows(path, names, lines, split):
        written, caption = row[columns[0]], row[columns[1]]
        if not written.strip():
            raise UserError(f"{location}: the column {columns[0]!r} must not be empty")
        yield location, written, caption.strip()


def _coco_rows(path: Path) -> _Rows:
    try:
        content = json.loads(read_file(path, _LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    files: dict[Any, str] = {}
    for location, number, name in _coco_entries(content, path, "images", "id", "file_name"):
        if number in files:
            raise UserError(f"{location}: the id {number} is given twice")
        files[number] = name
    for location, number, caption in _coco_entries(content, path, "annotations", "image_id", "caption"):
        if number not in files:
            raise UserError(f"{location}: image_id {number} is not among the images")
        yield location, files[number], caption.strip()


def _coco_entries(content: Any, path: Path, name: str, number: str, text: str) -> Iterator[tuple[str, Any, str]]:
    """Yields location, number and text of each entry of a list in a COCO file."""
    entries = content.get(name) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{path}: COCO captions must have a list {name!r}")
    for place, entry in enumerate(entries):
        location = f"{path}, {name}[{place}]"
        for key, kind, noun in ((number, int | str, "number"), (text, str, "text")):
            value = entry.get(key) if isinstance(entry, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UserError(f"{location}: {key!r} is missing or no {noun}")
        try:
            entry[text].encode("utf-8")
        except UnicodeEncodeError:
            raise UserError(f"{location}: {text!r} must be text, got half of a surrogate pair") from None
        yield location, entry[number], entry[text]
