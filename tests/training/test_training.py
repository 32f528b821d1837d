"""Training as users meet it: it repeats, resumes, stops, keeps the last good state, and says what is wrong."""

import dataclasses
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from trainings import assert_same, changed, weights

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.metrics import METRICS
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.run import Run, average_weights, save_weights, training_lock
from tfseq2seq.sources import NoSource, source_class
from tfseq2seq.spec import PAD, NoSourceSpec, Recipe, SearchSpec
from tfseq2seq.training import fit
from tfseq2seq.training.callbacks import Checkpoints, Position, evaluation_weights
from tfseq2seq.training.failures import Diverged
from tfseq2seq.training.fit import _explain_xla_errors, averaged_steps, compile_model, learn_features, train


def test_a_run_holds_what_it_promises(trained_run):
    assert Run.open(trained_run.folder).recipe == trained_run.recipe
    assert (trained_run.folder / "model.weights.h5").exists()
    lines = trained_run.metrics()
    assert [line["step"] for line in lines] == [6, 12]
    assert lines[-1]["val_nll"] < lines[0]["val_nll"]
    for key in ("loss", "val_accuracy", "val_perplexity", "tokens_per_second", "seconds", "learning_rate"):
        assert np.isfinite(lines[0][key])
    assert not list(trained_run.folder.rglob(".partial*"))


def test_weights_files_hold_the_model_alone(trained_run):
    names = []
    with h5py.File(trained_run.folder / "model.weights.h5") as file:
        file.visit(names.append)
    assert names and not any("optimizer" in name for name in names)


def test_seeded_runs_repeat_and_other_seeds_differ(trained_run, small_recipe, tmp_path):
    assert_same(weights(train(small_recipe, tmp_path / "again")), weights(trained_run))
    other = train(dataclasses.replace(small_recipe, seed=2), tmp_path / "other")
    assert any(not np.array_equal(a, b) for a, b in zip(weights(other), weights(trained_run)))


def test_a_resumed_run_ends_as_one_never_stopped(trained_run, small_recipe, tmp_path):
    half = changed(small_recipe, steps=6)
    train(half, tmp_path / "run")
    resumed = train(small_recipe, tmp_path / "run", resume=True)
    assert_same(weights(resumed), weights(trained_run))
    assert [line["step"] for line in resumed.metrics()] == [6, 12]
    assert resumed.progress()["best"] == trained_run.progress()["best"]


def test_training_steps_in_one_call_are_those_of_single_calls(trained_run, small_recipe, tmp_path):
    together = changed(small_recipe, steps_per_execution=3)
    train(together, tmp_path / "run", until=6)
    found = train(together, tmp_path / "run", resume=True)
    assert_same(weights(found), weights(trained_run))
    assert [line["step"] for line in found.metrics()] == [6, 12]
    for one, other in zip(found.metrics(), trained_run.metrics(), strict=True):
        for name in ("loss", "val_nll", "learning_rate"):
            assert one[name] == pytest.approx(other[name], rel=1e-5)


def test_accumulated_batches_count_as_one_step_in_a_call_of_several(small_recipe, tmp_path):
    accumulated = changed(small_recipe, optimizer={"accumulate": 2}, steps=4, evaluate_every=4)
    alone = train(accumulated, tmp_path / "alone")
    together = train(changed(accumulated, steps_per_execution=2), tmp_path / "together")
    assert_same(weights(together), weights(alone))
    assert [line["step"] for line in together.metrics()] == [4]


def test_a_call_of_several_steps_begins_where_the_training_was_stopped(small_recipe, tmp_path):
    train(changed(small_recipe, steps=2, evaluate_every=1), tmp_path / "run")
    later = changed(small_recipe, steps_per_execution=3)
    with pytest.raises(UserError, match="training.steps_per_execution: must divide the step 2, at which"):
        train(later, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"steps": 10}, r"must divide steps \(10\), got 3"),
        ({"evaluate_every": 4}, r"must divide evaluate_every \(4\), got 3"),
        ({"checkpoint_every": 2}, r"must divide checkpoint_every \(2\), got 3"),
        ({"pruning": {"sparsity": 0.5, "steps": 6}}, "must be 1 with pruning"),
    ],
)
def test_what_comes_between_the_steps_of_a_call_is_refused(small_recipe, values, message):
    with pytest.raises(UserError, match=f"training.steps_per_execution: {message}"):
        changed(small_recipe, **({"steps": 12, "evaluate_every": 6, "steps_per_execution": 3} | values))
    with pytest.raises(UserError, match="must be 1 with model.scheduled_sampling.schedule"):
        from_dict(
            Recipe,
            {
                "model": {"scheduled_sampling": {"schedule": "linear"}},
                "training": {"steps": 12, "evaluate_every": 6, "steps_per_execution": 3},
            },
        )


