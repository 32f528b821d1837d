"""The commands on text, from end to end."""

import json
import os
import re
import shutil
import signal
import types

import numpy as np
import pytest
import tensorflow as tf
from small_runs import BEST, SOURCES, random_run

from tfseq2seq import cli
from tfseq2seq.cli.exit import one_line
from tfseq2seq.files import read_lines
from tfseq2seq.presets import PRESETS
from tfseq2seq.recipe import dump_recipe, load_recipe, schema, to_dict
from tfseq2seq.training.failures import Diverged
from tfseq2seq.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("eagerly")

# ---- generate and score ---------------------------------------------------------------------------------------------


def test_generate_has_a_line_for_each_line(generated_lines):
    assert [len(line) for line in generated_lines] == [3] * len(SOURCES)
    assert generated_lines[1] == ["0.000000", "0.000000", ""]
    for (_, _, text), source in zip(generated_lines, SOURCES, strict=True):
        assert bool(text) == bool(source)
    assert len({text for _, _, text in generated_lines}) > 3


def warning_of(generated_lines):
    """What is told of the outputs that have as many tokens as they may have, 5 with <eos>."""
    count = sum(len(text.split()) == 4 for _, _, text in generated_lines)
    told = f"{count} of 6 outputs reached search.max_length=5 and may be cut"
    return f"tfseq2seq: warning: {told}; raise it with --set search.max_length=10\n" if count else ""


def test_generate_keeps_the_order_from_file_to_file(tfseq2seq, lively, lines, tmp_path, generated_lines):
    source, output = lines("source", reversed(SOURCES)), tmp_path / "new" / "output"
    done = tfseq2seq("generate", *lively, BEST, "--batch", 2, "--input", source, "--output", output)
    assert done == (0, "", warning_of(generated_lines))
    assert read_lines(output)[::-1] == [text for _, _, text in generated_lines]


def test_scores_are_the_model_s_own(tfseq2seq, lively, lines, generated_lines):
    kept = [(source, line) for source, line in zip(SOURCES, generated_lines, strict=True) if source]
    source, target = lines("s", [source for source, _ in kept]), lines("t", [line[2] for _, line in kept])
    code, output, summary = tfseq2seq("score", *lively, "--source", source, "--target", target, "--batch", 2)
    scored = [line.split("\t") for line in output.splitlines()]
    totals, counts = [float(total) for total, _ in scored], [int(count) for _, count in scored]
    np.testing.assert_allclose(totals, [float(line[1]) for _, line in kept], rtol=1e-4)
    assert code == 0 and counts == [len(line[2].split()) + 1 for _, line in kept]
    perplexity = np.exp(-sum(totals) / sum(counts))
    expected = f"{len(kept)} pairs, {sum(counts)} tokens, perplexity {perplexity:.4f}, perplexity per character "
    assert summary.startswith(expected)


def test_n_best_lines_that_begin_with_the_prefix(tfseq2seq, lively, lines):
    prefixes = ["on the", "", "it costs", "", "the twenty", "no such word"]
    # The recipe asks for two outputs each.
    arguments = ["generate", *lively, "--prefix", lines("prefix", prefixes)]
    code, output, errors = tfseq2seq(*arguments, stdin="\n".join([*SOURCES, ""]).encode())
    found = output.split("\n")
    assert (code, errors.count("\n"), found.pop(), len(found)) == (0, 1, "", 2 * len(SOURCES))
    assert found[2:4] == ["", ""] and found[6] != found[7]
    for index, prefix in enumerate(prefixes[:-1]):
        for text in found[2 * index : 2 * index + 2]:
            assert text.split()[: len(prefix.split())] == prefix.split()
    assert found[-1].startswith("<unk> <unk> <unk>")


def test_nothing_in_nothing_out(tfseq2seq, run, tmp_path):
    assert tfseq2seq("generate", "--run", run) == (0, "", "")
    assert tfseq2seq("generate", "--run", run, "--output", tmp_path / "empty") == (0, "", "")
    assert (tmp_path / "empty").read_bytes() == b""


def test_line_breaks_inside_outputs_shift_nothing():
    assert one_line("a\nb\r\nc") == "a b  c"


# ---- evaluate and compare -------------------------------------------------------------------------------------------


