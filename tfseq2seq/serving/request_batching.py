"""Dynamic batching: requests that wait at the same time are combined to one call of the model.

A call for one input consists of many small operations, and a call for sixteen inputs costs little more. While all
workers are busy, requests to the same signature of the same version wait in a queue. When a worker becomes idle, it
takes its share of the queue as one batch, up to a maximum number of rows. While a worker is idle, a request waits a few
milliseconds for other requests.

Rows are padded to a common shape only if the signature has an input with their lengths (`Signature.padded`), and only
together with rows of a similar length, so that padding at most doubles the work. Rows of other shapes are called
separately.
"""

from __future__ import annotations

import asyncio
import collections
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tfseq2seq.serving.refusal import Refusal
from tfseq2seq.serving.servable import Servable
from tfseq2seq.serving.signatures import Signature
from tfseq2seq.serving.tensors import Arrays

Outcome = Arrays | BaseException
# The time in seconds between two looks at running calls.
_CLOSE_STEP = 0.02


@dataclass(eq=False)
class _Part:
    """Rows of one request that belong to one call. `due` is set when they have waited long enough for others."""

    key: Hashable
    inputs: Arrays
    rows: int
    future: asyncio.Future[Arrays]
    due: bool


@dataclass(eq=False)
class _Queue:
    """Parts that may be combined to one batch, in the order of their arrival."""

    servable: Servable
    signature: Signature
    order: int
    parts: collections.deque[_Part] = field(default_factory=collections.deque)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


class Batcher:
    """Calls models with batches of requests, concatenated along the first axis. Must be used from one event loop.

    Args:
        workers: the number of calls at the same time.
        wait: the time in seconds that a request waits for other requests while a worker is idle.
        max_batch: the maximum number of rows of a batch.
        max_waiting: the maximum number of waiting parts, each of at most `max_batch` rows. Further requests are
            rejected.
        observe: called with the number of rows of each call.
    """

    def __init__(
        self,
        workers: int,
        wait: float = 0.005,
        max_batch: int = 32,
        max_waiting: int = 256,
        observe: Callable[[int], None] = lambda rows: None,
    ):
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="call")
        self._workers = workers
        self._idle, self._wait, self._max_batch, self._max_waiting = workers, wait, max_batch, max_waiting
        self._observe = observe
        self._queues: dict[Hashable, _Queue] = {}
        self._waiting = 0
        self._order = 0

    @property
    def waiting(self) -> int:
        """The number of waiting parts."""
        return self._waiting

    async def submit(self, servable: Servable, signature: Signature, inputs: Arrays, unsplit: bool = False) -> Arrays:
        """Returns the outputs for the rows of a request.

        Args:
            servable: the model.
            signature: the signature to call.
            inputs: the inputs of the request by name.
            unsplit: call the model for exactly this request: do not split it, and do not combine it with others.

        Raises:
            Refusal: 503 if too many requests wait; 413 if the request has more rows than the queue allows; or the error
                of the model.
        """
        rows = _common_rows(inputs)
        batchable = rows is not None and servable.batchable(signature) and not unsplit
        starts = range(0, rows, self._max_batch) if batchable and rows else range(1)
        if len(starts) > self._max_waiting:
            raise Refusal(413, f"a request must have at most {self._max_waiting * self._max_batch} rows, got {rows}")
        if self._waiting + len(starts) > self._max_waiting:
            raise Refusal(503, f"the queue is full: {self._waiting} requests are waiting; try again in a second", 1)
        parts = []
        for start in starts:
            part_inputs = inputs if len(starts) == 1 else _rows_of(inputs, start, start + self._max_batch)
            key = (servable, signature.name, *_shapes(part_inputs, signature)) if batchable else object()
            parts.append(self._enqueue(key, servable, signature, part_inputs, due=not batchable))
        self._dispatch()
        try:
            outcomes = await asyncio.gather(*(part.future for part in parts))
        finally:
            # If one part fails or the request is canceled, the other parts are not needed.
            for part in parts:
                part.future.cancel()
                self._forget(part)
        if len(parts) == 1:
            return outcomes[0]
        if not _by_rows(outcomes, [part.rows for part in parts]):
            servable.not_by_rows.add(signature.name)
        elif _same_shapes(outcomes):
            return _concatenated(outcomes, frozenset())
        # The outputs of the parts have different shapes, for example if they are as wide as the longest row of each
        # part. The request is then called as a whole.
        return await self.submit(servable, signature, inputs, unsplit=True)

    @property
    def running(self) -> int:
        """The number of calls that are running."""
        return self._workers - self._idle

    async def close(self, seconds: float = math.inf) -> None:
        """Waits until all running calls have finished, but no longer than so many seconds."""
        end = time.monotonic() + seconds
        while self.running and time.monotonic() < end:
            await asyncio.sleep(_CLOSE_STEP)
        self._pool.shutdown(wait=not self.running, cancel_futures=True)

    def _enqueue(self, key: Hashable, servable: Servable, signature: Signature, inputs: Arrays, due: bool) -> _Part:
        loop = asyncio.get_running_loop()
        part = _Part(key, inputs, _common_rows(inputs) or 1, loop.create_future(), due or not self._wait)
        if key not in self._queues:
            self._order += 1
            self._queues[key] = _Queue(servable, signature, self._order)
        self._queues[key].parts.append(part)
        self._waiting += 1
        if not part.due:
            loop.call_later(self._wait, self._set_due, part)
        return part

    def _forget(self, part: _Part) -> None:
        """Removes a part from its queue if it is still waiting."""
        queue = self._queues.get(part.key)
        if queue is not None and part in queue.parts:
            queue.parts.remove(part)
            self._waiting -= 1
            if not queue.parts:
                del self._queues[part.key]

    def _set_due(self, part: _Part) -> None:
        part.due = True
        self._dispatch()

    def _dispatch(self) -> None:
        """Starts calls on idle workers."""
        while self._idle:
            ready_queues = [
                (queue.order, key)
                for key, queue in self._queues.items()
                if queue.parts[0].due or queue.rows >= self._max_batch
            ]
            if not ready_queues:
                return
            queue, parts = self._take(min(ready_queues, key=lambda pair: pair[0])[1])
            if parts:
                self._start(queue, parts)

    def _take(self, key: Hashable) -> tuple[_Queue, list[_Part]]:
        """Removes the parts of the next call from a queue. With several idle workers it takes a share of the queue."""
        queue = self._queues[key]
        limit = min(math.ceil(queue.rows / self._idle), self._max_batch)
        parts: list[_Part] = []
        rows = 0
        while queue.parts and (not parts or rows + queue.parts[0].rows <= limit):
            part = queue.parts.popleft()
            self._waiting -= 1
            if not part.future.cancelled():
                parts.append(part)
                rows += part.rows
        if queue.parts:
            # The queue moves behind the other queues, so a busy queue does not block them.
            self._order += 1
            queue.order = self._order
        else:
            del self._queues[key]
        return queue, parts

    def _start(self, queue: _Queue, parts: list[_Part]) -> None:
        self._idle -= 1
        inputs = [part.inputs for part in parts]
        call = asyncio.get_running_loop().run_in_executor(
            self._pool, call_parts, queue.servable, queue.signature, inputs, self._observe
        )
        call.add_done_callback(lambda done: self._finish(parts, done))

    def _finish(self, parts: list[_Part], done: asyncio.Future[list[Outcome]]) -> None:
        self._idle += 1
        error = done.exception()
        outcomes: Sequence[Outcome] = [error] * len(parts) if error else done.result()
        for part, outcome in zip(parts, outcomes, strict=True):
            if part.future.done():
                continue
            if isinstance(outcome, BaseException):
                part.future.set_exception(outcome)
            else:
                part.future.set_result(outcome)
        self._dispatch()


