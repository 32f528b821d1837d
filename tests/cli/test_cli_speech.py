"""The commands on speech, from manifest to exported model, on a little generated Morse code."""

import json
import re
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from small_runs import BEST, FAMILIES, ask_exported

from tfseq2seq.run import Run

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(params=["ctc", *(pytest.param(family, marks=pytest.mark.slow) for family in ("joint", "transducer"))])
def run(request, speech_run):
    return speech_run(request.param)


def written(path, samples, rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.asarray(samples) * 32767).astype("<i2").tobytes())
    return path


# Of a training whose data is all that a test is about.
BRIEF = {"steps": 1, "evaluate_every": 1, "tensorboard": False}


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_training_writes_a_run(request, tfseq2seq, speech_recipe, tmp_path, family, morse):
    if family == "ctc":
        # As users train: the graphs of one family take four times as long as all the rest. That others learn in graphs
        # is a test of models.
        request.getfixturevalue("in_graphs")
    (tmp_path / "recipe.json").write_text(json.dumps(speech_recipe(family)))
    code, output, errors = tfseq2seq("train", tmp_path / "recipe.json", "--run", tmp_path / "run")
    assert (code, output) == (0, "") and "training: 24 utterances" in errors and "global normalization: from" in errors
    run = Run.open(tmp_path / "run")
    assert run.progress()["monitor"] == "val_cer" and run.progress()["step"] == 2
    code, output, _ = tfseq2seq("generate", "--run", run.folder, BEST, "--manifest", morse, "--split", "test")
    assert code == 0 and output.count("\n") == 6


@pytest.mark.slow
def test_training_from_shards(tfseq2seq, done, speech_recipe, morse, tmp_path):
    for split in ("train", "validation"):
        done("data", "shard", morse, tmp_path / split, "--split", split, "--rate", "8000")
    corpora = {name: {"records": str(tmp_path / name / "*.tfrecord")} for name in ("train", "validation")}
    recipe = speech_recipe("ctc", data={**corpora, "batch_seconds": 40}, training=BRIEF)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    code, _, errors = tfseq2seq("train", tmp_path / "recipe.json", "--run", tmp_path / "run")
    assert code == 0 and (tmp_path / "run" / "model.weights.h5").exists()
    assert "training: 24 utterances" in errors and "validation: 6 utterances" in errors


@pytest.mark.slow
def test_training_counts_and_names_what_it_leaves_out(tfseq2seq, speech_recipe, tmp_path):
    names = [written(tmp_path / f"{index}.wav", 0.3 * np.sin(np.arange(4000) * 0.4)).name for index in range(6)]
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / names[0]).write_bytes((tmp_path / names[0]).read_bytes()[:-4])
    rows = [f"{name}\tE T" for name in names[:3]]
    rows += [f"{names[3]}\t", f"{names[4]}\t{'E' * 40}", f"{names[5]}\tE", "broken.wav\tE"]
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("path\ttext\n" + "\n".join(rows) + "\n")
    data = {"train": {"manifest": str(manifest)}, "holdout": 1, "batch_seconds": 5}
    recipe = speech_recipe("ctc", data=data, training=BRIEF)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    code, _, errors = tfseq2seq("train", tmp_path / "recipe.json", "--run", tmp_path / "run")
    assert code == 0 and "no alignment" in errors and "have no text" in errors
    assert "cannot be read" in errors and "broken.wav" in errors
    told = f"0.wav: {tmp_path / '0.wav'}: ends after 0.500 of 0.500 s; 4 bytes are missing"
    assert f"warning: 1 cut off or followed by another recording ({told})" in errors


# ---- outputs --------------------------------------------------------------------------------------------------------

# Room for all that a run with random weights writes.
ROOM = "--set=search.max_length=20"
BAD = ("empty.wav", "one.wav", "silent.wav", "cut.flac")


@pytest.fixture
def asked(recordings, tmp_path):
    """Recordings to transcribe, among them some that cannot be used."""
    (tmp_path / "empty.wav").write_bytes(b"")
    written(tmp_path / "one.wav", [0.5])
    written(tmp_path / "silent.wav", np.zeros(4000))
    (tmp_path / "cut.flac").write_bytes(b"fLaC" + bytes(30))
    return [*recordings[:2], *(tmp_path / name for name in BAD), *recordings[2:4]]


def test_bad_recordings_do_not_stop_the_others(tfseq2seq, run, asked):
    code, output, errors = tfseq2seq("generate", "--run", run, BEST, *asked)
    texts = output.split("\n")
    assert code == 2 and len(texts) == len(asked) + 1
    assert texts[2:6] == [""] * 4 and any(texts)
    told = [line for line in errors.splitlines() if "warning" not in line]
    assert len(told) == 4
    for name, line in zip(BAD, told):
        assert line.startswith("tfseq2seq: ") and name in line
    assert "too short" in told[1] and "silence" in told[2]