def test_evaluate_generates_and_scores(tfseq2seq, lively, lines, tmp_path, generated_lines):
    source = lines("source", SOURCES)
    # Of two references for each line the second is right, but for the last line.
    answers = [f"wrong | {text}" if text else "" for _, _, text in generated_lines[:-1]] + ["wrong | too"]
    references = ["--reference", lines("references", answers), "--separator", "|"]
    common = [*references, "--metric", "exact_match", "--bootstrap", 0]
    kept = tmp_path / "kept"
    code, output, errors = tfseq2seq(
        "evaluate", *lively, BEST, "--source", source, "--output", kept, "--batch", 2, *common
    )
    assert (code, errors) == (0, warning_of(generated_lines))
    assert output.startswith("exact_match = 83.33 (") and output.count("\n") == 1
    assert read_lines(kept) == [text for _, _, text in generated_lines]

    again = tfseq2seq("evaluate", "--hypotheses", kept, *common)
    assert again == (0, output, "")
    code, as_json, _ = tfseq2seq("evaluate", "--hypotheses", kept, *common, "--json")
    (found,) = json.loads(as_json)
    assert (found["name"], round(found["value"], 2), found["low"]) == ("exact_match", 83.33, None)


def test_evaluate_several_metrics_and_references(tfseq2seq, lines):
    hypotheses = lines("h", ["a b c d e", "f g h i j"])
    first, second = lines("r1", ["a b c d e", "x"]), lines("r2", ["y", "f g h i j"])
    common = ["evaluate", "--hypotheses", hypotheses, "--bootstrap", 0, "--metric=bleu", "--metric=token_error_rate"]
    code, output, _ = tfseq2seq(*common, "--reference", first, "--reference", second)
    assert code == 0 and [line.split(" (")[0] for line in output.splitlines()] == [
        "BLEU = 100.00",
        "token_error_rate = 0.00",
    ]
    code, output, _ = tfseq2seq(*common, "--reference", first)
    assert "BLEU = 100.00" not in output and "token_error_rate = 0.00" not in output


def test_evaluate_gives_an_interval_and_lower_cases(tfseq2seq, lines):
    hypotheses, reference = lines("h", ["A b c d", "e f g h"]), lines("r", ["a B c d", "e f g x"])
    arguments = ["evaluate", "--hypotheses", hypotheses, "--reference", reference, "--metric=exact_match"]
    assert tfseq2seq(*arguments)[1].startswith("exact_match = 0.00 [0.00, 0.00] (")
    assert tfseq2seq(*arguments, "--lowercase")[1].startswith("exact_match = 50.00 [0.00, 100.00] (")


def test_compare(tfseq2seq, lines):
    texts = [f"this is line number {i}" for i in range(60)]
    good, bad, reference = lines("good", texts), lines("bad", [*texts[:30], *["no"] * 30]), lines("reference", texts)
    code, output, _ = tfseq2seq("compare", good, bad, "--reference", reference, "--metric=chrf", "--resamples", 99)
    assert code == 0 and output.startswith("chrF2 100.00 against ") and "p = 0.0100" in output
    assert "p = 1.0000" in tfseq2seq("compare", good, good, "--reference", reference, "--resamples", 99)[1]


# ---- what is made of a run ------------------------------------------------------------------------------------------


def test_export_makes_the_next_version(tfseq2seq, run, tmp_path, monkeypatch):
    import tensorflow as tf

    class Empty(tf.Module):
        """Stands for the served model, which takes long to write and has tests of its own."""

        def __init__(self, model):
            super().__init__()
            assert model.spec.beam == 3

    monkeypatch.setattr("tfseq2seq.export.saved_model.Served", Empty)
    monkeypatch.setattr("tfseq2seq.export.saved_model.signature_graphs", lambda _: {})
    for version in (1, 2):
        folder = tmp_path / "served" / str(version)
        code, output, _ = tfseq2seq("export", "--run", run, "--to", folder.parent, "--set=search.beam=3", "--no-verify")
        assert (code, output) == (0, f"{folder}\n") and (folder / "saved_model.pb").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1", "2"]


