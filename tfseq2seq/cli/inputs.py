"""What commands read: lines of text, prompts, recordings. `READERS` has a function for each kind of source."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError
from tfseq2seq.spec import AudioSpec, NoSourceSpec, SourceSpec, TextSpec, lookup


@dataclass(frozen=True)
class Request:
    """The options of a command that say where its inputs are.

    Attributes:
        files: audio files.
        lines: file with one input per line.
        manifest: table of recordings.
        split: rows of the manifest to use.
        standard_input: whether the command reads standard input if no file is given.
        lines_option: name of the option for `lines`, for messages.
    """

    files: Sequence[str] = ()
    lines: str | None = None
    manifest: str | None = None
    split: str = ""
    standard_input: bool = False
    lines_option: str = "--input"


@dataclass
class Inputs:
    """The inputs of a command.

    Attributes:
        values: Python values as the model's predictor takes them.
        references: the texts of the recordings, if there is a manifest.
        faults: (index, message) of inputs that cannot be used. Their values are empty.
        seconds: the duration of all recordings; 0 for text.
        utterances: the files and segments of the recordings.
        warnings: messages about recordings that are used and are not complete.
    """

    values: list[Any]
    references: list[str] | None = None
    faults: Sequence[tuple[int, str]] = ()
    seconds: float = 0.0
    utterances: Sequence[Any] = field(default_factory=list)
    warnings: Sequence[str] = ()

    @property
    def valid(self) -> list[Any]:
        """The values of inputs without a fault."""
        return [self.values[index] for index in self.answered]

    @property
    def answered(self) -> list[int]:
        """The indices of inputs without a fault."""
        wrong = {index for index, _ in self.faults}
        return [index for index in range(len(self.values)) if index not in wrong]

    def leave_out(self, faults: Sequence[tuple[int, str]], file: str = "", remedy: str = "") -> None:
        """Adds faults to those that are known, with the names of their inputs.

        Args:
            faults: (index, message).
            file: that the messages are about, if not that of the inputs.
            remedy: the end of each message.
        """
        for index, message in faults:
            place = f"{file}, line {index + 1}" if file else self._name(index)
            self.faults = sorted([*self.faults, (index, f"{place}: {message}{remedy}")])

    def _name(self, index: int) -> str:
        return str(self.utterances[index].path) if self.utterances else f"line {index + 1}"

    def in_place(self, found: Sequence[Any], nothing: Any) -> list[Any]:
        """What was found for the `valid` values, in the places of these, and `nothing` in the place of the others."""
        each = dict(zip(self.answered, found, strict=True))
        return [each.get(index, nothing) for index in range(len(self.values))]


def read_inputs(spec: SourceSpec, request: Request) -> Inputs:
    """Reads the inputs of a command for a model with the given source.

    Raises:
        UserError: an option is for another kind of source, or a file is not valid.
    """
    return lookup(READERS, spec)(spec, request)


def _read_lines(spec: SourceSpec, request: Request) -> Inputs:
    from tfseq2seq.files import read_lines

    for option, value in (("FILES", request.files), ("--manifest", request.manifest), ("--split", request.split)):
        if value:
            raise UserError(
                f"{option}: needs a model of recordings, got source.kind {spec.kind}; give a file of lines with "
                f"{request.lines_option}"
            )
    if request.lines:
        return Inputs(read_lines(request.lines, pipe=True))
    if not request.standard_input:
        raise UserError(f"{request.lines_option}: must be given for a model with source.kind {spec.kind}")
    return Inputs(_standard_input())


def _read_recordings(spec: SourceSpec, request: Request) -> Inputs:
    from tfseq2seq.data.manifests import Utterance, read_manifest

    files = "audio files or --manifest" if request.standard_input else "--manifest"
    if request.lines:
        raise UserError(f"{request.lines_option}: needs a model of text, got source.kind {spec.kind}; give {files}")
    if request.files and request.manifest:
        raise UserError("--manifest: cannot be combined with audio files; give one of them")
    if request.split and not request.manifest:
        raise UserError("--split: needs --manifest, as it selects rows of a manifest")
    if request.manifest:
        utterances = read_manifest(request.manifest, request.split)
    elif request.files or request.standard_input:
        if not request.files:
            standard_input("audio files or --manifest")
        utterances = [Utterance(name, name, "") for name in request.files or ("/dev/stdin",)]
    else:
        raise UserError(f"--manifest: must be given for a model with source.kind {spec.kind}")
    import_tensorflow()
    from tfseq2seq.sources.recordings import read_recordings

    assert isinstance(spec, AudioSpec)
    found = read_recordings(utterances, spec)
    references = [utterance.text for utterance in utterances] if request.manifest else None
    seconds = found.seconds(spec.sample_rate)
    return Inputs(list(found.samples), references, found.faults, seconds, utterances, found.warnings)


READERS: dict[type, Callable[[Any, Request], Inputs]] = {
    NoSourceSpec: _read_lines,
    TextSpec: _read_lines,
    AudioSpec: _read_recordings,
}


def standard_input(instead: str) -> BinaryIO:
    """Returns the standard input.

    Args:
        instead: what the user can give instead, for the message.

    Raises:
        UserError: it is closed.
    """
    if sys.stdin is None:
        raise UserError(f"standard input: must be open, and it is closed; give {instead}")
    return sys.stdin.buffer


def _standard_input() -> list[str]:
    content = standard_input("a file of lines with --input").read()
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: byte {error.start + 1} is not UTF-8") from None
    return texts
