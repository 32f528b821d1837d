"""Batches that other processes prepare, on this machine or on others: a tf.data service (Audibert et al. 2023).

A dispatcher hands out the shards of an epoch to workers. Each worker reads, tokenizes, filters, shuffles and batches
the shards it gets, and the training receives batches ready for the model. Every pair is in one batch of an epoch,
unless a worker is lost.

The order of batches depends on which worker is faster, so that two runs differ, and a position is an epoch and not a
batch (tensorflow#63079).
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the kernels that workers need)

from tfseq2seq.data.batching import BatchByLength
from tfseq2seq.data.records import reason_of
from tfseq2seq.data.segments import Units, checked_position, generated_batches
from tfseq2seq.errors import UserError

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
# The most shards that a worker reads at a time.
_MOST_OPEN = 8


class ServiceStream:
    """Endless batches of a corpus from the workers of a service, which can begin at any epoch.

    Args:
        units: the raw examples, which have `opened`.
        kept: from raw examples to those that are trained on, by operations of TensorFlow alone.
        batch: makes batches.
        together: the number of examples that a worker shuffles together.
        address: of the dispatcher, HOST:PORT.
        seed: decides the order in which shards are handed out, with the number of an epoch.
        told: called with a sentence about how many examples an epoch has had, where it is news.

    Attributes:
        fault: the error of a user that ended the last dataset. TensorFlow passes on no more than its text.
    """

    def __init__(
        self,
        units: Units,
        kept: Callable[[tf.data.Dataset], tf.data.Dataset],
        batch: BatchByLength,
        together: int,
        address: str,
        seed: int,
        told: Callable[[str], None],
    ):
        self.units, self.kept, self.batch, self.together = units, kept, batch, together
        self.address, self.seed, self.told = address, seed, told
        self.fault: UserError | None = None
        self._used = 0
        self._ends: list[tuple[int, int]] = [(0, 0)]

    def dataset(self, position: Mapping[str, Any] | None = None) -> tf.data.Dataset:
        """Opens the endless batches from the beginning of the epoch of a position; None for the first.

        Raises:
            UserError: the position is not valid, or the service does not answer.
        """
        start = 0 if position is None else checked_position(position)["epoch"]
        self._ends = [(0, start)]
        check_service(self.address)

        first = self._batched(start)
        return generated_batches(self, lambda: self._batches(start, first), first.element_spec)

    def position(self, count: int) -> dict[str, int]:
        """Returns the beginning of the epoch of the batch after `count` batches of the dataset that was opened last."""
        epoch = next(epoch for drawn, epoch in reversed(self._ends) if drawn <= count)
        return {"epoch": epoch, "segment": 0, "batch": 0}

    def _batched(self, epoch: int) -> tf.data.Dataset:
        """The batches of an epoch, to be read by one process or by many."""
        opened, sizes = self.units.opened, self.units.sizes
        assert opened is not None
        order = np.random.default_rng([self.seed, epoch]).permutation(len(sizes))
        # A worker reads so many shards at a time.
        cycle = int(np.clip(self.together * len(sizes) // sum(sizes), 1, _MOST_OPEN))

        def shuffled(unit: tf.Tensor) -> tf.data.Dataset:
            examples = self.kept(opened(tf.data.Dataset.from_tensors(unit)))
            return examples.shuffle(max(1, self.together // cycle), seed=self.seed + epoch)

        # Shuffled inside of the interleaving: behind a dataset that is shuffled outside, batches by length would make
        # TensorFlow (2.21) hand out each shard to every worker.
        units = tf.data.Dataset.from_tensor_slices(order)
        return self.batch(units.interleave(shuffled, cycle, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False))

    def _batches(self, start: int, batched: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
        """Yields the batches from the epoch `start` on, of which the dataset is there already."""
        # Each iterator notes ends of its own. The last one counts.
        ends = self._ends = [(0, start)]
        drawn, epoch = 0, start
        policy = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        while True:
            served = batched.apply(tf.data.experimental.service.distribute(policy, self.address))
            kept = 0
            try:
                for batch in served.as_numpy_iterator():
                    kept += len(batch["target"])
                    yield batch
                    drawn += 1
            except tf.errors.OpError as error:
                self.units.explain(range(len(self.units.sizes)))
                raise UserError(f"data.service: {self.address} gives no more batches: {reason_of(error)}") from None
            total = sum(self.units.sizes)
            if not kept:
                raise UserError(f"data.train: no example is left to use of {total:,}: all are empty or too long")
            if not self._used:
                self.told(f"first epoch: {kept:,} of {total:,} examples; the others are empty or too long")
            elif kept != self._used:
                self.units.explain(range(len(self.units.sizes)))
                self.told(
                    f"{kept:,} examples in an epoch, and {self._used:,} before: a worker was lost or has come back"
                )
            self._used = kept
            epoch += 1
            ends.append((drawn, epoch))
            batched = self._batched(epoch)


def check_service(address: str, seconds: float = _ANSWER_SECONDS) -> None:
    """Raises `UserError` if no dispatcher is at an address, or if it has no worker that answers.

    TensorFlow would wait for them for an hour.

    Args:
        address: HOST:PORT.
        seconds: how long a worker may take to answer.
    """
    _check_dispatcher(address, "data.service")
    answers: queue.Queue[str] = queue.Queue()

    def ask() -> None:
        policy = tf.data.experimental.service.ShardingPolicy.OFF
        try:
            numbers = tf.data.Dataset.range(1).apply(tf.data.experimental.service.distribute(policy, address))
            next(iter(numbers))
            answers.put("")
        except tf.errors.OpError as error:
            answers.put(f"data.service: {address} is no dispatcher of a tf.data service: {reason_of(error)}")

    threading.Thread(target=ask, daemon=True).start()
    try:
        fault = answers.get(timeout=seconds)
    except queue.Empty:
        fault = (
            f"data.service: no worker of {address} answers within {seconds:g} s; start one with "
            f"`tfseq2seq data service worker {address}`"
        )
    if fault:
        raise UserError(fault)


def _check_dispatcher(address: str, name: str) -> None:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{name}: nothing answers at {address} ({reason}); start a dispatcher there with `tfseq2seq data service "
            f"dispatcher --port {port}`"
        ) from None


def start_dispatcher(port: int, folder: str | None = None) -> Any:
    """Starts a dispatcher in this process. It runs as long as what is returned is kept; its `target` has the address.

    Args:
        port: to listen on; 0 for any that is free.
        folder: where it keeps a journal, from which it goes on after a restart; None for no journal.

    Raises:
        UserError: the port or the folder cannot be used.
    """
    # gRPC would share a port that is taken.
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UserError(f"the dispatcher cannot start at port {port}: {error.strerror}; give another --port") from None
    service = tf.data.experimental.service
    config = service.DispatcherConfig(port=port, work_dir=folder, fault_tolerant_mode=folder is not None)
    try:
        return service.DispatchServer(config)
    except tf.errors.OpError as error:
        raise UserError(f"the dispatcher cannot start at port {port}: {reason_of(error)}") from None


def start_worker(dispatcher: str, port: int, host: str) -> Any:
    """Starts a worker in this process. It runs as long as what is returned is kept.

    Args:
        dispatcher: HOST:PORT.
        port: to listen on; 0 for any that is free.
        host: the name of this machine for trainings.

    Raises:
        UserError: nothing answers at `dispatcher`, or the port cannot be used.
    """
    _check_dispatcher(dispatcher, "DISPATCHER")
    service = tf.data.experimental.service
    try:
        return service.WorkerServer(service.WorkerConfig(dispatcher, f"{host}:%port%", port))
    except tf.errors.OpError as error:
        raise UserError(f"the worker cannot start at port {port}: {reason_of(error)}") from None