@pytest.mark.slow
def test_the_exported_models_answer_as_the_runs(tfseq2seq, done, speech_run, asked, tmp_path, one_signature):
    one_signature("transcribe_wav")
    readable = [path for path in asked if path.suffix == ".wav"]
    expected, folders = [], []
    for family in FAMILIES:
        run = speech_run(family)
        texts = tfseq2seq("generate", "--run", run, BEST, *asked)[1].split("\n")
        expected.append([text for text, path in zip(texts, asked) if path.suffix == ".wav"])
        (folder,) = done("export", "--run", run, "--to", tmp_path / family, "--no-verify")
        folders.append(folder)
    for answers, texts in zip(ask_exported(folders, readable, tmp_path), expected, strict=True):
        assert answers["text"] == texts
        assert [bool(error) for error in answers["error"]] == [path.name in BAD for path in readable]


@pytest.mark.slow
@pytest.mark.usefixtures("in_graphs")
def test_export_verifies_what_it_writes(tfseq2seq, speech_run, tmp_path):
    code, output, errors = tfseq2seq("export", "--run", speech_run("joint"), "--to", tmp_path / "exported")
    assert (code, output) == (0, f"{tmp_path / 'exported' / '1'}\n")
    assert "verify: batch 8" in errors and "equal" in errors and "NOT EQUAL" not in errors


def test_evaluate_reads_a_manifest(tfseq2seq, run, morse):
    options = ["--manifest", morse, "--split", "test", "--bootstrap", "0", "--worst", "1"]
    code, output, errors = tfseq2seq("evaluate", "--run", run, *options)
    assert code == 0 and "WER" in output and "CER" in output and "REF" in output
    assert "real-time factor" in errors


def test_a_given_transcript_has_a_log_probability_that_equals_the_score_found(run):
    from tfseq2seq.inference.generator import Generator
    from tfseq2seq.inference.predictor import SpeechToText
    from tfseq2seq.spec import SearchSpec

    opened = Run.open(run)
    plain = {} if "attention" in opened.recipe.provides else {"beam": 40}
    spec = SearchSpec(max_length=2, ctc_weight=0.0, **plain)
    generator = Generator(SpeechToText([opened.load_model()], opened.target, spec), 4, 1)
    samples = np.random.default_rng(0).normal(size=(2, 3000)).astype("float32") * 0.1
    found = generator.generate(list(samples))
    totals, _ = generator.log_probabilities(list(samples), [output.texts[0] for output in found])
    for output, total in zip(found, totals):
        if output.texts[0].strip() == output.texts[0] and output.texts[0]:
            # A beam adds up alignments that it held; the loss adds up all of them.
            assert output.log_probs[0] <= total + 1e-3


def test_recordings_pack_to_padded_batches():
    import tensorflow as tf

    from tfseq2seq.sources import AudioSource
    from tfseq2seq.spec import AudioSpec

    audio, length = AudioSource(AudioSpec()).pack([np.ones(3, "float32"), np.ones(1, "float32")])
    np.testing.assert_array_equal(audio, [[1, 1, 1], [1, 0, 0]])
    assert length.numpy().tolist() == [3, 1] and audio.dtype == tf.float32


def test_recordings_that_are_not_complete_are_answered_with_a_warning(tfseq2seq, speech_run, recordings, tmp_path):
    run, whole = speech_run("ctc"), recordings[0].read_bytes()
    cut, joined, empty = (tmp_path / name for name in ("cut.wav", "joined.wav", "empty.wav"))
    cut.write_bytes(whole[: 44 + 8000])
    joined.write_bytes(whole + recordings[1].read_bytes())
    # Closed, without samples, and with a comment behind them.
    empty.write_bytes(b"RIFF" + (54).to_bytes(4, "little") + whole[8:40] + bytes(4) + b"LIST\x0a\0\0\0INFOISFT\0\0")
    code, output, errors = tfseq2seq("generate", "--run", run, BEST, ROOM, recordings[0], cut, joined)
    texts = output.splitlines()
    assert code == 0 and len(texts) == 3 and texts[2] == texts[0] and texts[1]
    seconds, missing = (len(whole) - 44) / 16000, len(whole) - 44 - 8000
    assert errors.splitlines() == [
        f"tfseq2seq: warning: {cut}: ends after 0.500 of {seconds:.3f} s; {missing} bytes are missing",
        f"tfseq2seq: warning: {joined}: holds another recording after its end, which is not read",
    ]
    code, output, errors = tfseq2seq("generate", "--run", run, BEST, empty)
    assert (code, output, errors) == (2, "\n", f"tfseq2seq: {empty}: the WAV file has no samples\n")

    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("path\ttext\ncut.wav\tE\njoined.wav\tE\n")
    code, _, errors = tfseq2seq("evaluate", "--run", run, "--manifest", manifest, "--bootstrap", "0")
    assert code == 0 and f"{cut}: ends" in errors and f"{joined}: holds" in errors
    code, _, errors = tfseq2seq("data", "shard", manifest, tmp_path / "shards", "--rate", "8000")
    assert code == 0 and f"warning: {cut}: ends after 0.500 of" in errors and "0 skipped, 2 incomplete" in errors
    options = ["--count", "1", "--least", "1", "--most", "1", "--rate", "8000"]
    code, _, errors = tfseq2seq("data", "join", manifest, tmp_path / "join", *options)
    assert code == 0 and f"warning: {joined}: holds another recording" in errors