@pytest.mark.parametrize("moment", ["save_checkpoint", "save_resume", "save_progress", "log"])
def test_a_run_killed_while_saving_resumes_from_its_last_state(
    trained_run, small_recipe, tmp_path, monkeypatch, moment
):
    class Killed(Exception):
        pass

    original, calls = getattr(Run, moment), []

    def killed(run, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        original(run, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, moment, killed)
        train(small_recipe, tmp_path / "run")
    if moment == "log":
        # Whoever reads the run before it is resumed finds the values in the progress.
        assert [line["step"] for line in Run.open(tmp_path / "run").metrics()] == [6, 12]
    resumed = train(small_recipe, tmp_path / "run", resume=True)
    assert_same(weights(resumed), weights(trained_run))
    logged = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [6, 12]


def copied(run, folder):
    return Run.open(shutil.copytree(run.folder, folder))


def test_a_cut_last_line_of_the_metrics_is_left_out_and_written_again(trained_run, small_recipe, tmp_path):
    run = copied(trained_run, tmp_path / "run")
    path = run.folder / "metrics.jsonl"
    whole = path.read_bytes()
    for cut in (1, 10, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        assert run.metrics() == trained_run.metrics()
    # Only the progress has the last line now.
    progress = run.progress()
    del progress["metrics"]
    run.save_progress(progress)
    assert run.metrics() == trained_run.metrics()[:1]
    train(small_recipe, run.folder, resume=True)
    assert path.read_bytes() == whole
    for state in run.checkpoints.glob("*.npz"):
        state.unlink()
    path.write_bytes(whole + b'{"step"')
    model = run.build_model()
    compile_model(model, run.recipe)
    assert run.load_resume(model).progress == {} and path.read_bytes() == whole
    path.write_bytes(b"{\n" + whole)
    with pytest.raises(UserError, match="metrics.jsonl, line 1: must be a JSON object, got"):
        run.metrics()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="metrics.jsonl: must be a regular file, got a pipe"):
        run.metrics()


def test_one_process_trains_a_run_at_a_time(trained_run, small_recipe, tmp_path):
    run = copied(trained_run, tmp_path / "run")
    before = sorted(run.folder.rglob("*"))
    for folder, resume in ((run.folder, True), (tmp_path / "new", False)):
        folder.mkdir(exist_ok=True)
        with training_lock(folder), pytest.raises(UserError) as caught:
            train(small_recipe, folder, resume)
        assert str(caught.value).startswith(f"{folder}: another process is training this run; wait until it ends")
    assert sorted(run.folder.rglob("*")) == before and not list((tmp_path / "new").iterdir())
    train(small_recipe, run.folder, resume=True)
    assert sorted(run.folder.rglob("*")) == before


def test_what_killed_processes_left_in_a_run_is_swept_when_it_is_resumed(trained_run, small_recipe, tmp_path):
    run = copied(trained_run, tmp_path / "run")
    before = sorted(run.folder.rglob("*"))
    for folder in (run.folder, run.checkpoints, run.folder / "vocabulary"):
        (folder / ".partial-1-resume.npz").touch()
        (folder / ".partial-0a1b2c3d-00000006.weights.h5").touch()
    train(small_recipe, run.folder, resume=True)
    assert sorted(run.folder.rglob("*")) == before


@pytest.mark.parametrize(
    "change, message",
    [
        ({"step": "6"}, 'step must be a step, got "6"'),
        ({"step": True}, "step must be a step, got true"),
        ({"step": -1}, "step must be a step, got -1"),
        ({"best": [6]}, "best must be a step or null, got [6]"),
        ({"kept": 6}, "kept must be a list of steps, got 6"),
        ({"kept": ["../6"]}, "kept must be a list of steps"),
        ({"best_score": "low"}, "best_score must be a finite number or null"),
        ({"best_score": float("nan")}, "best_score must be a finite number or null, got NaN"),
        ({"without_progress": None}, "without_progress must be a whole number of at least 0, got null"),
        ({"metrics": [1]}, "metrics must be an object with a step, got [1]"),
        (None, "must hold an object with step, best, kept, got null"),
        ([6], "must hold an object with step, best, kept, got [6]"),
    ],
)
def test_progress_of_other_types_is_told(trained_run, small_recipe, tmp_path, change, message):
    run = copied(trained_run, tmp_path / "run")
    values = {**run.progress(), **change} if isinstance(change, dict) else change
    (run.checkpoints / "progress.json").write_text(json.dumps(values))
    with pytest.raises(UserError) as caught:
        run.progress()
    assert f"progress.json: {message}" in str(caught.value) and "\n" not in str(caught.value)
    (run.checkpoints / "resume.previous.npz").unlink()
    with np.load(run.checkpoints / "resume.npz") as saved:
        arrays = {**saved, "progress": json.dumps(values)}
    np.savez(run.checkpoints / "resume.npz", **arrays)
    with pytest.raises(UserError) as caught:
        train(small_recipe, run.folder, resume=True)
    assert f"resume.npz: {message}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_state_that_unpacks_to_more_than_the_model_is_not_read(trained_run, small_recipe, tmp_path):
    run = copied(trained_run, tmp_path / "run")
    path = run.checkpoints / "resume.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 30,)})
    with zipfile.ZipFile(path, "a") as file:
        # Only the header is there: reading the array would be an error of another kind.
        file.writestr("model_999.npy", header.getvalue())
    with pytest.raises(UserError, match="belongs to another model or optimizer than the recipe's"):
        train(small_recipe, run.folder, resume=True)


def test_weights_that_unpack_to_more_than_the_model_are_not_read(trained_run, tmp_path):
    path = tmp_path / "large.weights.h5"
    shutil.copyfile(trained_run.folder / "model.weights.h5", path)
    with h5py.File(path, "a") as file:
        # Nothing is stored of it, but it would take 4 TiB of memory.
        file.create_dataset("layers/large/vars/0", (1 << 40,), "float32", chunks=(1 << 20,))
    with pytest.raises(
        UserError, match="large.weights.h5: damaged, or of another .*: must have .* numbers, got 1,099,"
    ):
        trained_run.load_model(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_told(trained_run, tmp_path, value):
    path = tmp_path / "wrong.weights.h5"
    shutil.copyfile(trained_run.folder / "model.weights.h5", path)
    with h5py.File(path, "a") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        content = file[names[0]][...]
        content.flat[0] = value
        file[names[0]][...] = content
    with pytest.raises(UserError, match="must have finite weights, got 1 of .* that are not in ") as caught:
        trained_run.load_model(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_weights_that_were_there(trained_run, tmp_path, largest_file):
    path = tmp_path / "model.weights.h5"
    shutil.copyfile(trained_run.folder / "model.weights.h5", path)
    before = path.read_bytes()
    model = trained_run.load_model()
    with largest_file(len(before) // 2), pytest.raises(UserError) as caught:
        save_weights(model, path)
    assert str(caught.value) == f"{path}: cannot be written (File too large)"
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
def test_a_full_disk_ends_the_training_in_one_line(small_recipe, tmp_path, largest_file):
    recipe = changed(small_recipe, steps=4, evaluate_every=2)
    train(changed(recipe, steps=2), tmp_path / "run")
    size = (tmp_path / "run" / "model.weights.h5").stat().st_size
    with (
        largest_file(size + 1000),
        pytest.raises(UserError, match="resume.npz: cannot be written .File too large") as caught,
    ):
        train(recipe, tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)
    run = train(recipe, tmp_path / "run", resume=True)
    assert [line["step"] for line in run.metrics()] == [2, 4]
    assert not list(run.folder.rglob(".*"))


def test_a_run_is_not_overwritten(trained_run, small_recipe):
    with pytest.raises(UserError, match="has a run already"):
        train(small_recipe, trained_run.folder)


def test_without_validation_files_pairs_are_held_out(small_recipe, tmp_path, capsys):
    values = to_dict(changed(small_recipe, steps=1, evaluate_every=1, monitor="exact_match", generate_pairs=8))
    values["data"] |= {"validation": {}, "holdout": 60}
    train(from_dict(Recipe, values), tmp_path / "run")
    told = capsys.readouterr().out
    assert "training: 340 pairs" in told and "validation: 60 pairs" in told


def test_resuming_with_another_model_is_refused(trained_run, small_recipe):
    other = dataclasses.replace(small_recipe, seed=9)
    with pytest.raises(UserError, match="another recipe"):
        train(other, trained_run.folder, resume=True)


def test_a_longer_training_may_go_on(trained_run, small_recipe, tmp_path):
    shutil.copytree(trained_run.folder, tmp_path / "run")
    longer = train(changed(small_recipe, steps=15), tmp_path / "run", resume=True)
    assert longer.progress()["step"] == 15


@pytest.mark.parametrize("of", [{}, {"average_of": "best", "keep_best": 2, "keep": 1}], ids=str)
def test_averaging_is_the_mean_of_the_last_or_best_checkpoints(small_recipe, tmp_path, of):
    run = train(
        changed(small_recipe, **{"steps": 9, "evaluate_every": 3, "keep": 3, "average": 2, **of}), tmp_path / "run"
    )
    # It learns, so the last ones are the best ones.
    assert {row["step"]: row["val_nll"] for row in run.metrics()}[3] > run.progress()["best_kept"][-1][1]
    model = run.build_model()
    parts = []
    for step in (6, 9):
        model.load_weights(run.checkpoint_file(step))
        parts.append(model.get_weights())
    for found, one, two in zip(weights(run), *parts, strict=True):
        np.testing.assert_allclose(found, (one + two) / 2, atol=1e-6)
    average_weights(model, [run.checkpoint_file(9)])
    assert_same(model.get_weights(), parts[1])


def test_old_checkpoints_go_and_the_best_stays(small_recipe, tmp_path):
    recipe = changed(small_recipe, steps=8, evaluate_every=2, keep=1, optimizer={"learning_rate": 3.0})
    run = train(recipe, tmp_path / "run")
    kept = {int(path.name[:8]) for path in run.checkpoints.glob("*.weights.h5")}
    # The state before the last one may still be needed, with the checkpoint of its step and its best one.
    assert {8, run.progress()["best"]} <= kept <= {8, 6, 4, run.progress()["best"]} and len(kept) < 4


def test_early_stopping_waits_out_its_patience(small_recipe, tmp_path):
    # A learning rate of zero makes no progress after the first evaluation.
    recipe = changed(small_recipe, steps=20, evaluate_every=2, patience=2, optimizer={"learning_rate": 0.0})
    run = train(recipe, tmp_path / "run")
    assert run.progress()["step"] == 6 and run.progress()["best"] == 2


@pytest.mark.parametrize("monitor", ["bleu", "rougeL"])
def test_scores_of_generated_text_choose_the_best(small_recipe, tmp_path, monitor):
    recipe = changed(small_recipe, steps=2, evaluate_every=1, monitor=monitor, generate_pairs=12)
    run = train(recipe, tmp_path / "run")
    assert run.progress()["monitor"] == f"val_{monitor}"
    assert all(0 <= line[f"val_{monitor}"] <= 100 for line in run.metrics())
    # Greedily, over the first validation pairs, with the weights that were kept.
    sources, targets = (
        Path(getattr(recipe.data.validation, side)).read_text().split("\n")[:12] for side in ("source", "target")
    )
    greedy = SearchSpec(beam=1, max_length=recipe.search.max_length)
    outputs = Generator(Predictor.of_runs([run], search=greedy)).generate(sources)
    score = corpus_scores([output.texts[0] for output in outputs], [targets], [monitor], bootstrap=0)[0].value
    assert run.progress()["best_score"] == pytest.approx(score)


def test_an_unknown_monitor_is_refused_before_anything_is_read_or_written(trained_run, small_recipe, tmp_path):
    recipe = changed(small_recipe, monitor="blue")
    data = {split: {"source": "missing", "target": "missing"} for split in ("train", "validation")}
    with pytest.raises(UserError, match=r"^training\.monitor: metric 'blue' is unknown; did you mean 'bleu'\?"):
        train(from_dict(Recipe, {**to_dict(recipe), "data": data}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    shutil.copytree(trained_run.folder, tmp_path / "run")
    with pytest.raises(UserError, match=r"^training\.monitor: .* choose loss$"):
        train(changed(small_recipe, monitor="xyzxyz", steps=20), tmp_path / "run", resume=True)
    for path in trained_run.folder.rglob("*.*"):
        assert (tmp_path / "run" / path.relative_to(trained_run.folder)).read_bytes() == path.read_bytes()


BETTER_WHEN_LOWER = {"ter", "wer", "cer", "wer_any", "token_error_rate", "phoneme_error_rate", "top10_share"}


@pytest.mark.parametrize("monitor", ["loss", *METRICS])
def test_checkpoints_are_chosen_in_the_direction_of_their_metric(small_recipe, monitor):
    class Recorded(Run):
        def save_progress(self, progress):
            self.saved = progress

        save_checkpoint = lambda *_: None  # noqa: E731

    run = Recorded("", changed(small_recipe, monitor=monitor, keep=2), NoSource(NoSourceSpec()), None)
    position = Position(run, 0)
    callback = Checkpoints(run, position, {}, lambda progress: None)
    callback.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    callback.model.compile("sgd", "mse", jit_compile=False)
    name, best = "val_nll" if monitor == "loss" else f"val_{monitor}", []
    for step, score in enumerate((50.0, 40.0, 60.0, 60.0, 40.0), start=1):
        position.step = step
        callback.on_epoch_end(0, {name: score})
        best.append(run.saved["best"])
    lower = monitor == "loss" or monitor in BETTER_WHEN_LOWER
    assert best == ([1, 2, 2, 2, 2] if lower else [1, 1, 3, 3, 3])
    assert (run.saved["monitor"], run.saved["kept"]) == (name, [4, 5])
    assert run.saved["without_progress"] == (3 if lower else 2)


def test_the_best_checkpoints_are_kept_beside_the_latest(small_recipe, tmp_path):
    scores = {1: 50.0, 2: 30.0, 3: 30.0, 4: 70.0, 5: 40.0, 6: 60.0}
    run = Run(tmp_path, changed(small_recipe, keep=1, keep_best=3), NoSource(NoSourceSpec()), None)
    run.checkpoints.mkdir()
    position, files, model = Position(run, 0), {}, keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    callback = Checkpoints(run, position, {}, lambda progress: None)
    callback.set_model(model)
    for step, score in scores.items():
        position.step = step
        callback.on_epoch_end(0, {"val_nll": score})
        files[step] = {int(path.name[:8]) for path in run.checkpoints.glob("*.weights.h5")}
        if step == 3:
            # A resumed run continues with the same list.
            callback = Checkpoints(run, position, run.progress(), lambda progress: None)
            callback.set_model(model)
    # Of equal scores, the first one is better.
    assert run.progress()["best_kept"] == [[2, 30.0], [3, 30.0], [5, 40.0]] and run.progress()["best"] == 2
    assert files == {1: {1}, 2: {1, 2}, 3: {1, 2, 3}, 4: {1, 2, 3, 4}, 5: {2, 3, 5}, 6: {2, 3, 5, 6}}
    assert averaged_steps(run.progress(), 2, "best") == [2, 3] and averaged_steps(run.progress(), 2, "latest") == [6]


@pytest.mark.parametrize("monitor, best", [("ter", 2), ("rougeL", 1)])
def test_the_final_weights_are_those_of_the_checkpoint_with_the_best_score(
    small_recipe, tmp_path, monkeypatch, monitor, best
):
    scores = iter([60.0, 40.0, 50.0])
    monkeypatch.setattr(fit, "generated_score", lambda *_: lambda: next(scores))
    run = train(changed(small_recipe, steps=3, evaluate_every=1, monitor=monitor), tmp_path / "run")
    assert [line[f"val_{monitor}"] for line in run.metrics()] == [60, 40, 50]
    assert (run.progress()["best"], run.progress()["monitor"]) == (best, f"val_{monitor}")
    assert_same(weights(run), run.load_model(run.checkpoint_file(best)).get_weights())


def test_a_diverging_run_keeps_its_last_good_state(small_recipe, tmp_path):
    good = train(changed(small_recipe, steps=2, evaluate_every=2), tmp_path / "run")
    before = weights(good)
    worse = changed(small_recipe, steps=6, evaluate_every=2, optimizer={"learning_rate": 1e30})
    with pytest.raises(Diverged, match="the last good checkpoint, of step 2, is kept"):
        train(worse, tmp_path / "run", resume=True)
    assert_same(weights(good), before)


def test_options_work_together(small_recipe, tmp_path):
    recipe = changed(
        small_recipe,
        steps=8,
        evaluate_every=2,
        precision="mixed_bfloat16",
        optimizer={"learning_rate": 1e-9, "ema": 0.9, "accumulate": 2},
        schedule={"name": "plateau", "patience": 1},
        monitor="exact_match",
        tensorboard=True,
    )
    try:
        run = train(recipe, tmp_path / "run")
    finally:
        keras.config.set_dtype_policy("float32")
    # Nothing is learned at such a rate, so the plateau schedule cuts it.
    rates = [line["learning_rate"] for line in run.metrics()]
    assert rates[-1] < rates[0]
    assert list((run.folder / "logs").rglob("events*"))
    assert run.progress()["monitor"] == "val_exact_match"


@pytest.mark.parametrize("half", [False, True])
def test_evaluation_sees_averaged_weights_and_training_gets_its_own_back(half):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    # As Keras does with the policy mixed_float16.
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0) if half else optimizer
    model.compile(optimizer, "mae", jit_compile=False)
    for _ in range(4):  # `fit` would end by overwriting the weights with their average
        model.train_on_batch(np.ones((1, 1)), np.full((1, 1), 100.0))
    own = model.get_weights()[0].item()
    with evaluation_weights(model):
        averaged = model.get_weights()[0].item()
    assert 0 < averaged < own
    assert model.get_weights()[0].item() == own


def test_vectors_from_a_file_start_the_embedding(small_recipe, generated, tmp_path, monkeypatch):
    from tfseq2seq.features.word_vectors import write_vectors

    words = generated["train.target"].read_text(encoding="utf-8").split()
    write_vectors(tmp_path / "vectors.txt", [words[0]], np.full((1, 16), 0.5, "float32"))
    values = to_dict(small_recipe)
    monkeypatch.setenv("VECTORS", str(tmp_path))
    values["model"] |= {"target_vectors": "$VECTORS/vectors.txt", "tie_output": False}
    values["training"] |= {"steps": 1, "evaluate_every": 1, "optimizer": {"learning_rate": 0.0}}
    logged = []
    run = train(from_dict(Recipe, values), tmp_path / "run", log=logged.append)
    index = run.target.vocabulary.tokens.index(words[0])
    table = np.asarray(run.load_model().target_embedding.embeddings)
    np.testing.assert_allclose(table[index], 0.5)
    assert any("1 of" in line for line in logged)


def test_damaged_files_are_told_in_one_line(trained_run, small_recipe, tmp_path):
    shutil.copytree(trained_run.folder, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    whole = (run.folder / "model.weights.h5").read_bytes()
    (run.folder / "model.weights.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged") as caught:
        run.load_model()
    assert "\n" not in str(caught.value)
    (run.checkpoints / "resume.previous.npz").unlink()
    (run.checkpoints / "resume.npz").write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match="damaged"):
        train(changed(small_recipe, steps=20), tmp_path / "run", resume=True)
    (run.checkpoints / "progress.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run.progress()
    with pytest.raises(UserError, match="no run here"):
        Run.open(tmp_path / "nothing")


def test_nothing_is_written_before_the_data_is_known_to_be_good(small_recipe, tmp_path):
    (tmp_path / "short.txt").write_text("one line\n")
    values = to_dict(small_recipe)
    values["data"]["train"]["target"] = str(tmp_path / "short.txt")
    with pytest.raises(UserError, match="400 lines.*1"):
        train(from_dict(Recipe, values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_learning_features_names_the_side(small_recipe, tmp_path):
    for side in ("source", "target"):
        values = to_dict(small_recipe)
        values[side] = {"scheme": "unigram", "vocabulary": str(tmp_path / "missing.model")}
        recipe = from_dict(Recipe, values)
        with pytest.raises(UserError, match=f"^{side}: .*missing.model"):
            learn_features(recipe, source_class(recipe.source).open_corpora(recipe))


def test_xla_that_cannot_compile_a_model_is_told():
    message = "XLA compilation requires a fixed tensor list size.\n\ttf2xla conversion failed while converting step"
    with (
        pytest.raises(UserError, match="training.jit: XLA cannot compile this model: XLA compilation requires a fixed"),
        _explain_xla_errors(jit=True),
    ):
        raise tf.errors.InvalidArgumentError(None, None, message)
    for jit, other in ((False, message), (True, "shapes differ")):
        with pytest.raises(tf.errors.InvalidArgumentError), _explain_xla_errors(jit):
            raise tf.errors.InvalidArgumentError(None, None, other)


@pytest.mark.parametrize(
    "encoder",
    [
        {"kind": "conformer", "layers": 1, "heads": 2, "ffn": 16, "kernel": 3},
        {"kind": "pyramid", "layers": 2, "joins": 1, "units": 8},
    ],
    ids=lambda encoder: encoder["kind"],
)
def test_an_encoder_of_speech_trains_generates_and_scores_over_text(small_recipe, generated, tmp_path, encoder):
    values = to_dict(changed(small_recipe, steps=6, evaluate_every=3, optimizer={"learning_rate": 0.02}))
    values["model"]["encoder"] = encoder
    run = train(from_dict(Recipe, values), tmp_path / "run")
    lines = run.metrics()
    assert lines[-1]["val_nll"] < lines[0]["val_nll"]
    sources, targets = (generated[f"test.{side}"].read_text().split("\n")[:6] for side in ("source", "target"))
    predictor, model = Predictor.of_runs([run]), run.load_model()
    given, found = predictor.source.inputs(*predictor.pack(sources)), Generator(predictor).generate(sources)
    assert [len(output.texts) for output in found] == [2] * 6
    # Scores are the log-probabilities of the tokens that were found.
    hypotheses = predictor.search(given)
    for rank in range(2):
        totals, _ = predictor.decoding.log_probabilities(given.inputs, hypotheses.ids[:, rank])
        np.testing.assert_allclose(hypotheses.log_probs[:, rank], totals, rtol=1e-4)
        np.testing.assert_allclose([output.log_probs[rank] for output in found], totals, rtol=1e-4)
    labels = run.target(tf.constant(targets))
    totals, counts = Generator(predictor).log_probabilities(sources, targets)
    np.testing.assert_allclose(totals, by_hand(model, given.inputs, labels), rtol=1e-4)
    assert counts.tolist() == (labels.numpy() != PAD).sum(1).tolist()
    memory = model.encode(given.inputs)
    assert memory.values.shape[1] == model.positions(memory.ids.shape[1])
    assert encoder["kind"] != "pyramid" or memory.values.shape[1] < memory.ids.shape[1]


def by_hand(model, source, labels):
    """Sums of the log-probabilities of label ids."""
    logits = model({**source, "target": decoder_input(labels)}, training=False)
    own = tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=2).numpy()
    return np.sum(own * (labels.numpy() != PAD), axis=1)


@pytest.mark.parametrize("decoder", ["transformer", "recurrent"])
def test_a_language_model_trains_resumes_and_scores_lines(small_recipe, generated, tmp_path, decoder):
    values = to_dict(changed(small_recipe, steps=6, evaluate_every=3))
    values["source"] = {"kind": "none"}
    values["data"] = {split: {"target": str(generated[f"{split}.target"])} for split in ("train", "validation")}
    values["data"] |= {"batch_tokens": 512}
    del values["model"]["encoder"]
    if decoder == "recurrent":
        values["model"]["decoder"] = {"kind": "recurrent", "layers": 1, "units": 8, "attention": "none"}
    recipe = from_dict(Recipe, values)
    logged = []
    run = train(recipe, tmp_path / "run", log=logged.append)
    assert "training: 400 lines, " in "\n".join(logged) and "vocabulary: target " in logged[0]
    assert [path.name for path in (run.folder / "vocabulary").iterdir()] == ["target.txt"]
    if decoder == "recurrent":
        train(changed(recipe, steps=3), tmp_path / "half")
        assert_same(weights(train(recipe, tmp_path / "half", resume=True)), weights(run))
    lines = generated["validation.target"].read_text().strip().split("\n")
    totals, counts = Generator(Predictor.of_runs([Run.open(run.folder)])).log_probabilities([""] * len(lines), lines)
    np.testing.assert_allclose(totals, by_hand(run.load_model(), {}, run.target(tf.constant(lines))), rtol=1e-4)
    assert -totals.sum() / counts.sum() == pytest.approx(run.progress()["best_score"], rel=1e-4)


def test_guidance_of_attention_fades_while_it_trains(small_recipe, tmp_path):
    values = to_dict(small_recipe)
    values["model"]["guided_attention"] = {"weight": 1.0, "steps": 4}
    run = train(changed(from_dict(Recipe, values), steps=2, evaluate_every=2), tmp_path / "run")
    assert float(run.load_model().guidance.share) == 0.75, "as it was at the second update"
