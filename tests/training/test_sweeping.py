"""Sweeps choose settings, stop poor trials early, and end the same whether they were killed or not."""

import dataclasses
import json
import subprocess
import sys

import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.files import exclusive, is_held
from tfseq2seq.recipe import dump_recipe, load_recipe
from tfseq2seq.training.halving import goes_on, rungs_of
from tfseq2seq.training.sweep_space import Choices, Range, load_space, recipe_of, shown
from tfseq2seq.training.trials import Job, train_in_processes, wait_for

RATE, WIDTH = "training.optimizer.learning_rate", "model.width"
SPACE = f"{RATE}: {{low: 1e-4, high: 1e-1, log: true}}\n{WIDTH}: [8, 16]\n"


# ---- spaces ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def write_space(tmp_path):
    def write(content, name="space.yaml"):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return write


def test_a_space_has_choices_and_ranges(write_space, small_recipe):
    content = SPACE + "training.label_smoothing: {low: 0, high: 0.2, step: 0.1}\ntraining.keep: {low: 2, high: 4}\n"
    space = load_space(write_space(content), small_recipe)
    assert space == {
        RATE: Range(1e-4, 1e-1, log=True),
        WIDTH: Choices((8, 16)),
        "training.label_smoothing": Range(0, 0.2, step=0.1),
        "training.keep": Range(2, 4),
    }
    assert [values.whole for values in space.values() if isinstance(values, Range)] == [False, False, True]
    changed = recipe_of(small_recipe, {RATE: 1e-4, WIDTH: 8, "training.keep": 3})
    assert (changed.training.optimizer.learning_rate, changed.model.width, changed.training.keep) == (1e-4, 8, 3)
    assert shown({RATE: 0.00012345, WIDTH: 8}) == "learning_rate 0.0001234, width 8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must map keys of a recipe to values"),
        ("- a", "must map keys of a recipe to values"),
        ("model.width: [", "not valid YAML"),
        ("model.widht: [8]", "model.widht: unknown key"),
        ("model.width: 8", "model.width: must be a list of values, or a range with low and high"),
        ("model.width: []", "model.width: must list plain values, such as [2, 4], got []"),
        ("model.width: [[8]]", "model.width: must list plain values"),
        ("model.width: [8, 8]", "model.width: must not list a value twice, got [8, 8]"),
        ("model.width: {low: 8}", 'or a range with low and high, and with log or step, got {"low": 8}'),
        ("model.width: {low: 8, high: 16, steps: 4}", "with log or step"),
        ("model.width: {low: 16, high: 8}", "low and high must be numbers, low below high"),
        ("model.width: {low: a, high: b}", "low and high must be numbers"),
        ("model.width: {low: 8, high: 16, step: 0.5}", "step must be a whole number"),
        ("model.width: {low: 8, high: 16, step: -1}", "step must be a number above 0"),
        (f"{RATE}: {{low: 0, high: 1, log: true}}", "low must be above 0 with log, got 0"),
        (f"{RATE}: {{low: 1e-3, high: 1, log: 2}}", "log must be true or false, got 2"),
        (
            f"{RATE}: {{low: -1.0, high: 1.0}}",
            "the recipe must accept each value alone: training.optimizer.learning_rate",
        ),
        ("training.optimizer.name: [adam, adamx]", "must be one of adam, adamw, sgd, rmsprop, got 'adamx'"),
        ("training.steps: [10, 20]", "training.steps: must be the same in all trials"),
        ("data.validation.source: [a, b]", "must be the same in all trials"),
        ("target.scheme: [words, characters]", "target.scheme: changes the tokens that the loss is a mean over"),
    ],
)
def test_a_space_that_is_not_valid_is_refused_in_one_line(write_space, small_recipe, content, message):
    path = write_space(content)
    with pytest.raises(UserError) as caught:
        load_space(path, small_recipe)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_space_file_that_is_missing_is_refused(small_recipe, tmp_path):
    with pytest.raises(UserError, match="no such space file"):
        load_space(tmp_path / "none.yaml", small_recipe)


# ---- successive halving ---------------------------------------------------------------------------------------------


def test_rungs_are_evaluations_and_end_with_the_last_step():
    assert rungs_of(900, 100, 3) == [100, 300, 900]
    assert rungs_of(1000, 300, 3) == [300, 600, 1000]
    assert rungs_of(1000, 100, 1) == [1000]
    assert rungs_of(10, 20, 2) == [10]


