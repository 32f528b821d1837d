"""MLflow and Weights & Biases get the values of evaluations, and the profiler the updates that are asked for.

The packages of the loggers are not installed here. Modules with their functions take their places.
"""

import contextlib
import dataclasses
import importlib.machinery
import json
import sys
import types

import keras
import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import Recipe
from tfseq2seq.training import profiling
from tfseq2seq.training.fit import train
from tfseq2seq.training.loggers import open_loggers


class FakeLogger(keras.callbacks.Callback):
    """Remembers the values of each evaluation."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("values", epoch, sorted(logs)))


@contextlib.contextmanager
def opened(calls, run):
    try:
        yield run
    except BaseException:
        calls.append("failed")
        raise
    calls.append("closed")


@pytest.fixture
def fakes(monkeypatch):
    """The calls that a fake mlflow and a fake wandb get, by name."""
    calls = {"mlflow": [], "wandb": []}

    def module(name, **content):
        found = types.ModuleType(name)
        found.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(found).update(content)
        monkeypatch.setitem(sys.modules, name, found)
        return found

    def start_run(**options):
        calls["mlflow"].append(options)
        return opened(calls["mlflow"], types.SimpleNamespace(info=types.SimpleNamespace(run_id="m1")))

    def init(**options):
        calls["wandb"].append({name: options.get(name) for name in ("project", "name", "id", "resume")})
        assert options["config"]["training"]["steps"] == 12
        return opened(calls["wandb"], types.SimpleNamespace(id="w1"))

    texts = calls["mlflow"]
    mlflow = module("mlflow", active_run=lambda: None, start_run=start_run)
    mlflow.log_text = lambda text, name: texts.append((name, "steps: 12" in text))
    mlflow.keras = module("mlflow.keras", MlflowCallback=lambda: FakeLogger(calls["mlflow"]))
    module("wandb", run=None, init=init)
    module("wandb.integration")
    module("wandb.integration.keras", WandbMetricsLogger=lambda: FakeLogger(calls["wandb"]))
    return calls


def logged(recipe, **changes):
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, **changes))


@pytest.mark.slow
def test_loggers_and_the_profiler_watch_a_training(fakes, small_recipe, tmp_path, capsys, monkeypatch):
    profiled = []
    monkeypatch.setattr(profiling.tf.profiler.experimental, "start", lambda folder: profiled.append(folder))
    monkeypatch.setattr(profiling.tf.profiler.experimental, "stop", lambda: profiled.append("stop"))
    train(logged(small_recipe, loggers=("mlflow", "wandb"), profile=(3, 5)), tmp_path / "run")
    values = ["accuracy", "loss", "nll", "val_accuracy", "val_loss", "val_nll"]
    evaluations = [("values", epoch, values) for epoch in (0, 1)]
    assert fakes["mlflow"] == [{"run_name": "small"}, ("recipe.yaml", True), *evaluations, "closed"]
    new = {"project": "tfseq2seq", "name": "small", "id": None, "resume": None}
    assert fakes["wandb"] == [new, *evaluations, "closed"]
    logs = tmp_path / "run" / "logs"
    assert json.loads((logs / "loggers.json").read_text()) == {"mlflow": "m1", "wandb": "w1"}
    assert profiled == [str(logs), "stop"]
    assert f"profile of steps 3 to 5: {logs}/plugins/profile; to see it" in capsys.readouterr().err


@pytest.fixture
def run(small_recipe, tmp_path):
    return types.SimpleNamespace(folder=tmp_path, recipe=logged(small_recipe, loggers=("mlflow", "wandb")))


def test_a_resumed_training_goes_on_in_the_run_of_its_logger(fakes, run):
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            assert len(open_loggers(run, stack)) == 2
    assert [call for call in fakes["mlflow"] if isinstance(call, dict)] == [{"run_name": "small"}, {"run_id": "m1"}]
    assert fakes["wandb"][2] == {"project": "tfseq2seq", "name": "small", "id": "w1", "resume": "allow"}


def test_a_run_that_the_caller_has_opened_stays_open(fakes, run, monkeypatch):
    own = types.SimpleNamespace(info=types.SimpleNamespace(run_id="own"), id="own")
    monkeypatch.setattr(sys.modules["mlflow"], "active_run", lambda: own)
    monkeypatch.setattr(sys.modules["wandb"], "run", own)
    with contextlib.ExitStack() as stack:
        open_loggers(run, stack)
    assert fakes == {"mlflow": [("recipe.yaml", True)], "wandb": []}


def test_a_training_that_fails_closes_its_loggers_as_failed(fakes, run):
    with pytest.raises(KeyError), contextlib.ExitStack() as stack:
        open_loggers(run, stack)
        raise KeyError
    assert fakes["mlflow"][-1] == fakes["wandb"][-1] == "failed"


def test_a_logger_that_cannot_start_is_told_in_one_line(fakes, run, monkeypatch):
    def refused(**_):
        raise RuntimeError("no server\nat all")

    monkeypatch.setattr(sys.modules["wandb"], "init", refused)
    with pytest.raises(UserError) as caught, contextlib.ExitStack() as stack:
        open_loggers(run, stack)
    assert str(caught.value).startswith("training.loggers: wandb cannot start (no server); correct its settings")


def test_a_missing_package_is_told_before_training(small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="training.loggers: mlflow needs its package.* run `pip install mlflow`"):
        train(logged(small_recipe, loggers=("mlflow",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loggers": ["comet"]}, "training.loggers[0]: must be one of mlflow, wandb"),
        ({"loggers": ["wandb", "wandb"]}, "training.loggers: must not have a logger twice"),
        ({"profile": [5]}, "training.profile: must be two training steps [first, last]"),
        ({"profile": [6, 5]}, "training.profile: must be two training steps [first, last]"),
        ({"profile": [5, 13]}, "the last at most 12 (training.steps), got [5, 13]"),
        ({"profile": [0, 5]}, "training.profile[0]: must be at least 1, got 0"),
    ],
)
def test_loggers_and_profiles_that_cannot_be_are_refused(small_recipe, changes, message):
    values = json.loads(json.dumps(to_dict(small_recipe)))
    values["training"].update(changes)
    with pytest.raises(UserError) as caught:
        from_dict(Recipe, values)
    assert message in str(caught.value)


# ---- the profiler ---------------------------------------------------------------------------------------------------


@pytest.fixture
def steps_profiled(monkeypatch, tmp_path):
    """Goes through updates of two batches each, and gives those at whose batches the profiler was active."""

    def profiled(first, last, begin=0, end=8):
        active, found = [False], []
        monkeypatch.setattr(profiling.tf.profiler.experimental, "start", lambda _: active.__setitem__(0, True))
        monkeypatch.setattr(profiling.tf.profiler.experimental, "stop", lambda: active.__setitem__(0, False))
        training = types.SimpleNamespace(profile=(first, last))
        position = types.SimpleNamespace(step=begin)
        run = types.SimpleNamespace(folder=tmp_path, recipe=types.SimpleNamespace(training=training))
        callback = profiling.Profile(run, position)
        for batch in range(2 * (end - begin)):
            callback.on_train_batch_begin(batch)
            if active[0]:
                found.append(position.step + 1)
            position.step += batch % 2
            callback.on_train_batch_end(batch)
        callback.on_train_end()
        assert not active[0]
        return found

    return profiled


def test_the_profiler_is_active_in_the_updates_asked_for(steps_profiled):
    assert steps_profiled(1, 1) == [1, 1]
    assert steps_profiled(3, 5) == [3, 3, 4, 4, 5, 5]
    # Of a resumed training, what is left of them.
    assert steps_profiled(3, 5, begin=3) == [4, 4, 5, 5]
    assert steps_profiled(3, 5, begin=5) == []
    # Of a training that ends early, what there is.
    assert steps_profiled(3, 12, end=4) == [3, 3, 4, 4]
