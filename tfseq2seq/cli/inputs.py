"""What commands read: lines of text, prompts, dialogues, recordings, pictures, clips.

`READERS` has a function for each kind of source.

Inputs are read in windows, so that a command answers while it reads, and holds one window in memory.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tfseq2seq.cli.output_shards import count_lines, shard_bounds
from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError
from tfseq2seq.spec import AudioSpec, DialogueSpec, ImageSpec, NoSourceSpec, SourceSpec, TextSpec, VideoSpec, lookup

# The most bytes in a window, so that long lines and long recordings do not fill the memory.
_LARGEST_WINDOW = 1 << 26
# Inputs that keep on arriving, but slowly, are answered after so many seconds.
_LONGEST_WAIT = 1.0
# Of 16 bits at 16 kHz.
_BYTES_PER_SECOND = 32_000


@dataclass(frozen=True)
class Request:
    """The options of a command that say where its inputs are.

    Attributes:
        files: audio, picture or GIF files, or folders of frames.
        lines: file with one input per line.
        manifest: table of recordings, pictures or clips.
        split: rows of the manifest to use.
        standard_input: whether the command reads standard input if no file is given.
        lines_option: name of the option for `lines`, for messages.
        prefixes: file with the text that each output begins with.
        dialogues: file of dialogues, each turn of which after the first is an answer to be compared with.
        history: the number of turns before the one that is answered, for `dialogues`.
        shard: (i, n), to read only the i-th of n parts of the inputs, or None.
    """

    files: Sequence[str] = ()
    lines: str | None = None
    manifest: str | None = None
    split: str = ""
    standard_input: bool = False
    lines_option: str = "--input"
    prefixes: str | None = None
    shard: tuple[int, int] | None = None
    dialogues: str | None = None
    history: int = 0


@dataclass
class Inputs:
    """Inputs of a command: those of a window, or all.

    Attributes:
        values: Python values as the model's predictor takes them.
        references: the texts of the recordings or pictures or the answers, if the inputs come with them; of an input
            with several, a list.
        faults: (index, message) of inputs that cannot be used. Their values are empty.
        seconds: the duration of all recordings; 0 for text.
        utterances: the files and segments of the recordings, or the pictures: objects with a `path`.
        warnings: messages about recordings that are used and are not complete.
        prefixes: the texts that the outputs begin with, if there are any.
        begin: the number of inputs before these, for the numbers of lines in messages.
        lines: the number of the line of a file that each input is of, where it is not the number of the input.
        unread: (index, message) of inputs that could not be read. `InputStream` makes them faults with a name.
    """

    values: list[Any]
    references: Sequence[Any] | None = None
    faults: Sequence[tuple[int, str]] = ()
    seconds: float = 0.0
    utterances: Sequence[Any] = field(default_factory=list)
    warnings: Sequence[str] = ()
    prefixes: Sequence[str] | None = None
    begin: int = 0
    unread: Sequence[tuple[int, str]] = ()
    lines: Sequence[int] = ()

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
        unread = {index for index, _ in self.unread if self.unread is not faults}
        unread |= {index for index, _ in self.faults}
        for index, message in faults:
            if index in unread:
                continue
            place = f"{file}, line {self.begin + index + 1}" if file else self._name(index)
            self.faults = sorted([*self.faults, (index, f"{place}: {message}{remedy}")])

    def named(self, messages: Sequence[tuple[int, str]]) -> list[str]:
        """Messages about inputs, (index, message), with the names of these."""
        return [f"{self._name(index)}: {message}" for index, message in messages]

    def _name(self, index: int) -> str:
        if self.utterances:
            return str(self.utterances[index].path)
        return f"line {self.lines[index] if self.lines else self.begin + index + 1}"

    def in_place(self, found: Sequence[Any], nothing: Any) -> list[Any]:
        """What was found for the `valid` values, in the places of these, and `nothing` in the place of the others."""
        each = dict(zip(self.answered, found, strict=True))
        return [each.get(index, nothing) for index in range(len(self.values))]


class InputStream:
    """The inputs of a command, in windows.

    Windows of a file depend on its content alone, so that a command that is continued has the same ones. Windows of a
    pipe or a terminal end when no further line is there.

    Args:
        items: what the inputs are made of, such as lines. None among them tells that nothing further is there yet.
        read: makes the inputs of some items.
        size: the number of bytes that an item takes, roughly.
        count: the number of items, or a function that counts them; None if that is not known.
        arriving: whether the items arrive one after the other.
        typed: whether a user types them.
        tally: a function that counts the items even if it has to read all of them; None if they can be read only once.
        begin: the number of inputs before the first item, for the numbers of lines in messages.

    Attributes:
        first: the number of inputs in the first window.
        items: of a stream that is `gathered`, what its inputs are made of.
    """

    items: Sequence[Any] = ()

    def __init__(
        self,
        items: Iterable[Any],
        read: Callable[[list[Any]], Inputs],
        size: Callable[[Any], int] = len,
        count: int | Callable[[], int] | None = None,
        arriving: bool = False,
        typed: bool = False,
        tally: Callable[[], int] | None = None,
        begin: int = 0,
    ):
        self._items, self._read, self._size, self._count = iter(items), read, size, count
        self._tally, self._begin = tally, begin
        self.arriving, self.typed = arriving, typed
        self._held: list[Any] = []
        self._passed = 0
        self.first = 0

    def count(self) -> int | None:
        """The number of inputs. None if all of them would have to be read to know it."""
        return self._count() if callable(self._count) else self._count

    def windows(self, most: int) -> Iterator[Inputs]:
        """Yields the inputs in windows of at most so many."""
        while window := self._window(most):
            found = self._inputs(window, self._begin + self._passed)
            self._passed += len(window)
            yield found

    def skip(self, count: int, most: int, last: int) -> tuple[int, Inputs]:
        """Skips inputs up to the beginning of the window that has the one at place `count`.

        Args:
            count: the number of inputs that need not be answered again.
            most: the most inputs in a window.
            last: the number of inputs to return.

        Returns:
            The number of inputs skipped, and the last ones of them.

        Raises:
            UserError: there are fewer inputs than `count`.
        """
        skipped, end = 0, collections.deque[Any](maxlen=last)
        while skipped < count:
            window = self._next(min(most, count - skipped)) if self.arriving else self._window(most)
            if not window:
                raise UserError(
                    f"--resume: --output has the outputs of {count:,} inputs, but there are only {skipped:,} inputs; "
                    "give the same inputs again, or begin anew without --resume"
                )
            if skipped + len(window) > count:
                self._held = window
                break
            skipped += len(window)
            end.extend(window)
        self._passed = skipped
        return skipped, self._inputs(list(end), self._begin + skipped - len(end)) if end else Inputs([])

    def all(self) -> Inputs:
        """Reads all inputs at once."""
        return self._inputs([item for item in self._items if item is not None], self._begin)

    def _inputs(self, items: list[Any], begin: int) -> Inputs:
        found = self._read(items)
        found.begin = begin
        found.leave_out(found.unread)
        return found

    def gathered(self) -> InputStream:
        """A stream that knows its count, because all items, such as lines or the names of recordings, are read."""
        items = [item for item in self._items if item is not None]
        stream = InputStream(items, self._read, self._size, len(items), begin=self._begin)
        stream.items = items
        return stream

    def part(self, index: int, of: int) -> InputStream:
        """A stream of one of several contiguous parts of the inputs; see `shard_bounds`.

        Args:
            index: the part, from 1.
            of: the number of parts.

        Raises:
            UserError: the inputs can be read only once, so that it is not known where a part begins.
        """
        if self._tally is None:
            raise UserError(
                "--shard: needs inputs that can be counted first, got standard input or a pipe; write them to a file, "
                "and give it with --input"
            )
        begin, end = shard_bounds(self._tally(), index, of)
        items = itertools.islice((item for item in self._items if item is not None), begin, end)
        return InputStream(items, self._read, self._size, end - begin, begin=begin)

    def with_prefixes(self, path: str) -> InputStream:
        """A stream that also has a line of a file for each input."""

        def read(pairs: list[Any]) -> Inputs:
            found = self._read([item for item, _ in pairs])
            return dataclasses.replace(found, prefixes=[prefix for _, prefix in pairs])

        def tally() -> int:
            assert self._tally is not None
            count = self._tally()
            if (prefixes := count_lines(path)) != count:
                raise UserError(f"{path}: must have one line for each of the {count} inputs, got {prefixes}")
            return count

        return InputStream(
            _with_prefixes(self._items, path),
            read,
            lambda pair: self._size(pair[0]),
            self._count,
            self.arriving,
            self.typed,
            tally if self._tally else None,
        )

    def _next(self, count: int) -> list[Any]:
        items = list(itertools.islice((item for item in self._items if item is not None), count))
        self.first = self.first or len(items)
        return items

    def _window(self, most: int) -> list[Any]:
        window, self._held = self._held, []
        if window:
            return window
        size, began = 0, 0.0
        for item in self._items:
            if item is None:
                if window:
                    break
                continue
            window.append(item)
            size += self._size(item)
            if len(window) >= most or size >= _LARGEST_WINDOW:
                break
            if self.arriving:
                began = began or time.monotonic()
                if time.monotonic() - began > _LONGEST_WAIT:
                    break
        self.first = self.first or len(window)
        return window


def _with_prefixes(items: Iterator[Any], path: str) -> Iterator[tuple[Any, str] | None]:
    from tfseq2seq.files import iterate_lines

    prefixes, count = iterate_lines(path, pipe=True), 0
    for item in items:
        if item is None:
            yield None
            continue
        prefix = next(prefixes, None)
        if prefix is None:
            inputs = count + 1 + sum(other is not None for other in items)
            raise UserError(f"{path}: must have one line for each of the {inputs} inputs, got {count}")
        count += 1
        yield item, prefix.decode("utf-8")
    if further := sum(1 for _ in prefixes):
        raise UserError(f"{path}: must have one line for each of the {count} inputs, got {count + further}")


def open_inputs(spec: SourceSpec, request: Request) -> InputStream:
    """Opens the inputs of a command for a model with the given source.

    Raises:
        UserError: an option is for another kind of source, or a file is not valid. An error in the middle of a file is
            raised when it is read.
    """
    stream = lookup(READERS, spec)(spec, request)
    if request.prefixes:
        stream = stream.with_prefixes(request.prefixes)
    return stream.part(*request.shard) if request.shard else stream


def read_inputs(spec: SourceSpec, request: Request) -> Inputs:
    """Reads all inputs of a command; see `open_inputs`."""
    return open_inputs(spec, request).all()


def _read_lines(spec: SourceSpec, request: Request, read: Callable[[list[Any]], Inputs] = Inputs) -> InputStream:
    from tfseq2seq.files import is_arriving, iterate_arriving

    for option, value in (("FILES", request.files), ("--manifest", request.manifest), ("--split", request.split)):
        if value:
            raise UserError(
                f"{option}: needs a model of recordings, pictures or clips, got source.kind {spec.kind}; give a "
                f"file of lines with {request.lines_option}"
            )
    if request.lines:
        path = request.lines
        texts = (line if line is None else line.decode("utf-8") for line in iterate_arriving(path))
        regular = os.path.isfile(path)
        # Lines of a compressed file cannot be counted without decompressing it.
        count = (lambda: _count_lines(path)) if regular and not path.endswith(".gz") else None
        tally = (lambda: count_lines(path)) if regular else None
        return InputStream(texts, read, count=count, arriving=not regular, tally=tally)
    if not request.standard_input:
        raise UserError(f"{request.lines_option}: must be given for a model with source.kind {spec.kind}")
    file = standard_input("a file of lines with --input")
    return InputStream(standard_lines(file), read, arriving=is_arriving(file), typed=file.isatty())


def _count_lines(path: str) -> int:
    with open(path, "rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        count, last = 0, b"\n"
        for block in blocks:
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def _read_recordings(spec: SourceSpec, request: Request) -> InputStream:
    from tfseq2seq.data.manifests import Utterance, read_manifest

    _check_files(spec, request, "audio files")
    if request.manifest:
        utterances = read_manifest(request.manifest, request.split)
    else:
        utterances = [Utterance(name, name, "") for name in request.files or ("/dev/stdin",)]
    assert isinstance(spec, AudioSpec)
    audio, manifest = spec, request.manifest

    def read(window: list[Utterance]) -> Inputs:
        import_tensorflow()
        from tfseq2seq.sources.recordings import read_recordings

        found = read_recordings(window, audio)
        references = [utterance.text for utterance in window] if manifest else None
        seconds = found.seconds(audio.sample_rate)
        return Inputs(list(found.samples), references, found.faults, seconds, window, found.warnings)

    # The one recording that standard input contains cannot be divided.
    tally = (lambda: len(utterances)) if request.files or request.manifest else None
    return InputStream(utterances, read, _recording_size, len(utterances), tally=tally)


def _check_files(spec: SourceSpec, request: Request, noun: str) -> None:
    """Raises `UserError` unless a request is for files of a kind, or a manifest of them."""
    files = f"{noun} or --manifest" if request.standard_input else "--manifest"
    if request.lines:
        raise UserError(f"{request.lines_option}: needs a model of text, got source.kind {spec.kind}; give {files}")
    if request.files and request.manifest:
        raise UserError(f"--manifest: cannot be combined with {noun}; give one of them")
    if request.split and not request.manifest:
        raise UserError("--split: needs --manifest, as it selects rows of a manifest")
    if not (request.manifest or request.files or request.standard_input):
        raise UserError(f"--manifest: must be given for a model with source.kind {spec.kind}")
    if not (request.manifest or request.files):
        standard_input(f"{noun} or --manifest")


def _read_pictures(spec: SourceSpec, request: Request, clips: bool = False) -> InputStream:
    from tfseq2seq.data.caption_manifests import Picture, read_pictures

    _check_files(spec, request, "GIF files, folders of frames" if clips else "picture files")
    manifest = request.manifest
    if manifest:
        pictures = read_pictures(manifest, request.split, clips)
    else:
        pictures = [Picture(name, ()) for name in request.files or ("/dev/stdin",)]

    def read(window: list[Picture]) -> Inputs:
        values: list[Any] = []
        faults = []
        for index, picture in enumerate(window):
            path = Path(picture.path)
            try:
                # The model reads those frames of a folder that it needs.
                values.append(path if clips and path.is_dir() else path.read_bytes())
            except OSError as error:
                values.append(b"")
                faults.append((index, f"{picture.path}: cannot be read ({error.strerror or error})"))
        references = [picture.captions for picture in window] if manifest else None
        return Inputs(values, references, faults, utterances=window)

    # The one picture that standard input contains cannot be divided.
    tally = (lambda: len(pictures)) if request.files or manifest else None
    return InputStream(pictures, read, _recording_size, len(pictures), tally=tally)


def _recording_size(utterance: Any) -> int:
    """Bytes that a recording or picture takes in its file; those of a segment are taken from its duration."""
    try:
        size = os.path.getsize(utterance.path)
    except OSError:
        return 0
    seconds = getattr(utterance, "seconds", 0.0)
    return min(size, round(seconds * _BYTES_PER_SECOND)) if seconds else size


def _read_dialogues(spec: DialogueSpec, request: Request) -> InputStream:
    """Dialogues of which the last turn is answered, one on each line, or all answers of a file of dialogues."""
    from tfseq2seq.features.turns import Turn, marked, parse_line

    if request.dialogues:
        import_tensorflow()
        from tfseq2seq.data.dialogues import contexts_and_answers

        found = contexts_and_answers(request.dialogues, spec, request.history)

        def made(items: list[Any]) -> Inputs:
            contexts, answers, lines = zip(*items, strict=True)
            return Inputs(list(contexts), list(answers), lines=lines)

        # In bytes, roughly.
        return InputStream(zip(*found, strict=True), made, lambda item: len(item[1]), len(found[0]))

    def read(lines: list[str]) -> Inputs:
        values, unread = [], []
        for index, line in enumerate(lines):
            turns: list[Turn] = []
            try:
                turns = parse_line(line, spec.separator)
            except UserError as error:
                unread.append((index, str(error)))
            values.append(marked(turns))
        return Inputs(values, unread=unread)

    return _read_lines(spec, request, read)


READERS: dict[type, Callable[[Any, Request], InputStream]] = {
    NoSourceSpec: _read_lines,
    TextSpec: _read_lines,
    DialogueSpec: _read_dialogues,
    AudioSpec: _read_recordings,
    ImageSpec: _read_pictures,
    VideoSpec: functools.partial(_read_pictures, clips=True),
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


def standard_lines(file: BinaryIO) -> Iterator[str | None]:
    """Yields the lines of the standard input as text, and None whenever no further line has arrived.

    Raises:
        UserError: a line is not UTF-8.
    """
    from tfseq2seq.files import arriving_lines, is_arriving

    number = 0
    for line in arriving_lines(file) if is_arriving(file) else file:
        if line is None:
            yield None
            continue
        number += 1
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: byte {error.start + 1} is not UTF-8") from None