def test_one_trial_in_so_many_goes_on():
    assert goes_on(3.0, [3.0], 3, True)
    assert [goes_on(score, [1.0, 2.0, 3.0], 3, True) for score in (1.0, 2.0, 3.0)] == [True, False, False]
    assert [goes_on(score, [1.0, 2.0, 3.0], 3, False) for score in (1.0, 2.0, 3.0)] == [False, False, True]
    assert sum(goes_on(float(score), list(map(float, range(9))), 3, True) for score in range(9)) == 3
    assert goes_on(1.0, [1.0, 1.0, 1.0], 3, True)


# ---- the order of a sweep, without training -------------------------------------------------------------------------


class FakeTrainer:
    """Writes what a training of a trial leaves in its folder. The score follows from the settings and the step.

    Args:
        stop: the number of the call that is interrupted after half of its trials.
        patience: the step at which all trainings end by themselves.
    """

    def __init__(self, stop=None, patience=None):
        self.calls, self.stop, self.patience = [], stop, patience

    def __call__(self, jobs):
        self.calls.append([(job.folder.name, job.until) for job in jobs])
        for place, job in enumerate(jobs):
            if len(self.calls) - 1 == self.stop and place == len(jobs) // 2:
                raise KeyboardInterrupt
            training = job.recipe.training
            step = min(job.until, self.patience or job.until)
            score = abs(training.optimizer.learning_rate - 0.01) * 100 + 8 / job.recipe.model.width + 10 / step
            (job.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            (job.folder / "recipe.yaml").write_text(dump_recipe(job.recipe))
            progress = {"step": step, "best": step, "best_score": score, "monitor": "val_nll"}
            (job.folder / "checkpoints" / "progress.json").write_text(json.dumps(progress))
        return ["diverged" if job.recipe.training.optimizer.learning_rate > 0.05 else "" for job in jobs]


@pytest.fixture
def sweep(small_recipe, write_space, tmp_path):
    """Runs a sweep with a trainer, and gives the sweep and its messages."""
    pytest.importorskip("optuna")
    from tfseq2seq.training.sweep import Sweep, SweepSettings

    # Rungs at 2, 4 and 12 steps.
    training = dataclasses.replace(small_recipe.training, evaluate_every=2)
    often = dataclasses.replace(small_recipe, training=training)

    def run(trainer, folder="sweep", trials=8, content=SPACE, recipe=often, **settings):
        space, told = load_space(write_space(content), recipe), []
        made = Sweep(tmp_path / folder, recipe, space, SweepSettings(**settings), told.append, trainer)
        made.run(trials)
        return made, told

    return run


def outcome(made):
    found = [(one.params, one.state.name, one.intermediate_values, one.value) for one in made.study.trials]
    return found, (made.folder / "best.yaml").read_text()


def test_a_sweep_finds_good_settings_and_stops_poor_trials(sweep, tmp_path):
    trainer = FakeTrainer()
    made, told = sweep(trainer, trials=20)
    found, _ = outcome(made)
    states = [state for _, state, *_ in found]
    assert states.count("COMPLETE") + states.count("PRUNED") + states.count("FAIL") == 20
    assert states.count("PRUNED") >= 8
    best = load_recipe(made.folder / "best.yaml")
    assert 0.003 < best.training.optimizer.learning_rate < 0.02 and best.model.width == 16
    # The best trial has come to its end, in three parts.
    number = made.study.best_trial.number
    parts = [job for call in trainer.calls for job in call if job[0] == f"trial-{number:03d}"]
    assert [until for _, until in parts] == [2, 4, 12]
    # Of a trial that fails, the message is told and kept.
    failed = states.index("FAIL")
    assert f"trial-{failed:03d}: failed: diverged" in told
    assert made.study.trials[failed].user_attrs == {"error": "diverged"}
    assert any(line.startswith(f"best: trial-{number:03d}, ") for line in told)
    pytest.importorskip("matplotlib")
    assert (made.folder / "importance.png").stat().st_size > 5000
    from tfseq2seq.training.sweep import importance

    # The rate decides: at most scores differ by 9, and by 0.5 between the widths.
    shares = importance(made.study, 2)
    assert list(shares) == [RATE, WIDTH] and sum(shares.values()) == pytest.approx(1) and shares[RATE] > 0.5
    with pytest.raises(UserError, match="needs at least 10 trials with a score, got "):
        importance(made.study, 12)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_a_sweep_that_was_killed_ends_as_one_that_was_not(sweep, workers):
    whole = FakeTrainer()
    expected = outcome(sweep(whole, "whole", workers=workers)[0])
    assert {state for _, state, *_ in expected[0]} >= {"COMPLETE", "PRUNED"}
    if workers > 1:
        assert len(whole.calls[0]) == workers
    for stop in (0, len(whole.calls) // 2, len(whole.calls) - 1):
        with pytest.raises(KeyboardInterrupt):
            sweep(FakeTrainer(stop), f"stopped {stop}", workers=workers)
        again = FakeTrainer()
        assert outcome(sweep(again, f"stopped {stop}", workers=workers)[0]) == expected
        # What was done before is not done again.
        assert len(again.calls) <= len(whole.calls) - stop


def test_more_trials_are_added_to_a_sweep_that_has_ended(sweep):
    first = outcome(sweep(FakeTrainer(), trials=3)[0])[0]
    again = FakeTrainer()
    longer, _ = sweep(again, trials=5)
    assert outcome(longer)[0][:3] == first
    assert {name for call in again.calls for name, _ in call} == {"trial-003", "trial-004"}
    assert outcome(longer)[0] == outcome(sweep(FakeTrainer(), "five", trials=5)[0])[0]


def test_a_trial_whose_patience_has_ended_trains_no_further(sweep):
    trainer = FakeTrainer(patience=3)
    made, _ = sweep(trainer, trials=1, reduction=3)
    assert trainer.calls == [[("trial-000", 2)], [("trial-000", 4)]]
    assert made.study.trials[0].state.name == "COMPLETE"


def test_a_folder_keeps_its_sweep(sweep, small_recipe, tmp_path):
    sweep(FakeTrainer(), trials=2)
    with pytest.raises(UserError, match="has a sweep with another space; give the same"):
        sweep(FakeTrainer(), content=f"{WIDTH}: [8, 16]\n")
    with pytest.raises(UserError, match="has a sweep with another recipe and seed; give the same"):
        sweep(FakeTrainer(), recipe=small_recipe, seed=2)
    with (
        exclusive(tmp_path / "sweep" / ".lock", "taken"),
        pytest.raises(UserError, match="another process runs this sweep"),
    ):
        sweep(FakeTrainer())
    (tmp_path / "sweep" / "study.db").write_bytes(b"no database")
    with pytest.raises(UserError, match="study.db: the study cannot be opened"):
        sweep(FakeTrainer())


def test_settings_that_do_not_go_together_fail_their_trial(sweep):
    # Of two numbers of heads, the width fits both alone, but a smaller width does not.
    content = "model.width: [16, 6]\nmodel.encoder.heads: [2, 4]\n"
    made, told = sweep(FakeTrainer(), content=content, trials=10)
    wrong = [one for one in made.study.trials if one.params == {"model.width": 6, "model.encoder.heads": 4}]
    assert wrong and all(one.state.name == "FAIL" for one in wrong)
    assert any("failed: model.encoder.heads" in line or "failed: model.width" in line for line in told)


def test_a_sweep_in_which_all_trials_fail_tells_why(sweep, small_recipe):
    with pytest.raises(UserError, match="no trial has come to its end; the first one: full disk"):
        sweep(lambda jobs: ["full disk"] * len(jobs), trials=2)


def test_a_sweep_has_no_time_limit_and_needs_optuna(sweep, small_recipe, monkeypatch):
    limited = dataclasses.replace(small_recipe, training=dataclasses.replace(small_recipe.training, minutes=1.0))
    with pytest.raises(UserError, match="training.minutes: must be 0 in a sweep"):
        sweep(FakeTrainer(), recipe=limited)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"sweeps need Optuna; run `pip install 'tfseq2seq\[sweep\]'`"):
        sweep(FakeTrainer())


# ---- processes ------------------------------------------------------------------------------------------------------


class FakeProcess:
    """A process that ends after so many looks at it, with a line in its log."""

    made = []

    def __init__(self, command, stdout, **_):
        self.command, self.looks, self.ended = command, 3, ""
        self.returncode = None
        stdout.write(b"step 2  loss 1.0\ntfseq2seq: no disk\n")
        FakeProcess.made.append(self)

    def poll(self):
        self.looks -= 1
        if self.looks <= 0 and self.returncode is None:
            self.returncode = [0, 2, -9][FakeProcess.made.index(self)]
        return self.returncode

    def terminate(self):
        self.ended = "terminated"

    def wait(self):
        self.ended += " and waited for"


@pytest.fixture
def jobs(small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeProcess, "made", [])
    monkeypatch.setattr(subprocess, "Popen", FakeProcess)
    monkeypatch.setattr("tfseq2seq.training.trials._INTERVAL", 0.0)
    (tmp_path / "trial-001").mkdir()
    (tmp_path / "trial-001" / "recipe.yaml").write_text("")
    return [Job(tmp_path / f"trial-{number:03d}", small_recipe, 6) for number in range(3)]


def test_trials_train_at_the_same_time_and_their_errors_are_given(jobs, small_recipe, tmp_path):
    found = train_in_processes(jobs)
    log = tmp_path / "trial-001.log"
    assert found == ["", f"no disk ({log})", f"its process was ended by SIGKILL ({tmp_path / 'trial-002.log'})"]
    recipe, folder = tmp_path / "trial-000.yaml", tmp_path / "trial-000"
    expected = [sys.executable, "-m", "tfseq2seq.cli", "train", str(recipe), "--run", str(folder), "--until", "6"]
    commands = [process.command for process in FakeProcess.made]
    assert commands[0] == expected and commands[1][-1] == "--resume"
    assert load_recipe(recipe) == small_recipe


def test_a_trial_that_was_interrupted_has_not_failed(jobs, monkeypatch):
    monkeypatch.setattr(FakeProcess, "poll", lambda self: setattr(self, "returncode", 143) or 143)
    with pytest.raises(KeyboardInterrupt):
        train_in_processes(jobs)


def test_the_process_of_a_killed_sweep_is_waited_for(tmp_path, small_recipe, monkeypatch):
    from tfseq2seq.training import trials

    # A process that inherits the lock, as that of a trial does, and outlives what has started it.
    monkeypatch.setattr(sys, "executable", "/bin/sleep")
    monkeypatch.setattr(trials, "_arguments", lambda *_: ["1"])
    process = trials._start(Job(tmp_path / "trial-000", small_recipe, 6))
    assert is_held(tmp_path / ".trial-000.lock")
    wait_for(tmp_path / "trial-000")
    assert process.wait(timeout=1) == 0


def test_an_interrupted_sweep_ends_the_processes_of_its_trials(jobs, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfseq2seq.training.trials.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_in_processes(jobs)
    assert {process.ended for process in FakeProcess.made} == {"terminated and waited for"}


@pytest.mark.slow
def test_a_real_sweep_trains_each_trial_as_one_training_would(small_recipe, tmp_path, capsys):
    pytest.importorskip("optuna")
    from tfseq2seq import cli
    from tfseq2seq.run import Run
    from tfseq2seq.training.fit import train

    schedule = dataclasses.replace(small_recipe.training.schedule, name="cosine", warmup=1)
    training = dataclasses.replace(small_recipe.training, steps=4, evaluate_every=2, schedule=schedule)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(dataclasses.replace(small_recipe, training=training)))
    (tmp_path / "space.yaml").write_text(SPACE)
    folder = tmp_path / "sweep"
    options = ["--space", str(tmp_path / "space.yaml"), "--trials", "2", "--reduction", "2", "--run", str(folder)]
    cli.main(["sweep", str(tmp_path / "recipe.yaml"), *options])
    output, errors = capsys.readouterr()
    assert "2 trials: " in errors and "best: trial-00" in errors
    (tmp_path / "printed.yaml").write_text(output)
    best = load_recipe(folder / "best.yaml")
    assert load_recipe(tmp_path / "printed.yaml") == best

    def values(run):
        return [
            {name: value for name, value in row.items() if name not in ("seconds", "tokens_per_second")}
            for row in run.metrics()
        ]

    trial = Run.open(folder / "trial-000")
    # Two processes have trained it, the second one by the schedule of all steps.
    assert [row["step"] for row in trial.metrics()] == [2, 4]
    # Not bit for bit: TensorFlow optimizes graphs in a process of its own, and not in this one.
    for found, expected in zip(values(trial), values(train(trial.recipe, tmp_path / "whole")), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
