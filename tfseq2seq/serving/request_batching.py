"""Requests that wait at the same time become one call of the model.

A call for one input is many small operations, and a call for sixteen costs little more. While all workers are busy,
requests to the same signature of the same version wait in line; a worker that gets free takes its share of them, up to
a largest number of rows, as one batch. Where no worker is busy a request waits a few milliseconds for company.

Rows are padded to one shape only where the signature says how many positions of each count (`Signature.padded`), and
only with rows of a similar length, so that padding at most doubles the work. Rows of other shapes go separately.
"""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tfseq2seq.serving.refusal import Refusal
from tfseq2seq.serving.servable import Servable
from tfseq2seq.serving.signatures import Signature
from tfseq2seq.serving.tensors import Arrays

Outcome = Arrays | BaseException


@dataclass(eq=False)
class _Part:
    """Rows of one request that are answered by one call; `ripe` once they have waited for company long enough."""

    key: Hashable
    inputs: Arrays
    rows: int
    future: asyncio.Future[Arrays]
    ripe: bool


@dataclass(eq=False)
class _Line:
    """Parts that may be joined, in the order they came."""

    servable: Servable
    signature: Signature
    order: int
    parts: collections.deque[_Part] = field(default_factory=collections.deque)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


class Batcher:
    """Calls models for requests, joined along the first axis. To be used from one event loop.

    Args:
        workers: calls at a time.
        wait: seconds a request waits for company while a worker is free.
        largest: rows of a joined call.
        room: parts of at most `largest` rows that may wait; what is beyond them is refused.
        observe: told the rows of each call.
    """

    def __init__(
        self,
        workers: int,
        wait: float = 0.005,
        largest: int = 32,
        room: int = 256,
        observe: Callable[[int], None] = lambda rows: None,
    ):
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="call")
        self._idle, self._wait, self._largest, self._room = workers, wait, largest, room
        self._observe = observe
        self._lines: dict[Hashable, _Line] = {}
        self._waiting = 0
        self._order = 0

    @property
    def waiting(self) -> int:
        """Parts in line."""
        return self._waiting

    async def submit(self, servable: Servable, signature: Signature, inputs: Arrays, whole: bool = False) -> Arrays:
        """The outputs for a request's inputs, of its own rows alone.

        Args:
            whole: neither cut a request of many rows nor join it with others.

        Raises:
            Refusal: 503, too many wait already; 413, it has more rows than may wait at all; or what the model says.
        """
        rows = _common_rows(inputs)
        joins = rows is not None and servable.joins(signature) and not whole
        cuts = range(0, rows, self._largest) if joins and rows else range(1)
        if len(cuts) > self._room:
            raise Refusal(413, f"{rows} rows in a request; at most {self._room * self._largest} can be taken")
        if self._waiting + len(cuts) > self._room:
            raise Refusal(503, f"{self._waiting} requests are waiting already; try again in a second", 1)
        parts = []
        for cut in cuts:
            own = inputs if len(cuts) == 1 else _rows_of(inputs, cut, cut + self._largest)
            key = (servable, signature.name, *_shapes(own, signature)) if joins else object()
            parts.append(self._enqueue(key, servable, signature, own, ripe=not joins))
        self._pump()
        try:
            outcomes = await asyncio.gather(*(part.future for part in parts))
        finally:
            # Where one part fails or nobody waits for the answer any more, the others need not be computed.
            for part in parts:
                part.future.cancel()
                self._forget(part)
        if len(parts) == 1:
            return outcomes[0]
        if not _by_rows(outcomes, [part.rows for part in parts]):
            servable.not_by_rows.add(signature.name)
        elif _alike(outcomes):
            return _joined(outcomes, frozenset())
        # What its parts give does not fit together, as outputs that are as wide as the longest row of each.
        return await self.submit(servable, signature, inputs, whole=True)

    def close(self) -> None:
        """Waits for the calls under way."""
        self._pool.shutdown()

    def _enqueue(self, key: Hashable, servable: Servable, signature: Signature, inputs: Arrays, ripe: bool) -> _Part:
        loop = asyncio.get_running_loop()
        part = _Part(key, inputs, _common_rows(inputs) or 1, loop.create_future(), ripe or not self._wait)
        if key not in self._lines:
            self._order += 1
            self._lines[key] = _Line(servable, signature, self._order)
        self._lines[key].parts.append(part)
        self._waiting += 1
        if not part.ripe:
            loop.call_later(self._wait, self._ripen, part)
        return part

    def _forget(self, part: _Part) -> None:
        """Takes a part out of the line if it is still there."""
        line = self._lines.get(part.key)
        if line is not None and part in line.parts:
            line.parts.remove(part)
            self._waiting -= 1
            if not line.parts:
                del self._lines[part.key]

    def _ripen(self, part: _Part) -> None:
        part.ripe = True
        self._pump()

    def _pump(self) -> None:
        """Gives work to idle workers."""
        while self._idle:
            due = [
                (line.order, key)
                for key, line in self._lines.items()
                if line.parts[0].ripe or line.rows >= self._largest
            ]
            if not due:
                return
            line, parts = self._take(min(due, key=lambda pair: pair[0])[1])
            if parts:
                self._start(line, parts)

    def _take(self, key: Hashable) -> tuple[_Line, list[_Part]]:
        """The parts of the next call out of a line: its share of what waits, if several workers are idle."""
        line = self._lines[key]
        limit = min(math.ceil(line.rows / self._idle), self._largest)
        parts: list[_Part] = []
        rows = 0
        while line.parts and (not parts or rows + line.parts[0].rows <= limit):
            part = line.parts.popleft()
            self._waiting -= 1
            if not part.future.cancelled():
                parts.append(part)
                rows += part.rows
        if line.parts:
            # To the end of the queue: a busy line must not keep the others waiting.
            self._order += 1
            line.order = self._order
        else:
            del self._lines[key]
        return line, parts

    def _start(self, line: _Line, parts: list[_Part]) -> None:
        self._idle -= 1
        inputs = [part.inputs for part in parts]
        call = asyncio.get_running_loop().run_in_executor(
            self._pool, answer, line.servable, line.signature, inputs, self._observe
        )
        call.add_done_callback(lambda done: self._finish(parts, done))

    def _finish(self, parts: list[_Part], done: asyncio.Future[list[Outcome]]) -> None:
        self._idle += 1
        fault = done.exception()
        outcomes: Sequence[Outcome] = [fault] * len(parts) if fault else done.result()
        for part, outcome in zip(parts, outcomes, strict=True):
            if part.future.done():
                continue
            if isinstance(outcome, BaseException):
                part.future.set_exception(outcome)
            else:
                part.future.set_result(outcome)
        self._pump()