def test_outputs_that_may_be_cut_are_counted(tfseq2seq, done, speech_run, recordings, morse):
    run = speech_run("ctc")
    for options, noun, each in (
        (["generate", *recordings[:3]], "outputs", ""),
        (["generate", "--times", "json", *recordings[:3]], "outputs", ""),
        (["generate", "--window", "10", *recordings[:3]], "windows", " for every 5 s"),
        (["evaluate", "--manifest", morse, "--split", "test", "--bootstrap", "0"], "outputs", ""),
    ):
        command, *rest = options
        code, _, errors = tfseq2seq(command, "--run", run, BEST, "--set=search.max_length=1", *rest)
        expected = rf"tfseq2seq: warning: (\d) of [36] {noun} reached search\.max_length=1{each} and may be cut; "
        found = re.search(expected + r"raise it with --set search\.max_length=2$", errors, re.MULTILINE)
        assert code == 0 and int(found[1]) > 0
    common = ["generate", "--run", run, BEST, *recordings[:3]]
    assert tfseq2seq(*common, "--set=search.max_length=200")[2] == ""
    # A window has room for all that is said in it, however short the utterances are that the limit is for.
    longer = tfseq2seq(*common, "--set=search.max_length=20", "--window", "50")
    assert longer == (0, "".join(f"{line}\n" for line in done(*common, "--set=search.max_length=200")), "")


# ---- times and streams ----------------------------------------------------------------------------------------------


def test_words_have_times(done, run, recordings):
    files = recordings[:2]
    common = ["generate", "--run", run, BEST]
    texts = done(*common, *files)
    found = [json.loads(line) for line in done(*common, "--times", "json", *files)]
    assert [one["text"] for one in found] == texts and found[1]["path"] == str(files[1])
    assert [[word["text"] for word in one["words"]] for one in found] == [text.split() for text in texts]


@pytest.mark.slow
def test_subtitles_and_windows(done, speech_run, recordings, tmp_path):
    files = recordings[:2]
    common = ["generate", "--run", speech_run("ctc"), BEST, ROOM]
    done(*common, "--times", "srt", "--output", tmp_path / "subtitles", *files)
    assert sorted(path.name for path in (tmp_path / "subtitles").iterdir()) == ["test_00001.srt", "test_00002.srt"]
    # Stretches of one recording are one file, at the times they have in it; they may overlap.
    rows = [{"audio_filepath": str(files[0]), "offset": at, "duration": 0.6, "text": ""} for at in (0.6, 0.1)]
    segments = tmp_path / "segments.jsonl"
    segments.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [json.loads(line)["words"] for line in done(*common, "--times", "json", "--manifest", segments)]
    for words, row in zip(found, rows, strict=True):
        assert all(row["offset"] <= word["start"] <= word["end"] <= row["offset"] + 0.6 for word in words)
    assert any(found)
    (tmp_path / "same").mkdir()
    # A name that ends in a slash is a folder, even if there is none yet.
    for output, file in (("one.srt", ""), ("same", "test_00001.srt"), ("new/", "test_00001.srt")):
        done(*common, "--times", "srt", "--output", f"{tmp_path}/{output}", "--manifest", segments)
        content = Path(tmp_path, output, file).read_text()
        cues = [cue.split("\n")[2:] for cue in content.strip().split("\n\n")]
        said = [word for lines in cues for line in lines for word in line.split()]
        assert sorted(said) == sorted(word["text"] for words in found for word in words)
    assert done(*common, "--window", "100", files[0]) == done(*common, files[0])