def test_export_goes_to_the_name_of_the_recipe(tfseq2seq, run, monkeypatch):
    monkeypatch.setattr("tfseq2seq.export.saved_model.export_saved_model", lambda model, base, *_: base)
    monkeypatch.setattr("tfseq2seq.cli.exporting.open_predictor", lambda *_: None)
    assert tfseq2seq("export", "--run", run, "--no-verify") == (0, "saved_models/small\n", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantization", "int8"], "--quantization int8: must be float32 for --format savedmodel"),
        (["--strings"], "--strings: is an option of --format tflite, got --format savedmodel"),
        (["--strings", "--format", "ctranslate2"], "--strings: is an option of --format tflite"),
        (["--format", "tflite", "--quantization", "int16"], "--quantization int16: must be float32 or"),
        (["--format", "tflite", "--version", "2"], "--version: is an option of --format savedmodel, got --format"),
        (["--format", "tflite", "--quantization", "full_int8"], "--quantization full_int8: needs --examples"),
        (["--format", "tflite", "--examples", "a.tsv"], "--examples: needs --quantization full_int8"),
        (
            ["--format", "tflite", "--quantization", "full_int8", "--examples", "lines.txt"],
            "--examples: needs recordings (source.kind audio), got source.kind text",
        ),
        (["--format", "tflite", "--strings"], "source.scheme characters: "),
    ],
)
def test_export_tells_what_does_not_fit_a_format(refused, run, tmp_path, options, message):
    assert message in refused("export", "--run", run, "--to", tmp_path / "exported", *options)
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("code", [0, 1])
def test_verify_tells_by_its_exit_code(tfseq2seq, run, lines, monkeypatch, code):
    from tfseq2seq.export.verify import Verdict

    def compare(folder, model, texts, batches, tolerance, drop):
        assert (folder, texts, batches, tolerance, drop) == ("served/1", ["a", "b"], (1, 7), 1e-3, 0.1)
        return [Verdict(7, 2, 2 - code, 1.0, ((1, "x", "y"),) * code, 1e-5, 0, 0.0, 1, 1, 1, cut=(bool(code), False))]

    monkeypatch.setattr("tfseq2seq.export.verify.verify", compare)
    model = types.SimpleNamespace(faults=lambda texts: [])
    monkeypatch.setattr("tfseq2seq.cli.exporting.open_predictor", lambda *_: model)
    arguments = ["verify", "served/1", "--run", run, "--input", lines("in", ["a", "b"]), "--batch", 1, "--batch", 7]
    found, output, errors = tfseq2seq(*arguments)
    warning = "tfseq2seq: warning: 1 of 2 outputs reached search.max_length=16 and may be cut; raise it with --set "
    assert (found, errors) == (code, f"{warning}search.max_length=32\n" if code else "")
    assert ("2 of 2 texts identical" in output) == (code == 0)
    assert ("input 1: run 'x', exported model 'y'" in output) == bool(code)


def arrays(path):
    """The model's weights in a weights file, by name."""
    import h5py

    found = {}
    with h5py.File(path) as file:
        file["layers"].visititems(lambda name, item: found.update({name: item[()]} if hasattr(item, "shape") else {}))
    return found


def test_average(tfseq2seq, run_copy, tmp_path):
    final, mean = run_copy / "model.weights.h5", tmp_path / "mean.weights.h5"
    first, last = (arrays(run_copy / "checkpoints" / f"{step:08d}.weights.h5") for step in (6, 12))
    before = final.read_bytes()
    done = tfseq2seq("average", "--run", run_copy, "--last", 2, "--output", mean)
    assert done == (0, f"{mean}: mean of steps 6, 12\n", "") and final.read_bytes() == before
    found = arrays(mean)
    assert found.keys() == first.keys() and len(found) == 38
    for name, value in found.items():
        np.testing.assert_allclose(value, (first[name] + last[name]) / 2, rtol=1e-5, atol=1e-7)

    # Without --output it becomes the run's own model.
    shutil.copy(mean, final)
    assert tfseq2seq("average", "--run", run_copy, "--last", 1) == (0, f"{final}: mean of steps 12\n", "")
    assert tfseq2seq("average", "--run", run_copy, "--best", 1) == (0, f"{final}: mean of steps 12\n", "")
    for name, value in arrays(final).items():
        np.testing.assert_array_equal(value, last[name])


def test_attention(tfseq2seq, run, tmp_path):
    pytest.importorskip("matplotlib")
    png = tmp_path / "attention.png"
    code, output, errors = tfseq2seq("attention", "--run", run, "on 3 May", "--target", "on may third", "--png", png)
    rows = output.splitlines()
    assert code == 0 and rows[0].split() == [*"on␣3␣May", "<eos>"]
    assert [row.split()[0] for row in rows[1:5]] == ["on", "may", "third", "<eos>"] and "█" in output
    assert errors == f"{png}\n" and png.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def pyramid(small_recipe, tmp_path_factory):
    """The folder of a run of text whose encoder joins pairs of positions."""
    values = to_dict(small_recipe)
    values["model"]["encoder"] = {"kind": "pyramid", "layers": 2, "joins": 1, "units": 8}
    return random_run(tmp_path_factory.mktemp("pyramid") / "run", values, 1.7)


