"""Generation over many inputs with a live model: sorted by length, in batches side by side, order kept.

A search is many small operations, of which few can use more than one core. Several searches beside each other, each on
its own core, get through two to three times as many inputs as one search after the other on all cores.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.runtime.outputs import Output

_MOST_WORKERS = 8
# Batches are full up to this number of positions. The memory of attention grows with its square.
_FULL_BATCHES_UP_TO = 1024


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Batches a `Generator` runs at a time: one per core but at most eight, or one where TensorFlow has a GPU."""
    return 1 if tf.config.list_physical_devices("GPU") else min(cores(), _MOST_WORKERS)


def share_cores(batches: int, workers: int = 0) -> None:
    """Divides the cores among the batches that a `Generator` runs at a time, for the threads inside operations.

    It is for programs that only generate, and must run before TensorFlow's first operation; later it has no effect.

    Args:
        batches: to generate in all.
        workers: of the generator.
    """
    at_a_time = max(min(batches, workers or default_workers()), 1)
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(max(cores() // at_a_time, 1))


class Generator:
    """Calls a predictor on lists of strings, or of arrays of samples.

    Args:
        model: what to call.
        batch_size: the most inputs in a batch; they are sorted by length first, so that little is padding. Batches of
            inputs of more than about a thousand positions are smaller, so that memory stays bounded.
        workers: batches at a time, each with memory of its own; 0 for `default_workers`. More than one run in threads,
            which do not see the caller's `tf.device`.
        checked: whether the caller has already left out what is too long, which takes as long to find as it takes to
            read the inputs.
    """

    def __init__(self, model: Predictor, batch_size: int = 64, workers: int = 0, checked: bool = False):
        self.model, self.batch_size, self.checked = model, batch_size, checked
        self.workers = workers or default_workers()
        text, signature = tf.TensorSpec([None], tf.string), model.signature
        seeds = tf.TensorSpec([None, 2], tf.int32)

        def forced(*raw_and_prefix: Any) -> dict[str, Any]:
            *raw, prefix, seeds = raw_and_prefix
            return model.texts(*raw, prefix=prefix, seeds=seeds)

        def filled(*raw_and_suffix: Any) -> dict[str, Any]:
            *raw, suffix, seeds = raw_and_suffix
            return model.texts(*raw, suffix=suffix, seeds=seeds)

        def unforced(*raw_and_seeds: Any) -> dict[str, Any]:
            *raw, seeds = raw_and_seeds
            return model.texts(*raw, seeds=seeds)

        self._texts = tf.function(unforced, input_signature=[*signature, seeds], autograph=False)
        self._forced = tf.function(forced, input_signature=[*signature, text, seeds], autograph=False)
        self._filled = tf.function(filled, input_signature=[*signature, text, seeds], autograph=False)
        self._log_probs = tf.function(model.log_probabilities, input_signature=[*signature, text], autograph=False)

    def generate(
        self,
        inputs: Sequence[Any],
        prefixes: Sequence[str] | None = None,
        advance: Callable[[int], None] = lambda count: None,
        streams: Sequence[int] | None = None,
        suffixes: Sequence[str] | None = None,
    ) -> list[Output]:
        """Outputs for each input, in the order given.

        Args:
            inputs: Python values.
            prefixes: what the outputs begin with.
            advance: called after each batch with the number of its inputs.
            streams: with search.sample, the number of the stream of random numbers of each input, which determines with
                search.seed what is drawn for it; by default 0, 1, 2, ... in the order of the inputs.
            suffixes: what the outputs end with; what is between the inputs, which are prompts, and them is filled in.

        Raises:
            UserError: an input is longer than the model answers (`search.max_input`), or a prefix or suffix
                than it scores. `Predictor.faults` tells which ones are.
        """
        if not self.checked:
            _refuse("input", self.model.faults(inputs))
            if prefixes is not None:
                _refuse("prefix", self.model.target_faults(prefixes))
            if suffixes is not None:
                _refuse("suffix", self.model.suffix_faults(inputs, suffixes))
        outputs: list[Output | None] = [None] * len(inputs)

        def search(indices: list[int]) -> dict[str, Any]:
            packed = self.model.pack([inputs[index] for index in indices])
            numbers = indices if streams is None else [streams[index] for index in indices]
            seeds = tf.constant([[self.model.spec.seed, number] for number in numbers], tf.int32)
            if suffixes is not None:
                return self._filled(*packed, _strings(suffixes, indices), seeds)
            if prefixes is None:
                return self._texts(*packed, seeds)
            return self._forced(*packed, _strings(prefixes, indices), seeds)

        for indices, found in self._each_batch([self.model.length(one) for one in inputs], search):
            for row, index in enumerate(indices):
                outputs[index] = Output(
                    [text.decode("utf-8", "replace") for text in found["text"][row].numpy()],
                    found["score"][row].numpy().tolist(),
                    found["log_prob"][row].numpy().tolist(),
                    bool(found["cut"][row, 0]),
                )
            advance(len(indices))
        return [output for output in outputs if output is not None]

    def log_probabilities(self, inputs: Sequence[Any], targets: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """For each pair the log-probability of its target in nats, [N], and the tokens in it, <eos> included, [N].

        Raises:
            UserError: an input is longer than the model answers, or a target than it scores.
        """
        if not self.checked:
            _refuse("input", self.model.faults(inputs))
            _refuse("target", self.model.target_faults(targets))
        totals, counts = np.zeros(len(inputs), "float64"), np.zeros(len(inputs), "int64")
        lengths = [self.model.length(one) + len(target) for one, target in zip(inputs, targets, strict=True)]

        def score(indices: list[int]) -> tuple[Any, Any]:
            packed = self.model.pack([inputs[index] for index in indices])
            return self._log_probs(*packed, _strings(targets, indices))

        for indices, found in self._each_batch(lengths, score):
            totals[indices], counts[indices] = found[0].numpy(), found[1].numpy()
        return totals, counts

    def _each_batch(self, lengths: Sequence[int], call: Callable[[list[int]], Any]) -> Iterator[tuple[list[int], Any]]:
        """The places of the inputs in each batch, and what `call` gives for them."""
        # The longest first: the batch that takes the most time must not be left for the end, when nothing is beside it.
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        batches, begin = [], 0
        while begin < len(order):
            end = begin + self._batch_size_for(lengths[order[begin]])
            batches.append(order[begin:end])
            begin = end
        if self.workers == 1:
            yield from zip(batches, map(call, batches), strict=True)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            yield from zip(batches, pool.map(call, batches), strict=True)

    def _batch_size_for(self, length: int) -> int:
        """The inputs in a batch whose longest has this length."""
        positions = max(int(self.model.positions(length)), 1)
        return max(min(self.batch_size, int(self.batch_size * (_FULL_BATCHES_UP_TO / positions) ** 2)), 1)


def _refuse(what: str, faults: Sequence[tuple[int, str]]) -> None:
    if faults:
        index, message = faults[0]
        raise UserError(f"{what} {index + 1}: {message}")


def _strings(texts: Sequence[str], indices: Sequence[int]) -> Any:
    return tf.constant([texts[index] for index in indices])
