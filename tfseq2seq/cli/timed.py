"""Writes transcripts of recordings with the times of their words, or of long recordings by windows of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfseq2seq.cli.answering import window_size
from tfseq2seq.cli.exit import one_line, tell, warn, warn_of_cut
from tfseq2seq.cli.inputs import InputStream
from tfseq2seq.cli.runs import open_predictor
from tfseq2seq.errors import UserError
from tfseq2seq.progress import progress_bar

if TYPE_CHECKING:
    from tfseq2seq.data.manifests import Utterance
    from tfseq2seq.run import Run


def write_timed(
    runs: Sequence[Run],
    weights: str | None,
    stream: InputStream,
    times: str | None,
    window: float | None,
    overlap: float | None,
    output: str | None,
    batch: int,
) -> int:
    """Writes transcripts as lines, as JSON lines or as subtitles. A `window` cuts long recordings.

    Some recordings are in memory at a time. Lines are written to standard output as soon as they are there; files, and
    subtitles, when all are.

    Args:
        runs, weights: of the model.
        stream: the recordings.
        times: "srt", "vtt", "json", or None for lines of text.
        window, overlap: seconds.
        output: a file, or a folder for subtitles; None for standard output.
        batch: the number of recordings, or of windows of time, in a batch.

    Returns:
        The number of recordings that cannot be used. Their transcripts are empty.

    Raises:
        UserError: the options do not go together, or with the model.
    """
    stream = stream.gathered()
    names = _subtitle_names(stream.items, output) if times in ("srt", "vtt") else {}
    import numpy as np

    from tfseq2seq.files import write_whole
    from tfseq2seq.inference.long_audio import SECONDS_OF_MAX_LENGTH, transcribe_long, window_search
    from tfseq2seq.inference.transcripts import as_json_line, as_subtitles, moved
    from tfseq2seq.inference.word_times import Transcriber

    recipe = runs[0].recipe
    searched = window_search(recipe.search, window, recipe.model.decoder.position_limit) if window else None
    model = open_predictor(runs, weights, search=searched)
    transcriber = Transcriber(model, batch)
    if window and window > model.spec.max_input:
        raise UserError(f"--window: must be at most search.max_input ({model.spec.max_input} s), got {window:g}")
    shared = window / 6 if window and overlap is None else overlap or 0.0
    lines: list[str] = []
    # Of the words alone, those of all recordings are held.
    words: dict[Utterance, list[Any]] = {}
    cut: list[bool] = []
    faults = 0
    with progress_bar("transcribing", stream.count()) as advance:
        for inputs in stream.windows(window_size(batch)):
            warn(inputs.warnings)
            if not window:
                inputs.leave_out(model.faults(inputs.values), remedy="; --window cuts it")
            for _, message in inputs.faults:
                tell(message)
            faults += len(inputs.faults)
            # Of a recording without samples, the transcript is empty.
            values = inputs.in_place(inputs.valid, np.zeros(0, "float32"))
            found = transcribe_long(transcriber, values, window, shared) if window else transcriber.transcribe(values)
            for utterance, one in zip(inputs.utterances, found, strict=True):
                cut += one.cut
                one = moved(one, utterance.start)
                if names:
                    # A recording that is given twice has one set of subtitles.
                    words[utterance] = one.words
                    continue
                lines.append(as_json_line(utterance.path, one) if times else one_line(one.text))
            advance(len(values))
            if not output:
                for line in lines:
                    click.echo(line)
                lines = []
    if names:
        in_order = _words_of_files(words, names)
        contents = [as_subtitles(each, str(times), transcriber) for each in in_order]
        _write_subtitles([f"{name}.{times}" for name in names.values()], contents, output)
    elif output:
        write_whole(output, "".join(f"{line}\n" for line in lines).encode("utf-8"))
    # What a user sets is the limit of a short window.
    each = f" for every {SECONDS_OF_MAX_LENGTH:g} s" if window and window > SECONDS_OF_MAX_LENGTH else ""
    warn_of_cut(cut, recipe.search, "windows" if window else "outputs", each)
    return faults


def _subtitle_names(utterances: Sequence[Utterance], output: str | None) -> dict[str, str]:
    """The name of the subtitle file for each audio file, without its ending. Segments of a recording share a file."""
    names = {one.path: Path(one.path).stem for one in utterances}
    if len(names) > 1 and not output:
        raise UserError(f"--output: must name a folder for the subtitles of {len(names)} recordings, got no --output")
    first: dict[str, str] = {}
    for path, stem in names.items():
        if first.setdefault(stem, path) != path:
            raise UserError(
                f"{first[stem]} and {path}: their subtitles would have the same name {stem}; transcribe them separately"
            )
    return names


def _words_of_files(words: Mapping[Utterance, list[Any]], paths: Iterable[str]) -> list[list[Any]]:
    """The words of each audio file, in the order of time. Those of its segments are together."""
    found: dict[str, list[Any]] = {path: [] for path in paths}
    for utterance, own in words.items():
        found[utterance.path] += own
    return [sorted(each, key=lambda word: word.start) for each in found.values()]


def _write_subtitles(names: Sequence[str], contents: Sequence[str], output: str | None) -> None:
    """Writes subtitles to files of these names in the folder `output`, or the only ones to this file or as output."""
    from tfseq2seq.files import names_folder, write_whole

    if output and (len(contents) > 1 or names_folder(output)):
        for name, content in zip(names, contents, strict=True):
            write_whole(Path(output, name), content.encode("utf-8"))
    elif output:
        write_whole(output, contents[0].encode("utf-8"))
    else:
        click.echo("".join(contents), nl=False)
