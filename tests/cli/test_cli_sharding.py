"""A job is divided into parts, and the outputs of the parts are joined."""

import gzip
import json
import shutil

import pytest
from small_runs import BEST, SOURCES

from tfseq2seq.cli import answering
from tfseq2seq.cli.output_shards import shard_bounds
from tfseq2seq.runtime.outputs import Output


@pytest.mark.parametrize(("count", "of"), [(0, 3), (2, 3), (7, 1), (7, 3), (12, 4), (1000, 7)])
def test_parts_are_contiguous_and_of_equal_size(count, of):
    bounds = [shard_bounds(count, index, of) for index in range(1, of + 1)]
    assert bounds[0][0] == 0 and bounds[-1][1] == count
    assert all(end == begin for (_, end), (begin, _) in zip(bounds, bounds[1:]))
    sizes = [end - begin for begin, end in bounds]
    assert max(sizes) - min(sizes) <= 1


# ---- generate --shard -----------------------------------------------------------------------------------------------


@pytest.fixture
def capitals(monkeypatch, lively):
    """Options for a run whose model is replaced by one that writes each input and its prefix in capitals."""

    def open_model(runs, *_):
        def ask(window):
            prefixes = window.prefixes or [""] * len(window.values)
            texts = [f"{prefix}{str(value).upper()}" for prefix, value in zip(prefixes, window.values, strict=True)]
            hypotheses = runs[0].recipe.search.n_best
            return [Output([text] * hypotheses, [0.0] * hypotheses, [0.0] * hypotheses) for text in texts]

        return ask

    monkeypatch.setattr("tfseq2seq.cli.generation._open_model", open_model)
    return lively


@pytest.fixture
def answer_whole_and_parts(done, tmp_path):
    """Writes the outputs of a command, those of its parts, and both joins of the parts."""

    def answer(*command, of=4, joined=()):
        whole = tmp_path / "whole.txt"
        done(*command, "--output", whole)
        parts = [tmp_path / f"out.{index}-of-{of}.txt" for index in range(1, of + 1)]
        for index, part in enumerate(parts, start=1):
            done(*command, "--output", part, "--shard", f"{index}/{of}")
        assert b"".join(part.read_bytes() for part in parts) == whole.read_bytes()
        (told,) = done("data", "join-outputs", tmp_path / "joined.txt", *reversed(parts), *joined)
        assert (tmp_path / "joined.txt").read_bytes() == whole.read_bytes()
        return told.partition(": ")[2], [len(part.read_text().splitlines()) for part in parts]

    return answer


@pytest.mark.slow
def test_the_outputs_of_all_parts_are_those_of_the_whole(answer_whole_and_parts, lively, lines):
    source = lines("source", SOURCES)
    command = ["generate", *lively, BEST, "--batch", 2, "--input", source]
    assert answer_whole_and_parts(*command, of=2, joined=["--input", source]) == ("6 lines of 2 parts", [3, 3])


def test_parts_have_n_best_lines_and_the_prefixes_of_their_inputs(answer_whole_and_parts, capitals, lines):
    source, prefix = lines("source", SOURCES), lines("prefix", ["on", "", "it", "at", "", "the"])
    command = ["generate", *capitals, "--prefix", prefix, "--input", source]
    told = answer_whole_and_parts(*command, of=3, joined=["--input", source, "--n-best", 2])
    assert told == ("12 lines of 3 parts", [4, 4, 4])


def test_more_parts_than_inputs_leave_some_parts_empty(answer_whole_and_parts, capitals, tmp_path):
    packed = tmp_path / "source.gz"
    packed.write_bytes(gzip.compress(b"on 3 May\nat 14:35\n"))
    command = ["generate", *capitals, BEST, "--input", packed]
    assert answer_whole_and_parts(*command, of=3) == ("2 lines of 3 parts", [0, 1, 1])


def test_a_part_that_was_stopped_is_continued(done, capitals, lines, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "_BATCHES_IN_WINDOW", 1)
    monkeypatch.setattr(answering, "_SMALLEST_WINDOW", 1)
    source, part = lines("source", SOURCES * 2), tmp_path / "part"
    command = ["generate", *capitals, BEST, "--batch", 2, "--input", source, "--shard", "2/2", "--output", part]
    done(*command)
    whole = part.read_bytes()
    part.unlink()
    (tmp_path / "part.partial").write_bytes(b"".join(whole.splitlines(keepends=True)[:4]) + b"cut")
    done(*command, "--resume")
    assert part.read_bytes() == whole


