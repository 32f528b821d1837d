"""Speech from manifest to SavedModel by the command line, on a little generated Morse."""

import io
import json
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_models import unprejudiced

from tfseq2seq.cli import main
from tfseq2seq.data.synthetic.morse import write_morse
from tfseq2seq.run import Run, save_weights

RECIPE = {
    "name": "morse",
    "source": {"kind": "audio", "sample_rate": 8000, "bins": 16, "subsampling": 4, "normalization": "global"},
    "target": {"scheme": "characters"},
    "model": {
        "width": 16,
        "encoder": {"kind": "conformer", "layers": 1, "heads": 2, "ffn": 16, "kernel": 3, "positions": "rotary"},
        "decoder": {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16},
        "ctc_weight": 0.3,
    },
    "training": {"steps": 4, "evaluate_every": 2, "monitor": "cer", "generate_pairs": 4, "tensorboard": False},
    "search": {"beam": 2, "n_best": 2, "max_length": 6},
}
FAMILIES = {
    "joint": {},
    "ctc": {"decoder": {"kind": "ctc"}, "ctc_weight": 0.0},
    "transducer": {"decoder": {"kind": "transducer", "units": 8, "joint": 8}, "ctc_weight": 0.0},
}


@pytest.fixture(scope="module")
def morse(tmp_path_factory):
    return write_morse(tmp_path_factory.mktemp("morse"), train=24, validation=6, test=6)["morse.tsv"]


def trained(folder, manifest, family, **changes):
    corpora = {name: {"manifest": str(manifest), "split": name} for name in ("train", "validation")}
    recipe = {**RECIPE, **changes, "model": {**RECIPE["model"], **FAMILIES[family], **changes.get("model", {})}}
    recipe.setdefault("data", {**corpora, "batch_seconds": 40})
    (folder / "recipe.json").write_text(json.dumps(recipe))
    main(["train", str(folder / "recipe.json"), "--run", str(folder / "run")])
    if family == "ctc":
        _let_it_speak(folder / "run")
    return folder / "run"


def _let_it_speak(folder):
    """A few updates leave the bias for the blank that CTC begins with."""
    run = Run.open(folder)
    save_weights(unprejudiced(run.load_model()), run.weights_file())


@pytest.fixture(scope="module", params=FAMILIES)
def run(request, morse, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "exit", lambda code=0: pytest.fail(f"exit {code}"))
        return trained(tmp_path_factory.mktemp(request.param), morse, request.param)


def failed(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code, capsys.readouterr()


def written(path, samples, rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.asarray(samples) * 32767).astype("<i2").tobytes())
    return path


CLIENT = """
import json, sys
import tensorflow as tf
import tensorflow_text
model, paths = tf.saved_model.load(sys.argv[1]), sys.argv[2:]
found = model.signatures["transcribe_wav"](wav=tf.constant([open(path, "rb").read() for path in paths]))
assert not any(name.split(".")[0] == "tfseq2seq" for name in sys.modules)
print(json.dumps({name: [one.decode() for one in found[name].numpy()] for name in ("text", "error")}))
"""


def test_the_export_answers_as_the_run_and_bad_recordings_do_not_stop_the_others(run, morse, tmp_path, capfd):
    files = [morse.parent / line.split("\t")[2] for line in morse.read_text().splitlines() if line.startswith("test")]
    bad = {
        "empty.wav": b"",
        "one.wav": written(tmp_path / "a.wav", [0.5]).read_bytes(),
        "silent.wav": written(tmp_path / "b.wav", np.zeros(4000)).read_bytes(),
        "cut.flac": b"fLaC" + bytes(30),
    }
    for name, contents in bad.items():
        (tmp_path / name).write_bytes(contents)
    asked = [*files[:2], *(tmp_path / name for name in bad), *files[2:4]]
    code, printed = failed(["generate", "--run", run, "--set", "search.n_best=1", *asked], capfd)
    lines = printed.out.split("\n")
    assert code == 2 and len(lines) == len(asked) + 1
    assert lines[2:6] == [""] * 4
    told = printed.err.strip().splitlines()
    assert len(told) == 4
    for name, line in zip(bad, told):
        assert name in line
    assert "too short" in told[1] and "silence" in told[2]

    main(["export", "--run", str(run), "--to", str(tmp_path / "exported")])
    readable = [path for path in asked if path.suffix == ".wav"]
    command = [sys.executable, "-P", "-c", CLIENT, str(tmp_path / "exported" / "1"), *map(str, readable)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout)
    assert answers["text"] == [line for line, path in zip(lines, asked) if path.suffix == ".wav"]
    assert [bool(error) for error in answers["error"]] == [path.name in bad for path in readable]