def test_attention_of_a_pyramid_says_what_a_column_covers(tfseq2seq, pyramid):
    code, output, errors = tfseq2seq("attention", "--run", pyramid, "on 3 May", "--target", "on may third")
    assert (code, errors) == (0, "each column covers 2 source tokens\n")
    rows = output.splitlines()
    # 8 characters and <eos> are 5 positions, the last of which covers one token only.
    assert rows[0].split() == [*"on␣3␣May", "<eos>"]
    for row, name in zip(rows[1:5], ["on", "may", "third", "<eos>"], strict=True):
        assert row.split()[0] == name and [len(cell) for cell in row.split()[1:]] == [3, 3, 3, 3, 5]


def test_embeddings(tfseq2seq, run, tmp_path):
    pytest.importorskip("matplotlib")
    png, projector = tmp_path / "e.png", tmp_path / "projector"
    words = ["--side", "target", "--words", "may june  third"]
    arguments = ["--dimensions", 2, "--png", png, "--projector", projector]
    assert tfseq2seq("embeddings", "--run", run, *words, *arguments) == (0, f"{png}\n{projector}\n", "")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert read_lines(projector / "metadata.tsv") == ["may", "june", "third"]
    assert np.loadtxt(projector / "vectors.tsv").shape == (3, 16)


def test_embeddings_of_the_most_frequent_words(tfseq2seq, run, trained_run, tmp_path):
    code, output, _ = tfseq2seq("embeddings", "--run", run, "--side=target", "--count=9", "--projector", tmp_path)
    assert (code, output) == (0, f"{tmp_path}\n")
    found = read_lines(tmp_path / "metadata.tsv")
    counts = {}
    for line in read_lines(trained_run.recipe.data.train.target):
        for word in line.split():
            counts[word] = counts.get(word, 0) + 1
    assert [counts[word] for word in found] == sorted(counts.values(), reverse=True)[:9]


# ---- data -----------------------------------------------------------------------------------------------------------


def test_data_generate(tfseq2seq, tmp_path):
    sizes = ["--train", 5, "--validation", 2, "--test", 3]
    code, output, _ = tfseq2seq("data", "generate", tmp_path / "a", *sizes)
    names = [f"{split}.{side}" for split in ("train", "validation", "test") for side in ("source", "target")]
    assert (code, output.splitlines()) == (0, [str(tmp_path / "a" / name) for name in names])
    assert [len(read_lines(tmp_path / "a" / name)) for name in names] == [5, 5, 2, 2, 3, 3]
    for folder, seed, same in (("b", 1, True), ("c", 2, False)):
        tfseq2seq("data", "generate", tmp_path / folder, *sizes, "--seed", seed)
        made, first = ((tmp_path / index / "train.source").read_bytes() for index in (folder, "a"))
        assert (made == first) is same


def test_data_records(tfseq2seq, lines, tmp_path):
    import tensorflow as tf

    from tfseq2seq.data.corpora import corpus_pairs
    from tfseq2seq.spec import CorpusSpec

    pairs = [("日本 語", "japanese"), ("", "empty"), ("x", "y")]
    source, target = lines("s", [pair[0] for pair in pairs]), lines("t", [pair[1] for pair in pairs])
    records = tmp_path / "new" / "pairs.tfrecord"
    done = tfseq2seq("data", "records", "--source", source, "--target", target, records)
    assert done == (0, f"{records}: 3 pairs\n", "")
    found, count = corpus_pairs(CorpusSpec(records=str(records)), "records")
    read = [(one["source"].decode(), one["target"].decode()) for one in found.as_numpy_iterator()]
    assert count == 3 and read == pairs
    assert isinstance(found, tf.data.Dataset)


# ---- recipe ---------------------------------------------------------------------------------------------------------


