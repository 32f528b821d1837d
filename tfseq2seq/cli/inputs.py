"""What commands are asked about: lines and recordings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.data.manifests import Utterance
    from tfseq2seq.sources.recordings import Recordings
    from tfseq2seq.spec import AudioSpec


def utterances_of(files: Sequence[str], manifest: str | None, split: str) -> list[Utterance]:
    """The recordings a command is asked about: files, the rows of a manifest, or one file on standard input."""
    from tfseq2seq.data.manifests import Utterance, read_manifest

    if files and manifest:
        raise UserError("give audio files or --manifest, not both")
    if split and not manifest:
        raise UserError("--split chooses rows of --manifest, and none is given")
    if manifest:
        return read_manifest(manifest, split)
    return [Utterance(name, name, "") for name in files or ("/dev/stdin",)]


def standard_input() -> list[str]:
    content = sys.stdin.buffer.read()
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: byte {error.start + 1} is not UTF-8") from None
    return texts


def recordings_of(manifest: str, split: str, audio: AudioSpec) -> Recordings:
    """The recordings that a manifest lists."""
    utterances = utterances_of((), manifest, split)
    import_tensorflow()
    from tfseq2seq.sources.recordings import read_recordings

    return read_recordings(utterances, audio)