def test_evaluate_reads_a_manifest(run, morse, capfd):
    main(
        ["evaluate", "--run", str(run), "--manifest", str(morse), "--split", "test", "--bootstrap", "0", "--worst", "1"]
    )
    printed = capfd.readouterr()
    assert "WER" in printed.out and "CER" in printed.out and "REF" in printed.out
    assert "real-time factor" in printed.err


def test_a_given_transcript_has_a_log_probability_that_equals_the_score_found(run):
    from tfseq2seq.inference.endpoints import endpoint
    from tfseq2seq.inference.generator import Generator
    from tfseq2seq.spec import SearchSpec

    opened = Run.open(run)
    plain = {} if opened.recipe.model.attends else {"beam": 40}
    spec = SearchSpec(max_length=2, ctc_weight=0.0, **plain)
    generator = Generator(endpoint([opened.load_model()], None, opened.target, spec), 4, 1)
    samples = np.random.default_rng(0).normal(size=(2, 3000)).astype("float32") * 0.1
    found = generator.generate(list(samples))
    totals, _ = generator.log_probabilities(list(samples), [output.texts[0] for output in found])
    for output, total in zip(found, totals):
        if output.texts[0].strip() == output.texts[0] and output.texts[0]:
            # A beam adds up alignments that it held; the loss adds up all of them.
            assert output.log_probs[0] <= total + 1e-3


def test_training_from_shards(morse, tmp_path, capfd):
    for split in ("train", "validation"):
        main(["data", "shard", str(morse), str(tmp_path / split), "--split", split, "--rate", "8000"])
    corpora = {name: {"records": str(tmp_path / name / "*.tfrecord")} for name in ("train", "validation")}
    run = trained(tmp_path, morse, "ctc", data={**corpora, "batch_seconds": 40})
    assert (run / "model.weights.h5").exists()
    told = capfd.readouterr().err
    assert "training: 24 utterances" in told and "validation: 6 utterances" in told


def test_what_is_left_out_is_counted_and_named(morse, tmp_path, capfd):
    names = [written(tmp_path / f"{index}.wav", 0.3 * np.sin(np.arange(4000) * 0.4)).name for index in range(6)]
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    rows = [f"{name}\tE T" for name in names[:3]]
    rows += [f"{names[3]}\t", f"{names[4]}\t{'E' * 40}", f"{names[5]}\tE", "broken.wav\tE"]
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("path\ttext\n" + "\n".join(rows) + "\n")
    recipe = {"manifest": str(manifest)}
    trained(tmp_path, morse, "ctc", data={"train": recipe, "holdout": 1, "batch_seconds": 5})
    told = capfd.readouterr().err
    assert "no alignment" in told and "have no text" in told and "cannot be read" in told and "broken.wav" in told


def test_errors_are_one_clear_line(run, morse, tmp_path, capfd):
    for arguments, part in (
        (["generate", "--run", run, "--input", "x"], "--input is for text"),
        (["generate", "--run", run, "--split", "test"], "none is given"),
        (["generate", "--run", run, "--manifest", morse, "--split", "dev"], "dev"),
        (["generate", "--run", tmp_path, "x.wav"], "no run here"),
        (["generate", "--run", run, "--set", "search.min_length=2", morse], None),
    ):
        code, printed = failed(arguments, capfd)
        assert code == 2
        assert len(printed.err.strip().splitlines()) == 1
        assert part is None or part in printed.err


def test_recordings_pack_to_padded_batches():
    from tfseq2seq.inference.speech import SpeechToText

    audio, length = SpeechToText.pack([np.ones(3, "float32"), np.ones(1, "float32")])
    np.testing.assert_array_equal(audio, [[1, 1, 1], [1, 0, 0]])
    assert length.numpy().tolist() == [3, 1] and audio.dtype == tf.float32