def answer(
    servable: Servable, signature: Signature, parts: Sequence[Arrays], observe: Callable[[int], None]
) -> list[Outcome]:
    """The outputs for each of several inputs, or why there are none: in one call if possible.

    Where the model refuses them together, or its outputs turn out not to be one row for each, each is called alone.
    """
    if len(parts) > 1:
        sizes = [_common_rows(part) or 1 for part in parts]
        total = sum(sizes)
        observe(total)
        try:
            outputs = servable.call(signature, _joined(parts, signature.padded))
        except Refusal:
            # One of them may be at fault, and the others must not suffer for it.
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
    """The size of the first axis, or None where the inputs have none in common."""
    sizes = {array.shape[0] if array.shape else None for array in inputs.values()}
    return sizes.pop() if len(sizes) == 1 else None


def _by_rows(outputs: Sequence[Arrays], sizes: Sequence[int]) -> bool:
    """Whether outputs have a row for each row of the inputs."""
    return all(array.shape[:1] == (size,) for one, size in zip(outputs, sizes, strict=True) for array in one.values())


def _alike(outputs: Sequence[Arrays]) -> bool:
    """Whether outputs that have a row for each of their inputs can be put together."""
    shapes = [{name: array.shape[1:] for name, array in one.items()} for one in outputs]
    return all(shape == shapes[0] for shape in shapes)


def _rows_of(arrays: Arrays, begin: int, end: int) -> Arrays:
    return {name: array[begin:end] for name, array in arrays.items()}


def _shapes(inputs: Arrays, signature: Signature) -> list[tuple[int, ...]]:
    """What must be the same in parts that are joined: sizes, of an axis that can be padded to the next power of two."""
    shapes = []
    for name, array in inputs.items():
        sizes = list(array.shape[1:])
        if name in signature.padded:
            sizes[0] = (max(sizes[0], 1) - 1).bit_length()
        shapes.append(tuple(sizes))
    return shapes


def _joined(parts: Sequence[Arrays], padded: frozenset[str]) -> Arrays:
    joined = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if name in padded:
            longest = max(array.shape[1] for array in arrays)
            arrays = [
                np.pad(array, [(0, 0), (0, longest - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]) for array in arrays
            ]
        joined[name] = np.concatenate(arrays)
    return joined
