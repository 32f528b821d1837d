"""Several devices: the same update, the same order of examples, and processes that begin and stop together."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.cli import main
from tfseq2seq.errors import UserError
from tfseq2seq.recipe import dump_recipe, from_dict, to_dict
from tfseq2seq.run import Run
from tfseq2seq.spec import Recipe, TrainingSpec
from tfseq2seq.training.distribution import Distribution, cluster_resolver, open_distribution
from tfseq2seq.training.global_batch import globally_weighted, padded_rows, replica_rows

TESTS = Path(__file__).parents[1]


def environment(**variables):
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}


# ---- one update -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replicas", "cases"), [(2, []), (4, ["cross entropy", "accumulated"])], ids=["2 devices", "4 devices"]
)
def test_an_update_on_several_devices_is_that_of_one(replicas, cases):
    script = [sys.executable, str(Path(__file__).with_name("distributed_updates.py")), str(replicas), *cases]
    done = subprocess.run(script, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0.4 < found["equal masks"] < 0.6, "dropout has masks of its own in each replica"
    for case, differences in found["updates"].items():
        assert differences["changes"] < 1e-6, (case, differences)
        assert differences["logs"] < 1e-6, (case, differences)


# ---- batches --------------------------------------------------------------------------------------------------------


def batches(*sizes):
    """Batches of a column of numbers from 1 on."""
    ends = np.cumsum(sizes)
    rows = [np.arange(end - size, end, dtype="int32")[:, np.newaxis] + 1 for end, size in zip(ends, sizes)]

    def examples():
        for own in rows:
            yield {"source": own, "target": own}, own, np.ones(own.shape, "float32")

    ids = tf.TensorSpec([None, 1], tf.int32)
    signature = ({"source": ids, "target": ids}, ids, tf.TensorSpec([None, 1], tf.float32))
    return tf.data.Dataset.from_generator(examples, output_signature=signature)


def test_the_weights_of_an_update_sum_to_its_number_of_batches():
    for count in (1, 2):
        weights = [float(tf.reduce_sum(weights)) for *_, weights in globally_weighted(batches(3, 1, 4, 4), count)]
        assert weights == pytest.approx([1, 1, 1, 1] if count == 1 else [1.5, 0.5, 1, 1])


def test_rows_that_are_added_weigh_nothing_and_repeat_a_source():
    (batch,) = batches(3)
    inputs, labels, weights = padded_rows(batch, 2)
    assert inputs["source"][:, 0].numpy().tolist() == [1, 2, 3, 1]
    assert inputs["target"][:, 0].numpy().tolist() == labels[:, 0].numpy().tolist() == [1, 2, 3, 0]
    assert weights[:, 0].numpy().tolist() == [1, 1, 1, 0]


def test_two_workers_see_every_example_once_in_the_order_of_one():
    whole = [labels[:, 0].numpy().tolist() for _, labels, _ in batches(5, 4, 1)]
    found = [
        [labels[:, 0].numpy().tolist() for _, labels, _ in replica_rows(batches(5, 4, 1), rank, 1, 2)]
        for rank in range(2)
    ]
    joined = [[index for index in first + second if index] for first, second in zip(*found, strict=True)]
    assert joined == whole
    assert [[len(part) for part in worker] for worker in found] == [[3, 2, 1], [3, 2, 1]]


def test_what_is_shared_among_processes_is_joined_in_order():
    values = ["a", "b", "c", "d", "e"]
    parts = [Distribution(rank=rank, workers=2).share(values) for rank in range(2)]
    assert parts == [["a", "c", "e"], ["b", "d"]]
    assert Distribution().join(Distribution().share(values)) == values


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.strategy=parameter_server"], "Keras 3 does not support it (keras-team/keras#18624)"),
        (["training.strategy=dtensor"], "dtensor is not possible: Keras 3 does not support it on TensorFlow"),
        (["training.devices=2"], "training.devices: must be 0 unless strategy is mirrored, got 2"),
        (["training.communication=ring"], "training.communication: must be auto unless strategy is workers, got ring"),
        (["training.strategy=mirrored"], "training.strategy: mirrored needs GPUs, and TensorFlow finds none; set"),
    ],
)
def test_what_is_not_possible_is_refused_with_the_reason(settings, message, small_recipe, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(dump_recipe(small_recipe))
    overrides = [part for setting in settings for part in ("--set", setting)]
    with pytest.raises(SystemExit) as ended:
        main(["train", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "run"), *overrides])
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not set. `tfseq2seq launch` sets it for workers on this machine"),
        ("{", "must be as"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "with a task of the cluster"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}', "got ps"),
    ],
)
def test_a_cluster_must_be_described(text, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=re.escape(message)):
        cluster_resolver("tf_config")


def test_slurm_is_asked_where_it_runs_the_process(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="training.cluster: slurm does not describe the workers"):
        open_distribution(TrainingSpec(strategy="workers", cluster="slurm"))
    # As `srun` sets it for the second of two tasks.
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-2]")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x2)")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    resolver = cluster_resolver("auto")
    assert resolver.cluster_spec().as_dict() == {"worker": ["node1:8888", "node2:8888"]} and resolver.task_id == 1


# ---- processes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe_file(small_recipe, tmp_path_factory):
    """A recipe without dropout, whose masks differ from device to device."""
    values = to_dict(small_recipe)
    for part in ("encoder", "decoder"):
        values["model"][part]["dropout"] = 0.0
    values["training"] |= {"steps": 6, "evaluate_every": 3, "monitor": "bleu", "generate_pairs": 5}
    path = tmp_path_factory.mktemp("recipes") / "workers.yaml"
    path.write_text(dump_recipe(from_dict(Recipe, values)))
    return path


def launched(recipe_file, folder, *options):
    command = [
        sys.executable,
        "-m",
        "tfseq2seq.cli",
        "launch",
        str(recipe_file),
        "--run",
        str(folder),
        "--workers",
        "2",
    ]
    return [*command, *options]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(recipe_file, tmp_path):
    folder = tmp_path / "two"
    done = subprocess.run(launched(recipe_file, folder), env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    # One process logs for both.
    assert "[worker 0] training on 2 devices (workers)" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("[worker 1] step")]
    command = [sys.executable, "-m", "tfseq2seq.cli", "train", str(recipe_file), "--run", str(tmp_path / "one")]
    subprocess.run(command, env=environment(), capture_output=True, check=True, timeout=600)
    for found, expected in zip(Run.open(folder).metrics(), Run.open(tmp_path / "one").metrics(), strict=True):
        for name in ("val_nll", "val_accuracy", "val_bleu", "nll", "accuracy"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5), name


@pytest.mark.slow
def test_a_worker_that_fails_stops_the_others_and_the_run_goes_on_from_its_last_checkpoint(recipe_file, tmp_path):
    folder, steps = tmp_path / "run", ("--set", "training.steps=3000", "--set", "training.monitor=loss")
    process = subprocess.Popen(
        launched(recipe_file, folder, *steps), env=environment(), stderr=subprocess.PIPE, text=True
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("[worker 0] step"):
            # The second process of the launcher is killed, as by a machine that fails.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[1]), signal.SIGKILL)
            break
    lines += process.stderr.readlines()
    assert process.wait(120) == 128 + signal.SIGKILL, "".join(lines)
    assert any("worker 1 ended first, with SIGKILL; the others were stopped" in line for line in lines)
    assert not any("Traceback" in line for line in lines), "".join(lines)
    reached = Run.open(folder).progress()["step"]
    more = ("--set", f"training.steps={reached + 3}", "--set", "training.monitor=loss", "--resume")
    done = subprocess.run(
        launched(recipe_file, folder, *more), env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert Run.open(folder).progress()["step"] == reached + 3
