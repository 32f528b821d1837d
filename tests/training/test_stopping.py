"""A training that is stopped or damaged at any moment: it continues exactly, or says what is lost."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from trainings import assert_same, changed, weights

from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.run import Run, check_writable
from tfseq2seq.spec import Recipe
from tfseq2seq.training import fit
from tfseq2seq.training.failures import Diverged, show_batch
from tfseq2seq.training.fit import compile_model, train
from tfseq2seq.training.signals import Interrupted, Signals

ROOT = Path(__file__).parents[2]


def rows(run):
    """The lines of metrics.jsonl without what depends on the clock."""
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "tokens_per_second")}
        for row in run.metrics()
    ]


def progress(run):
    return {key: value for key, value in run.progress().items() if key != "metrics"}


@pytest.fixture(autouse=True)
def usual_signals():
    """The handlers of a process in the foreground: a shell that starts tests in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def at_step(monkeypatch):
    """Calls functions at steps of the next training: after an update, or in the evaluation that follows it."""

    def plan(after_update=None, in_evaluation=None):
        updates, evaluations = dict(after_update or {}), dict(in_evaluation or {})

        class Planned(original):
            def on_train_batch_end(self, batch, logs=None):
                before = self.step
                super().on_train_batch_end(batch, logs)
                if self.step != before and self.step in updates:
                    updates.pop(self.step)()

            def on_test_batch_end(self, batch, logs=None):
                if self.step in evaluations:
                    evaluations.pop(self.step)()

        monkeypatch.setattr(fit, "Position", Planned)

    original = fit.Position
    return plan


def sent(number):
    return lambda: os.kill(os.getpid(), number)


def compiled(run):
    model = run.build_model()
    compile_model(model, run.recipe)
    return model


# ---- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_training_stopped_anywhere_ends_as_one_never_stopped(small_recipe, tmp_path, at_step, capfd):
    # No output is right, so the rate is reduced at each evaluation after the first one.
    recipe = changed(
        small_recipe,
        steps=8,
        evaluate_every=3,
        monitor="exact_match",
        generate_pairs=4,
        schedule={"name": "plateau", "patience": 1},
        optimizer={"learning_rate": 0.01, "ema": 0.9, "accumulate": 2},
    )
    whole = train(recipe, tmp_path / "whole")
    assert [row["learning_rate"] for row in whole.metrics()] == pytest.approx([0.01, 0.01, 0.005])
    stops = [({1: sent(signal.SIGTERM)}, {}), ({}, {3: sent(signal.SIGINT)}), ({7: sent(signal.SIGTERM)}, {})]
    for index, (step, plan) in enumerate(zip((1, 3, 7), stops)):
        at_step(*plan)
        with pytest.raises(Interrupted, match=f"stopped by SIG.*; --resume continues from step {step}$") as caught:
            train(recipe, tmp_path / "run", resume=index > 0)
        assert caught.value.code in (143, 130)
        assert "stopping after this step" in capfd.readouterr().err
    at_step()
    run = train(recipe, tmp_path / "run", resume=True)
    assert_same(weights(run), weights(whole))
    assert rows(run) == rows(whole) and progress(run) == progress(whole)
    assert not list(run.folder.rglob(".partial*"))


@pytest.mark.slow
def test_states_between_evaluations_change_nothing_and_are_written_when_asked_for(
    trained_run, small_recipe, tmp_path, at_step, capfd
):
    found = {}

    def look():
        with np.load(tmp_path / "run" / "checkpoints" / "resume.npz") as state:
            found["step"] = json.loads(str(state["progress"]))["step"]

    at_step({2: sent(signal.SIGUSR1), 3: look, 11: look})
    run = train(changed(small_recipe, checkpoint_every=5), tmp_path / "run")
    # At 3 that of the signal at 2, and at 11 that of step 10, which is a multiple of 5.
    assert found["step"] == 10 and "step 2: the state is written" in capfd.readouterr().err
    assert_same(weights(run), weights(trained_run))
    assert rows(run) == rows(trained_run)
    assert {path.name for path in run.checkpoints.glob("*.npz")} == {"resume.npz", "resume.previous.npz"}


def test_a_second_ctrl_c_ends_at_once_and_a_second_sigterm_does_not(capfd):
    before = signal.getsignal(signal.SIGINT)
    with Signals() as signals:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted) as caught:
            signals.check()
        assert (caught.value.name, caught.value.code) == ("SIGTERM", 143)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err.count("stopping after this step") == 1