def test_recipe_prints_the_whole_of_a_file(tfseq2seq, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: mine\nsearch: {beam: 2}\n")
    code, output, errors = tfseq2seq("recipe", path, "--set", "seed=9")
    assert (code, errors) == (0, "") and output == dump_recipe(load_recipe(path, ["seed=9"]))


@pytest.mark.parametrize("name", PRESETS)
def test_recipe_prints_presets(tfseq2seq, tmp_path, name):
    code, output, _ = tfseq2seq("recipe", "--preset", name, "--set", "training.steps=7")
    (tmp_path / "recipe.yaml").write_text(output)
    loaded = load_recipe(tmp_path / "recipe.yaml")
    assert code == 0 and loaded.training.steps == 7 and loaded.model == PRESETS[name]().model
    assert output.startswith(f"# {PRESETS[name].__doc__}\n")


def test_recipe_schema_has_a_line_for_each_key(tfseq2seq):
    code, output, _ = tfseq2seq("recipe", "--schema")
    printed, rows = output.splitlines(), list(schema())
    assert code == 0 and len(printed) == len(rows)
    for line, (key, kind, default, help) in zip(printed, rows, strict=True):
        assert re.split("  +", line, maxsplit=3) == [key, kind, default, help]
    # Columns: each begins at one place.
    columns = {
        (line.index(f" {row[1]} "), line.index(f" {row[2]} ", line.index(f" {row[1]} ")))
        for line, row in zip(printed, rows)
    }
    assert len(columns) == 1


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ([], "recipe: needs a file, --schema, --for with two files, or --preset with one of"),
        (["--preset", "lstm_attenton"], "did you mean 'lstm_attention'?"),
        (["--preset", "lstm_fixed", "--set", "model.depth=3"], "model.depth: unknown key"),
        (["missing.yaml"], "missing.yaml: no such recipe"),
        (["--preset", "lstm_fixed", "--set", "training.monitor=blue"], "training.monitor: metric 'blue' is unknown"),
    ],
)
def test_recipe_that_is_none(refused, arguments, reason):
    assert reason in refused("recipe", *arguments)


@pytest.fixture
def recipe(small_recipe, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(small_recipe), encoding="utf-8")
    return path


def test_recipe_checks_what_is_monitored(tfseq2seq, refused, recipe):
    message = refused("recipe", recipe, "--set", "training.monitor=blue")
    assert message.startswith("training.monitor: metric 'blue' is unknown; did you mean 'bleu'?")
    code, output, errors = tfseq2seq("recipe", recipe, "--set", "training.monitor=chrf")
    assert (code, errors) == (0, "") and "monitor: chrf" in output


# ---- train ----------------------------------------------------------------------------------------------------------


def test_a_stop_that_lies_behind_is_refused(refused, recipe, run_copy):
    message = refused("train", recipe, "--run", run_copy, "--resume", "--until", "12")
    assert message == "--until: must be above 12, the training step that the run has reached, got 12"


def test_train_resumes_a_finished_run(tfseq2seq, recipe, run_copy):
    (run_copy / "model.weights.h5").unlink()
    code, output, errors = tfseq2seq("train", recipe, "--run", run_copy, "--resume")
    assert (code, output) == (0, "") and errors.splitlines()[-1].startswith("final weights: best checkpoint, step 12")
    assert (run_copy / "model.weights.h5").exists()


@pytest.mark.parametrize(
    "setting, reason",
    [
        ("training.stepz=3", "training.stepz: unknown key, did you mean 'steps'?"),
        ("training.monitor=blue", "training.monitor: metric 'blue' is unknown; did you mean 'bleu'?"),
        ("search.n_best=9", "search.n_best: must be at most beam (2), got 9"),
        ("data.train={{}}", "data.train: no corpus is given"),
        ("data.validation={{}}", "data.validation: no corpus is given"),
        ("data.train.source={folder}/none", "none: cannot be read"),
        ("data.train.source={folder}/short", "data.train: {folder}/short has 2 lines and"),
        ("data.train.source={folder}/latin", "latin, line 2: byte 4 (0xe9) is not UTF-8"),
        ("data.train={{table: {folder}/latin}}", "latin, line 1: 1 columns"),
        ("data.train.source=$TFSEQ2SEQ_NOT_SET/a", "the environment variable TFSEQ2SEQ_NOT_SET is not set"),
        ("source.vocabulary={folder}/none", "none: the vocabulary cannot be read"),
    ],
)
def test_mistakes_in_a_recipe_leave_no_run(refused, recipe, tmp_path, lines, setting, reason):
    lines("short", ["a", "b"])
    (tmp_path / "latin").write_bytes(b"fine\ncaf\xe9\n")
    before = sorted(tmp_path.iterdir())
    found = refused("train", recipe, "--run", tmp_path / "run", "--set", setting.format(folder=tmp_path))
    assert reason.format(folder=tmp_path) in found
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "setting, reason, progress",
    [
        ("data.max_target_length=1", "data.train: no example is left to use", 1),
        ("model.source_vectors=/nowhere/vectors.txt", "/nowhere/vectors.txt", 3),
    ],
)
def test_mistakes_found_in_the_data_leave_no_run(refused, recipe, tmp_path, setting, reason, progress):
    assert reason in refused("train", recipe, "--run", tmp_path / "run", "--set", setting, after=progress)
    assert not (tmp_path / "run").exists()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "options, reason",
    [
        ([], "has a run already; continue it with --resume"),
        (["--resume", "--set", "model.width=32"], "was trained from another recipe"),
        (["--resume", "--set", "seed=2"], "only training.* may change"),
    ],
)
def test_a_run_that_is_there_is_left_as_it_is(refused, recipe, run, options, reason, trained_run):
    before = contents(trained_run.folder)
    assert reason in refused("train", recipe, "--run", run, *options)
    assert contents(trained_run.folder) == before


