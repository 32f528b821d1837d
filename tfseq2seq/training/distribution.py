"""Training on several devices: `tf.distribute` strategies by name, and what the processes of a training share.

    strategy   processes   devices of a process
    one        1           1
    mirrored   1           all GPUs, or logical CPUs for a try-out
    workers    several     all GPUs, or the CPU; see `tf.distribute.MultiWorkerMirroredStrategy`

Each process makes the same global batches and takes the rows of its replicas, so the order of the examples does not
depend on the number of devices. Only the chief, worker 0, writes the run.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.spec import TrainingSpec
from tfseq2seq.training.backends import on_tensorflow, use_devices
from tfseq2seq.training.global_batch import padded_rows, replica_rows

# More than Slurm starts on a node.
_MOST_TASKS = 4096


@dataclass(frozen=True)
class Distribution:
    """The devices of a training.

    Attributes:
        strategy: the TensorFlow strategy, or None for a single device.
        rank: the index of this process.
        workers: the number of processes.
        local: the number of replicas of this process.
    """

    strategy: tf.distribute.Strategy | None = None
    rank: int = 0
    workers: int = 1
    local: int = 1

    @property
    def chief(self) -> bool:
        """Whether this process writes the run."""
        return self.rank == 0

    @property
    def replicas(self) -> int:
        return self.workers * self.local

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context to build the model, the optimizer and the metrics in."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def distribute(self, examples: tf.data.Dataset) -> Any:
        """Returns global batches as a dataset for `fit`, which gives each replica its rows."""
        if self.strategy is None:
            if self.local == 1:
                return examples
            return examples.map(lambda *example: padded_rows(example, self.local))
        return self.strategy.distribute_datasets_from_function(lambda context: self.local_rows(examples))

    def local_rows(self, examples: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the batches of the replicas of this process, one after the other."""
        return replica_rows(examples, self.rank * self.local, self.local, self.replicas).prefetch(self.local)

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is set in any process. All processes must call it."""
        return bool(self.largest([flag])[0])

    def largest(self, values: Sequence[int]) -> list[int]:
        """Returns the largest value of all processes at each index. All processes must call it."""
        if self.workers == 1:
            return [int(value) for value in values]
        table = np.zeros((self.workers, len(values)), np.int64)
        table[self.rank] = [int(value) for value in values]
        return self._total(table.reshape(-1)).reshape(table.shape).max(axis=0).tolist()

    def gather(self, content: bytes) -> list[bytes]:
        """Returns the contents that all processes give, by rank. All processes must call it."""
        if self.workers == 1:
            return [content]
        sizes = np.zeros(self.workers, np.int64)
        sizes[self.rank] = len(content)
        sizes = self._total(sizes)
        # Eight bytes are a number. A sum with zeros leaves them as they are.
        numbers = -(-sizes // 8)
        begin = int(numbers[: self.rank].sum())
        joined = np.zeros(int(numbers.sum()), np.int64)
        joined[begin : begin + numbers[self.rank]] = np.frombuffer(content + bytes(-len(content) % 8), np.int64)
        joined = self._total(joined)
        parts = np.split(joined, np.cumsum(numbers)[:-1])
        return [part.tobytes()[:size] for part, size in zip(parts, sizes, strict=True)]

    def from_chief(self, content: bytes) -> bytes:
        """Returns the content that the chief gives. All processes must call it; what others give is ignored."""
        return self.gather(content if self.chief else b"")[0]

    def share(self, values: Sequence[Any]) -> list[Any]:
        """Returns this process's part of a list, of which `join` makes the whole again."""
        return list(values[self.rank :: self.workers])

    def join(self, parts: Sequence[str]) -> list[str]:
        """Returns the texts of all processes in the order of the list that `share` divided."""
        gathered = [json.loads(content) for content in self.gather(json.dumps(list(parts)).encode("utf-8"))]
        joined = [""] * sum(map(len, gathered))
        for rank, own in enumerate(gathered):
            joined[rank :: self.workers] = own
        return joined

    def _total(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the sum of arrays of int64 over all processes."""
        return _summed(self.strategy, tf.constant(numbers)).numpy()


@tf.function(reduce_retracing=True)
def _summed(strategy: tf.distribute.Strategy, numbers: tf.Tensor) -> tf.Tensor:
    def total(own: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        first = tf.equal(context.replica_id_in_sync_group % (strategy.extended._num_devices_per_worker), 0)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(first, own, tf.zeros_like(own)))

    return strategy.experimental_local_results(strategy.run(total, args=(numbers,)))[0]


def open_distribution(spec: TrainingSpec) -> Distribution:
    """Opens the devices that a recipe asks for. It must be called before TensorFlow computes anything.

    Raises:
        UserError: the devices do not exist, or the processes of a cluster are not described.
    """
    return _OPENERS[spec.strategy](spec)


def _one(spec: TrainingSpec) -> Distribution:
    return Distribution()


def _mirrored(spec: TrainingSpec) -> Distribution:
    if not on_tensorflow():
        # JAX divides the rows of a batch itself.
        return Distribution(local=use_devices(spec.devices))
    gpus = tf.config.list_physical_devices("GPU")
    count = spec.devices or len(gpus)
    if gpus and count > len(gpus):
        raise UserError(f"training.devices: must be at most {len(gpus)}, the number of GPUs, got {count}")
    if not gpus:
        if not count:
            raise UserError(
                "training.strategy: mirrored needs GPUs, and TensorFlow finds none; set training.devices to a number "
                "of logical CPU devices to try it out, or training.strategy to one"
            )
        _divide_cpu(count)
    names = [f"{'GPU' if gpus else 'CPU'}:{index}" for index in range(count)]
    return Distribution(tf.distribute.MirroredStrategy(names), local=count)


def _divide_cpu(count: int) -> None:
    """Makes logical devices of the CPU."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        # TensorFlow has begun to compute, and its devices stay as they are.
        found = len(tf.config.list_logical_devices("CPU"))
        if found < count:
            raise UserError(
                f"training.devices: must be set before TensorFlow computes anything; this process has {found} CPU "
                f"device{'s' * (found > 1)}, got {count}"
            ) from None


def _workers(spec: TrainingSpec) -> Distribution:
    communication = {
        "auto": tf.distribute.experimental.CommunicationImplementation.AUTO,
        "ring": tf.distribute.experimental.CommunicationImplementation.RING,
        "nccl": tf.distribute.experimental.CommunicationImplementation.NCCL,
    }[spec.communication]
    resolver = cluster_resolver(spec.cluster)
    options = tf.distribute.experimental.CommunicationOptions(implementation=communication)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver, communication_options=options)
    workers = sum(len(tasks) for tasks in resolver.cluster_spec().as_dict().values())
    return Distribution(strategy, _rank(resolver), workers, strategy.num_replicas_in_sync // workers)


_OPENERS = {"one": _one, "mirrored": _mirrored, "workers": _workers}


def cluster_resolver(name: str) -> tf.distribute.cluster_resolver.ClusterResolver:
    """Returns the description of the processes: where they are, and which of them this one is.

    Args:
        name: "tf_config" for the variable TF_CONFIG, "slurm", "kubernetes", or "auto" for the first of the first two
            that this process runs under.

    Raises:
        UserError: this process has no such description, or it is not valid.
    """
    if name == "auto":
        name = "slurm" if "TF_CONFIG" not in os.environ and "SLURM_STEP_NODELIST" in os.environ else "tf_config"
    resolvers = tf.distribute.cluster_resolver
    if name == "tf_config":
        _check_tf_config(os.environ.get("TF_CONFIG"))
        return resolvers.TFConfigClusterResolver()
    try:
        if name == "kubernetes":
            return resolvers.KubernetesClusterResolver()
        if tf.config.list_physical_devices("GPU"):
            return resolvers.SlurmClusterResolver()
        # It knows no machines without GPUs: they count as having one for each task, which is not used.
        return resolvers.SlurmClusterResolver(gpus_per_node=_MOST_TASKS, gpus_per_task=1, auto_set_gpu=False)
    except (RuntimeError, ImportError, ValueError, KeyError) as error:
        raise UserError(f"training.cluster: {name} does not describe the workers: {error}") from None


def _check_tf_config(text: str | None) -> None:
    """Checks the variable TF_CONFIG.

    Raises:
        UserError: it is missing, or does not describe workers and one of them as the own task.
    """
    example = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'
    if not text:
        raise UserError(
            f"TF_CONFIG: must describe the workers for training.strategy=workers, such as {example}; it is not set. "
            "`tfseq2seq launch` sets it for workers on this machine"
        )
    try:
        values = json.loads(text)
        tasks, task = values["cluster"], values["task"]
        others = sorted(set(tasks) - {"worker", "chief"})
        valid = isinstance(tasks[task["type"]][int(task["index"])], str)
    except (ValueError, TypeError, KeyError, IndexError):
        others, valid = [], False
    if others:
        raise UserError(f"TF_CONFIG: must have workers only, got {', '.join(others)}; tasks of that kind have no part")
    if not valid:
        raise UserError(f"TF_CONFIG: must be as {example}, with a task of the cluster, got {text[:200]}")


def _rank(resolver: Any) -> int:
    """Returns the index of this process. A chief comes before the workers."""
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", []))
    return resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)


@contextlib.contextmanager
def explained_failures(distribution: Distribution) -> Iterator[None]:
    """Raises `UserError` for errors inside that mean that another worker has gone."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if distribution.workers == 1:
            raise
        # The first line can be the place in the graph alone.
        lines = [line.strip() for line in str(error.message).splitlines()]
        reason = next((line for line in lines if "aborted by" in line or "Socket" in line), lines[0])[-200:]
        raise UserError(
            f"worker {distribution.rank}: another worker has stopped ({reason}); start all workers again with --resume"
        ) from None
