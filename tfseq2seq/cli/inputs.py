"""What commands read: lines of text, prompts, recordings. `READERS` has one for each kind of source."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError
from tfseq2seq.spec import AudioSpec, NoSourceSpec, SourceSpec, TextSpec


@dataclass(frozen=True)
class Request:
    """Where a command is told to read its inputs from.

    Attributes:
        files: audio files.
        lines: file with one input per line (--input or --source).
        manifest: table of recordings.
        split: rows of the manifest.
        standard_input: whether to read standard input where nothing else is given.
    """

    files: Sequence[str] = ()
    lines: str | None = None
    manifest: str | None = None
    split: str = ""
    standard_input: bool = False


@dataclass
class Inputs:
    """The inputs of a command.

    Attributes:
        values: Python values as the model's predictor takes them.
        references: the texts that belong to them, where the input has them.
        faults: (index, message) of inputs that cannot be used; their values are empty.
        seconds: how long recordings are together; 0 of other sources.
        utterances: of recordings, the files and stretches they come from.
    """

    values: list[Any]
    references: list[str] | None = None
    faults: Sequence[tuple[int, str]] = ()
    seconds: float = 0.0
    utterances: Sequence[Any] = field(default_factory=list)

    @property
    def valid(self) -> list[Any]:
        """The values of inputs without a fault."""
        wrong = {index for index, _ in self.faults}
        return [value for index, value in enumerate(self.values) if index not in wrong]


def read_inputs(spec: SourceSpec, request: Request) -> Inputs:
    """Reads the inputs of a command for a model with the given source.

    Raises:
        UserError: an option is for another kind of source, or a file is wrong.
    """
    return READERS[type(spec)](spec, request)


def _read_lines(spec: SourceSpec, request: Request) -> Inputs:
    from tfseq2seq.files import read_lines

    others = {"audio files": request.files, "--manifest": request.manifest, "--split": request.split}
    _refuse(others, "text", "a file of lines")
    if request.lines:
        return Inputs(list(read_lines(request.lines)))
    if not request.standard_input:
        raise UserError("the model reads text: give a file of lines with --input")
    return Inputs(_standard_input())


def _read_recordings(spec: SourceSpec, request: Request) -> Inputs:
    from tfseq2seq.data.manifests import Utterance, read_manifest

    _refuse({"--input": request.lines}, "recordings", "audio files or --manifest")
    if request.files and request.manifest:
        raise UserError("give audio files or --manifest, not both")
    if request.split and not request.manifest:
        raise UserError("--split chooses rows of --manifest, and no manifest is given")
    if request.manifest:
        utterances = read_manifest(request.manifest, request.split)
    elif request.files or request.standard_input:
        utterances = [Utterance(name, name, "") for name in request.files or ("/dev/stdin",)]
    else:
        raise UserError("the model reads recordings: give --manifest")
    import_tensorflow()
    from tfseq2seq.sources.recordings import read_recordings

    assert isinstance(spec, AudioSpec)
    found = read_recordings(utterances, spec)
    references = [utterance.text for utterance in utterances] if request.manifest else None
    return Inputs(list(found.samples), references, found.faults, found.seconds(spec.sample_rate), utterances)


READERS: dict[type, Callable[[Any, Request], Inputs]] = {
    NoSourceSpec: _read_lines,
    TextSpec: _read_lines,
    AudioSpec: _read_recordings,
}


def _refuse(given: Mapping[str, Any], noun: str, instead: str) -> None:
    for name, value in given.items():
        if value:
            raise UserError(f"{name}: cannot be used, as the model reads {noun}; give {instead}")


def _standard_input() -> list[str]:
    content = sys.stdin.buffer.read()
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: byte {error.start + 1} is not UTF-8") from None
    return texts