def test_resuming_nothing(refused, recipe, tmp_path):
    assert "no run here" in refused("train", recipe, "--run", tmp_path / "run", "--resume")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("begun", [True, False])
def test_stopping_a_training_says_how_to_continue(tfseq2seq, recipe, monkeypatch, tmp_path, begun):
    def interrupted(recipe, folder, *_, **__):
        if begun:
            os.makedirs(folder)
            open(os.path.join(folder, "recipe.yaml"), "w").close()
        raise KeyboardInterrupt

    monkeypatch.setattr("tfseq2seq.training.fit.train", interrupted)
    code, _, errors = tfseq2seq("train", recipe, "--run", tmp_path / "run")
    assert code == 130 and errors.count("\n") == 1 and ("--resume" in errors) is begun


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_a_signal_stops_has_the_exit_code_of_the_signal(
    tfseq2seq, recipe, monkeypatch, tmp_path, number
):
    def interrupted(*_, **__):
        raise Interrupted(number, "stopped; --resume continues from step 7")

    monkeypatch.setattr("tfseq2seq.training.fit.train", interrupted)
    code, output, errors = tfseq2seq("train", recipe, "--run", tmp_path / "run")
    assert (code, output, errors) == (128 + number, "", "tfseq2seq: stopped; --resume continues from step 7\n")


def test_a_training_that_fails_has_the_exit_code_1(tfseq2seq, recipe, monkeypatch, tmp_path):
    def failed(*_, **__):
        raise Diverged(7, "the training loss must be finite, got nan")

    monkeypatch.setattr("tfseq2seq.training.fit.train", failed)
    code, output, errors = tfseq2seq("train", recipe, "--run", tmp_path / "run")
    assert (code, output, errors) == (1, "", "tfseq2seq: step 7: the training loss must be finite, got nan\n")


def test_a_saved_batch_is_shown_with_the_tokens_of_its_run(done, refused, run_copy, trained_run):
    features = trained_run.source.features
    batch = {"labels": trained_run.target(tf.constant(["one"])), "inputs.source": features(tf.constant(["on 3 May"]))}
    np.savez(run_copy / "failed_batch.npz", step=7, loss=np.nan, **batch)
    lines = done("data", "show", run_copy / "failed_batch.npz")
    assert lines[0].startswith("step 7, mean loss nan, 1 example: ")
    assert '  source: 9 tokens: "on 3 May" = o n \u2581 3 \u2581 M a y <eos>' in lines
    shutil.move(run_copy / "failed_batch.npz", run_copy.parent / "batch.npz")
    assert done("data", "show", run_copy.parent / "batch.npz", "--run", run_copy) == lines
    assert "  source: 9 tokens: " in "\n".join(done("data", "show", run_copy.parent / "batch.npz"))
    assert "must be a batch that `train` has saved" in refused("data", "show", run_copy / "recipe.yaml")


# ---- help -----------------------------------------------------------------------------------------------------------


def walk(group, path=()):
    for name, command in group.commands.items():
        yield " ".join([*path, name]), command
        yield from walk(command, [*path, name]) if hasattr(command, "commands") else ()


@pytest.mark.parametrize("command", [pytest.param(command, id=name) for name, command in walk(cli.commands)])
def test_every_command_and_every_option_is_explained(command):
    assert command.help.split(".")[0]
    for option in command.params:
        if option.param_type_name == "option":
            assert option.help and option.help[0].isupper() and "." in option.help, option.name