def test_a_request_for_the_state_before_training_does_not_end_the_process():
    with Signals(stops=False) as signals:
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signals.asked and not signals.stopped_by
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_signal_that_the_process_ignores_stays_ignored():
    # As `nohup` and the shell's & do it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGINT)
        assert signals.stopped_by == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_random_stops_of_a_process_leave_the_run_as_one_never_stopped():
    command = [sys.executable, "benchmarks/kills.py", "--families", "lstm", "--stops", "3", "--steps", "60"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "lstm: 3 stops" in done.stdout


# ---- automatic resuming ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_command_continues_a_run_until_it_has_ended(trained_run, small_recipe, tmp_path, at_step):
    recipe = changed(small_recipe, resume="auto", patience=9)
    at_step({4: sent(signal.SIGTERM)})
    with pytest.raises(Interrupted, match="stopped by SIGTERM; the same command continues from step 4$"):
        train(recipe, tmp_path / "run")
    run = train(recipe, tmp_path / "run")
    assert_same(weights(run), weights(trained_run))
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    told = []
    train(recipe, run.folder, log=told.append)
    assert told == [f"{run.folder}: training has ended already, at step 12"]
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    with pytest.raises(UserError, match="was trained from another recipe"):
        train(from_dict(Recipe, {**to_dict(recipe), "seed": 9}), run.folder)


def test_a_run_out_of_patience_gets_its_final_weights_without_further_updates(trained_run, small_recipe, tmp_path):
    run = Run.open(shutil.copytree(trained_run.folder, tmp_path / "run"))
    (run.folder / "model.weights.h5").unlink()
    # As if the process had been killed between its last evaluation and its end.
    model, state = compiled(run), {**run.progress(), "ended": "patience", "without_progress": 1}
    del state["final"]
    progress = run.load_resume(model).progress
    assert progress["step"] == 12
    run.save_resume(model, state)
    run.save_progress(state)
    train(changed(small_recipe, steps=50, patience=1), run.folder, resume=True)
    assert_same(weights(run), weights(trained_run))
    assert run.progress()["step"] == run.progress()["final"] == 12


# ---- damaged and missing files --------------------------------------------------------------------------------------


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


def zeroed(content):
    return bytes(len(content))


@pytest.fixture(scope="module")
def model_of_run(trained_run):
    return compiled(trained_run)


@pytest.mark.parametrize("damage", [truncated, flipped, zeroed, lambda content: b""])
def test_a_damaged_state_is_told_and_the_one_before_is_used(trained_run, model_of_run, tmp_path, damage):
    run = Run.open(shutil.copytree(trained_run.folder, tmp_path / "run"))
    newest, previous = (run.checkpoints / name for name in ("resume.npz", "resume.previous.npz"))
    newest.write_bytes(damage(newest.read_bytes()))
    told = []
    assert run.load_resume(model_of_run, told.append).progress["step"] == 6
    assert len(told) == 1 and "\n" not in told[0]
    assert told[0].startswith(f"{newest}: damaged (") and told[0].endswith("from the state before, of step 6")
    assert [row["step"] for row in run.metrics()] == [6] and run.checkpoint_file(6).exists()
    # The damaged file does not take the place of the good one when the next state is written.
    run.save_resume(model_of_run, run.progress())
    assert previous.exists() and run.load_resume(model_of_run, told.append).progress["step"] == 6 and len(told) == 1
    for path in (newest, previous):
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as caught:
        run.load_resume(model_of_run, told.append)
    assert str(caught.value).count("damaged (") == 2 and str(caught.value).endswith(
        "delete both to start again from step 0"
    )
    assert "\n" not in str(caught.value)


def test_a_state_whose_numbers_were_changed_is_found_by_its_digest(trained_run, model_of_run, tmp_path):
    run = Run.open(shutil.copytree(trained_run.folder, tmp_path / "run"))
    path, told = run.checkpoints / "resume.npz", []
    with np.load(path) as saved:
        arrays = dict(saved)
    arrays["model_0"] = arrays["model_0"] + 1
    np.savez(path, **arrays)
    run.load_resume(model_of_run, told.append)
    assert "resume.npz: damaged (its digest is another one)" in told[0]


@pytest.mark.slow
def test_a_full_disk_between_evaluations_is_told_and_training_goes_on(
    trained_run, small_recipe, tmp_path, at_step, capfd
):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    # States are written after the steps 1 to 5. The file of step 3 does not fit.
    at_step({3: limit(20_000), 4: limit(limits[0])})
    try:
        run = train(changed(small_recipe, checkpoint_every=1), tmp_path / "run")
    finally:
        limit(limits[0])()
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1 and "resume.npz: cannot be written (File too large)" in warnings[0]
    assert warnings[0].endswith("the state of step 3 is not saved, and the state of step 2 stays")
    assert_same(weights(run), weights(trained_run))
    assert not list(run.folder.rglob(".partial*"))


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_read(small_recipe, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"run: cannot be written, because .*file is no folder; give another folder"):
        train(small_recipe, tmp_path / "file" / "run")
    # Root may write where others may not, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "checkpoints")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    check_writable(tmp_path / "other")
    with pytest.raises(UserError, match=r"run: cannot be written, because .*checkpoints is read-only for this user"):
        train(small_recipe, tmp_path / "run")


# ---- losses that are not finite -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_at_once_and_keeps_its_batch(small_recipe, tmp_path):
    folder = tmp_path / "run"
    recipe = changed(small_recipe, steps=20, evaluate_every=20, optimizer={"learning_rate": 1e30, "accumulate": 2})
    with pytest.raises(Diverged) as caught:
        train(recipe, folder)
    message = str(caught.value)
    assert "\n" not in message and f"tfseq2seq data show {folder}/failed_batch.npz" in message
    assert "the training loss must be finite, got nan" in message and "there is no checkpoint yet" in message
    assert caught.value.step < 4 and not (folder / "model.weights.h5").exists()
    lines = list(show_batch(folder / "failed_batch.npz", Run.open(folder)))
    assert lines[0].startswith(f"step {caught.value.step}, mean loss nan, ")
    sources = set(Path(recipe.data.train.source).read_text(encoding="utf-8").splitlines())
    shown = [json.loads(line.split(" tokens: ")[1].split(" = ")[0]) for line in lines if line.startswith("  source: ")]
    assert shown and set(shown) <= sources
    assert any(line.startswith("  labels: ") and line.endswith(" <eos>") for line in lines)
    assert any(line.startswith("  weights: ") for line in lines)
    ids = list(show_batch(folder / "failed_batch.npz", None))
    assert len(ids) >= len(lines) and any(line.startswith("  source: ") and line.endswith(" 3") for line in ids)


@pytest.mark.slow
def test_a_loss_above_its_limit_stops_the_training(trained_run, small_recipe, tmp_path):
    shutil.copytree(trained_run.folder, tmp_path / "run")
    with pytest.raises(Diverged, match=r"step 13: the training loss must be at most 0.1 \(training.loss_limit\), got "):
        train(changed(small_recipe, steps=20, loss_limit=0.1), tmp_path / "run", resume=True)
    assert_same(weights(Run.open(tmp_path / "run")), weights(trained_run))


def test_a_state_with_weights_that_are_not_finite_is_not_written(trained_run, tmp_path):
    run = Run.open(shutil.copytree(trained_run.folder, tmp_path / "run"))
    model, before = compiled(run), (run.checkpoints / "resume.npz").read_bytes()
    model.trainable_variables[0].assign(model.trainable_variables[0] * np.nan)
    with pytest.raises(Exception, match="model_0"):
        run.save_resume(model, run.progress())
    assert (run.checkpoints / "resume.npz").read_bytes() == before


def test_a_batch_of_recordings_is_shown_in_samples_and_seconds(tmp_path):
    from tfseq2seq.features.text import TextFeatures
    from tfseq2seq.features.vocabulary import learn_vocabulary
    from tfseq2seq.sources import AudioSource
    from tfseq2seq.spec import AudioSpec, TextSpec

    text = TextSpec(scheme="characters")
    target = TextFeatures(text, learn_vocabulary(["ab"], text))
    run = Run(tmp_path, Recipe(), AudioSource(AudioSpec(sample_rate=8000)), target)
    samples = np.full((2, 16000), 0.25, "float32")
    samples[1, 3] = np.nan
    ids = target(tf.constant(["ab", "b"])).numpy()
    np.savez(
        tmp_path / "failed_batch.npz",
        step=5,
        loss=np.nan,
        labels=ids,
        weights=np.array([2.0, 1.0], "float32"),
        **{"inputs.source": samples, "inputs.source_length": np.array([16000, 4000], "int32")},
    )
    lines = list(show_batch(tmp_path / "failed_batch.npz", run))
    assert "  source: 16,000 samples, 2.000 s, largest 0.25, 0 not finite" in lines
    assert "  source: 4,000 samples, 0.500 s, largest 0.25, 1 not finite" in lines
    assert '  labels: 3 tokens: "ab" = a b <eos>' in lines and "  weights: 2" in lines


@pytest.mark.parametrize("content", [b"", b"PK nonsense", None])
def test_a_file_that_is_no_batch_is_told(tmp_path, content):
    path = tmp_path / "batch.npz"
    if content is None:
        np.savez(path, labels=np.zeros((2, 2)))
    else:
        path.write_bytes(content)
    for wrong in (path, tmp_path / "missing.npz"):
        with pytest.raises(UserError, match="must be a batch that `train` has saved; it cannot be read") as caught:
            list(show_batch(wrong, None))
        assert "\n" not in str(caught.value)