def test_mistakes_with_times_and_windows(refused, speech_run, recordings, tmp_path):
    files = recordings[:2]
    common = ["generate", "--run", speech_run("ctc"), BEST]
    (tmp_path / "same").mkdir()
    twin = shutil.copy(files[0], tmp_path / "same")
    for options, message in (
        (["--overlap", "1"], "--overlap: needs --window"),
        (["--times", "vtt", files[1]], "--output: must name a folder for the subtitles of 2 recordings"),
        (["--times", "vtt", "--output", tmp_path, twin], "their subtitles would have the same name test_00001"),
        (["--window", "9", "--workers", "2"], "--workers: cannot be combined with --window"),
        (["--times", "srt", "--scores"], "--scores: cannot be combined with --times"),
        (["--window", "1", "--overlap", "0.6"], "shorter than half a window"),
    ):
        assert message in refused(*common, *options, files[0])


def test_a_stream_on_standard_input_ends_with_what_the_file_gives(done, tfseq2seq, refused, speech_run, recordings):
    import tensorflow as tf

    run = speech_run("ctc")
    expected = done("generate", "--run", run, BEST, ROOM, recordings[0])
    raw = tf.audio.decode_wav(recordings[0].read_bytes())[0].numpy()[:, 0]
    content = (raw * 32768).astype("<i2").tobytes()
    code, output, errors = tfseq2seq("stream", "--run", run, BEST, ROOM, stdin=content)
    assert (code, output.splitlines()) == (0, expected)
    # What is found along the way grows to the final text.
    assert expected[0] and errors.splitlines()[-1] in expected[0]
    assert tfseq2seq("stream", "--run", run, BEST, ROOM, "--quiet", stdin=content) == (0, output, "")
    short = tfseq2seq("stream", "--run", run, BEST, "--quiet", "--set=search.max_length=1", stdin=content)
    assert "warning: 1 of 1 outputs reached search.max_length=1 and may be cut; raise it with --set" in short[2]
    assert "standard input: must contain samples of two bytes" in refused(
        "stream", "--run", run, "--quiet", stdin=b"abc"
    )


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["generate", "--input", "x"], "--input: needs a model of text, got source.kind audio; give audio files or"),
        (["generate", "--split", "test"], "--split: needs --manifest"),
        (["generate", "--manifest", "{morse}", "--split", "dev"], "dev"),
        (["generate", "--manifest", "{morse}", "a.wav"], "--manifest: cannot be combined with audio files"),
        (["generate", "--set", "search.min_length=9", "{morse}"], "search.min_length: must be below max_length"),
        (["evaluate", "--source", "x", "--reference", "{morse}"], "--source: needs a model of text, got source.kind"),
        (["verify", "{morse}"], "--manifest: must be given for a model with source.kind audio"),
        (["verify", "{morse}", "--input", "x"], "--input: needs a model of text, got source.kind audio; give --man"),
        (["score", "--target", "{morse}"], "score: needs source text (source.kind text), got source.kind audio"),
        (["score", "--source", "x", "--target", "{morse}"], "score: needs source text (source.kind text), got"),
        (["attention", "E T"], "attention: needs source text (source.kind text), got source.kind audio"),
        (["embeddings", "--png", "x.png"], "--side source: needs a source with words, got source.kind audio"),
        (["shortlist", "{morse}", "{morse}", "x"], "shortlist: needs source text (source.kind text), got source.kind"),
    ],
)
def test_mistakes_with_a_model_of_recordings(refused, speech_run, morse, tmp_path, arguments, reason):
    given = [argument.format(morse=morse) for argument in arguments]
    assert reason in refused(*given, "--run", speech_run("joint"))


@pytest.mark.parametrize(
    "family, arguments, reason",
    [
        ("ctc", ["generate", "--prefix", "{morse}", "--manifest", "{morse}"], "--prefix: needs a decoder that writes"),
        ("ctc", ["generate", "--set", "search.min_length=2", "a.wav"], "search.min_length: needs a decoder"),
        (
            "ctc",
            ["embeddings", "--side", "target", "--png", "x.png"],
            "--side target: needs a decoder with embeddings, got ctc",
        ),
        ("joint", ["stream"], "model.encoder.chunk"),
    ],
)
def test_mistakes_with_a_family_of_decoders(refused, speech_run, morse, family, arguments, reason):
    given = [argument.format(morse=morse) for argument in arguments]
    assert reason in refused(*given, "--run", speech_run(family))


def test_a_folder_without_a_run(refused, tmp_path):
    assert "no run here" in refused("generate", "--run", tmp_path, "x.wav")