@pytest.mark.slow
def test_messages_on_the_inputs_of_a_part_have_the_lines_of_the_file(tfseq2seq, lively, lines):
    source = lines("source", [*SOURCES, "long " * 1000])
    code, output, errors = tfseq2seq("generate", *lively, BEST, "--input", source, "--shard", "3/3")
    assert code == 2 and len(output.splitlines()) == 3
    assert "line 7: " in errors


def test_parts_of_a_manifest_and_of_audio_files(done, capitals, speech_run, morse, recordings):
    common = ["generate", "--run", speech_run("ctc"), BEST]
    for inputs in (["--manifest", morse, "--split", "test"], recordings):
        whole = done(*common, *inputs)
        assert len(set(whole)) == 6
        assert sum((done(*common, *inputs, "--shard", f"{index}/4") for index in range(1, 5)), []) == whole


@pytest.mark.slow
def test_parts_of_recordings_with_the_times_of_words(done, speech_run, recordings):
    command = ["generate", "--run", speech_run("ctc"), BEST, "--times", "json", *recordings[:3]]
    timed = [done(*command, "--shard", f"{index}/2") for index in (1, 2)]
    found = [[json.loads(line)["path"] for line in each] for each in timed]
    assert found == [[str(recordings[0])], [str(path) for path in recordings[1:3]]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "0/2"], "must be I/N"),
        (["--shard", "3/2"], "'3/2' must be I/N, the I-th of N parts, with I from 1 to N"),
        (["--shard", "2"], "must be I/N"),
        (["--shard", "1/2"], "--shard: needs inputs that can be counted first, got standard input or a pipe"),
        (["--shard", "1/2", "--times", "srt"], "--shard: cannot be combined with --times srt"),
        (["--shard", "1/2", "--input", "{empty}"], "empty: must have one line per example, but the file is empty"),
        (
            ["--shard", "1/2", "--input", "{two}", "--prefix", "{one}"],
            "one: must have one line for each of the 2 inputs, got 1",
        ),
    ],
)
def test_a_part_that_is_not_known_is_refused(refused, capitals, lines, options, message):
    files = {name: str(lines(name, ["a"] * count)) for count, name in enumerate(("empty", "one", "two"))}
    assert message in refused(
        "generate", *capitals, BEST, *[option.format(**files) for option in options], stdin=b"a\n"
    )


# ---- data join-outputs ----------------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path):
    """Twelve parts of a job with 30 inputs, whose names are in another order than their places."""
    (tmp_path / "inputs").write_text("x\n" * 30)
    paths = []
    for index in range(1, 13):
        begin, end = shard_bounds(30, index, 12)
        paths.append(tmp_path / f"out.{index}-of-12.txt")
        paths[-1].write_text("".join(f"{number}\n" for number in range(begin, end)))
    return sorted(paths)


def test_parts_are_joined_in_the_order_of_their_places(done, parts, tmp_path):
    done("data", "join-outputs", tmp_path / "new" / "all", *parts, "--input", tmp_path / "inputs")
    assert (tmp_path / "new" / "all").read_text() == "".join(f"{number}\n" for number in range(30))


def test_a_missing_part_or_one_that_is_not_complete_is_refused(refused, parts, tmp_path):
    def message(*given, **options):
        found = refused("data", "join-outputs", tmp_path / "all", *given)
        assert not (tmp_path / "all").exists()
        return found

    whole = ["--input", tmp_path / "inputs"]
    assert message(*parts[:3], *parts[4:]) == "all 12 parts must be given, got no part 12"
    assert "must have different places, got 5 for both" in message(*parts, shutil.copy(parts[7], tmp_path / "5-of-12"))
    assert "must be one of 12 parts" in message(*parts, tmp_path / "1-of-3")
    assert "must have a place from 1 to 12" in message(*parts, tmp_path / "13-of-12")
    assert "inputs: must have its place I-of-N in its name" in message(*parts, tmp_path / "inputs")
    assert f"{parts[0]}: must be another file" in refused("data", "join-outputs", parts[0], *parts)
    # Part 4 has lines 8 to 10.
    part = tmp_path / "out.4-of-12.txt"
    content = part.read_bytes()
    part.write_bytes(content + b"more\n")
    assert message(*parts, *whole).startswith(f"{part}: must have 3 lines for lines 8 to 10 of ")
    assert ", 2 for each, for lines" in message(*parts, *whole, "--n-best", 2)
    part.write_bytes(content[:-1])
    assert f"{part}: must end with a line break" in message(*parts)
    part.with_name(f"{part.name}.partial").write_bytes(b"")
    assert f"{part}: is not complete" in message(*parts)
    part.with_name(f"{part.name}.partial").unlink()
    part.unlink()
    assert f"{part}: cannot be read (No such file or directory)" in message(*parts)