def test_times_and_windows(run, morse, tmp_path, capfd):
    files = [morse.parent / line.split("\t")[2] for line in morse.read_text().splitlines() if line.startswith("test")]
    common = ["generate", "--run", str(run), "--set", "search.n_best=1"]
    main([*common, str(files[0]), str(files[1])])
    lines = capfd.readouterr().out.splitlines()
    main([*common, "--times", "json", str(files[0]), str(files[1])])
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [one["text"] for one in found] == lines and found[1]["path"] == str(files[1])
    main([*common, "--times", "srt", "--output", str(tmp_path / "subtitles"), str(files[0]), str(files[1])])
    assert sorted(path.name for path in (tmp_path / "subtitles").iterdir()) == ["test_00001.srt", "test_00002.srt"]
    # Stretches of one recording are one file, at the times they have in it; they may overlap.
    rows = [{"audio_filepath": str(files[0]), "offset": at, "duration": 0.6, "text": ""} for at in (0.6, 0.1)]
    segments = tmp_path / "segments.jsonl"
    segments.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main([*common, "--times", "json", "--manifest", str(segments)])
    found = [json.loads(line)["words"] for line in capfd.readouterr().out.splitlines()]
    for words, row in zip(found, rows, strict=True):
        assert all(row["offset"] <= word["start"] <= word["end"] <= row["offset"] + 0.6 for word in words)
    assert any(found)
    (tmp_path / "same").mkdir()
    for output, file in ((tmp_path / "one.srt", ""), (tmp_path / "same", "test_00001.srt")):
        main([*common, "--times", "srt", "--output", str(output), "--manifest", str(segments)])
        written = (output / file).read_text() if file else output.read_text()
        cues = [cue.split("\n")[2:] for cue in written.strip().split("\n\n")]
        said = [word for lines in cues for line in lines for word in line.split()]
        assert sorted(said) == sorted(word["text"] for words in found for word in words)
    twin = shutil.copy(files[0], tmp_path / "same")
    main([*common, "--window", "100", str(files[0])])
    assert capfd.readouterr().out.splitlines() == lines[:1]
    for options, message in (
        (["--overlap", "1"], "--overlap is of --window"),
        (["--times", "vtt", files[1]], "name a folder with --output"),
        (["--times", "vtt", "--output", tmp_path, twin], "would have subtitles of one name, test_00001"),
        (["--window", "9", "--workers", "2"], "--workers goes with neither"),
        (["--window", "1", "--overlap", "0.6"], "shorter than half a window"),
    ):
        code, printed = failed([*common, *options, files[0]], capfd)
        assert code == 2 and message in printed.err


def test_a_stream_on_standard_input_ends_with_what_the_file_gives(morse, tmp_path, capfd, monkeypatch):
    chunked = {**RECIPE["model"]["encoder"], "chunk": 4}
    model = {"encoder": chunked, **FAMILIES["ctc"]}
    run = trained(tmp_path, morse, "ctc", model=model)
    file = next(iter((morse.parent / "recordings").glob("test_*.wav")))
    capfd.readouterr()
    main(["generate", "--run", str(run), "--set", "search.n_best=1", str(file)])
    expected = capfd.readouterr().out
    raw = tf.audio.decode_wav(file.read_bytes())[0].numpy()[:, 0]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((raw * 32768).astype("<i2").tobytes())))
    main(["stream", "--run", str(run), "--set", "search.n_best=1"])
    assert capfd.readouterr().out == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"abc")))
    code, printed = failed(["stream", "--run", run, "--quiet"], capfd)
    assert code == 2 and "ends within a sample" in printed.err


def test_the_pipeline_to_copy_runs(morse, tmp_path):
    command = [sys.executable, str(Path(__file__).parents[2] / "pipelines" / "transcribe.py"), "--manifest", str(morse)]
    command += ["--epochs", "1", "--steps", "2", "--units", "8", "--export", str(tmp_path / "exported")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "exported" / "1" / "saved_model.pb").exists()