def call_parts(
    servable: Servable, signature: Signature, parts: Sequence[Arrays], observe: Callable[[int], None]
) -> list[Outcome]:
    """Returns the outputs or the exception for each of several inputs, with one call of the model if possible.

    Each is called separately if the model rejects the batch, or if its outputs do not have one row per input row.
    """
    if len(parts) > 1:
        sizes = [_common_rows(part) or 1 for part in parts]
        total = sum(sizes)
        observe(total)
        try:
            outputs = servable.call(signature, _concatenated(parts, signature.padded))
        except Refusal:
            # One of the inputs may be wrong. The others must still be answered.
            outputs = {}
        else:
            if not _by_rows([outputs], [total]):
                servable.not_by_rows.add(signature.name)
                outputs = {}
        if outputs:
            ends = np.cumsum(sizes)
            return [_rows_of(outputs, end - size, end) for size, end in zip(sizes, ends, strict=True)]
    outcomes: list[Outcome] = []
    for part in parts:
        observe(_common_rows(part) or 1)
        try:
            outcomes.append(servable.call(signature, part))
        except Exception as error:
            outcomes.append(error)
    return outcomes


def _common_rows(inputs: Mapping[str, np.ndarray]) -> int | None:
    """Returns the common size of the first axis, or None if the inputs have none."""
    sizes = {array.shape[0] if array.shape else None for array in inputs.values()}
    return sizes.pop() if len(sizes) == 1 else None


def _by_rows(outputs: Sequence[Arrays], sizes: Sequence[int]) -> bool:
    """Returns whether all outputs have one row per input row."""
    return all(array.shape[:1] == (size,) for one, size in zip(outputs, sizes, strict=True) for array in one.values())


def _same_shapes(outputs: Sequence[Arrays]) -> bool:
    """Returns whether outputs can be concatenated along the first axis."""
    shapes = [{name: array.shape[1:] for name, array in one.items()} for one in outputs]
    return all(shape == shapes[0] for shape in shapes)


def _rows_of(arrays: Arrays, begin: int, end: int) -> Arrays:
    return {name: array[begin:end] for name, array in arrays.items()}


def _shapes(inputs: Arrays, signature: Signature) -> list[tuple[int, ...]]:
    """Returns the shapes that must agree in a batch. Axes that can be padded are compared by the next power of two."""
    shapes = []
    for name, array in inputs.items():
        sizes = list(array.shape[1:])
        if name in signature.padded:
            sizes[0] = (max(sizes[0], 1) - 1).bit_length()
        shapes.append(tuple(sizes))
    return shapes


def _concatenated(parts: Sequence[Arrays], padded: frozenset[str]) -> Arrays:
    concatenated = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if name in padded:
            longest = max(array.shape[1] for array in arrays)
            arrays = [
                np.pad(array, [(0, 0), (0, longest - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]) for array in arrays
            ]
        concatenated[name] = np.concatenate(arrays)
    return concatenated
