"""Shards of text pairs: compressed TFRecord files of equal numbers of pairs, with an index beside them.

Shards hold raw text, as the lines of the files that they are made of. They are read in any order, so a corpus in shards
needs no more memory and no more time to open than its largest segment, whatever its size.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import itertools
import json
import math
import multiprocessing
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfseq2seq.data.records import checked_pairs, files_of_units, pairs_without, write_records
from tfseq2seq.data.segments import Selection, Units
from tfseq2seq.data.shard_index import INDEX, JOURNAL, Shard, check_shard, write_index
from tfseq2seq.errors import UserError
from tfseq2seq.files import append_line, check_parallel, exclusive, explained, iterate_lines
from tfseq2seq.progress import progress_bar

PAIRS_PER_SHARD = 25_000
# Pairs to validate with are drawn from at most this many shards, so that the others need not be read for them.
_HELD_SHARDS = 16

_SHARDS_WITHOUT_PROCESSES = 4

Pair = tuple[bytes, bytes]

# ---- reading --------------------------------------------------------------------------------------------------------


def held_in_shards(shards: Sequence[Shard], holdout: int, seed: int) -> dict[int, list[int]]:
    """Draws pairs to validate with, at random from a few random shards.

    Returns:
        The places of these pairs in each of these shards, by the number of the shard.

    Raises:
        UserError: nothing would be left to train on.
    """
    count = sum(shard.examples for shard in shards)
    if holdout >= count:
        raise UserError(f"data.holdout: {holdout} of {count} training pairs leave nothing to train on")
    draw = random.Random(f"holdout {seed}")
    chosen, places = list[int](), 0
    for number in draw.sample(range(len(shards)), len(shards)):
        if len(chosen) >= _HELD_SHARDS and places > 2 * holdout:
            break
        chosen.append(number)
        places += shards[number].examples
    starts = list(itertools.accumulate((shards[number].examples for number in chosen), initial=0))
    drawn = sorted(draw.sample(range(places), holdout))
    held = {
        number: [place - start for place in drawn if start <= place < end]
        for number, start, end in zip(chosen, starts, starts[1:])
    }
    return {number: found for number, found in held.items() if found}


def held_pairs(shards: Sequence[Shard], held: Mapping[int, Sequence[int]]) -> tf.data.Dataset:
    """The pairs at some places of shards, which are kept in memory."""
    found: list[Pair] = []
    for number, places in sorted(held.items()):
        # No more of a shard is read than up to the last of its places.
        read = list(itertools.islice(checked_pairs(str(shards[number].path)), max(places) + 1))
        found += [read[place] for place in places]
    sides = ("source", "target")
    return tf.data.Dataset.from_tensor_slices(
        {side: tf.constant([pair[index] for pair in found], tf.string) for index, side in enumerate(sides)}
    )


def pair_units(shards: Sequence[Shard], held: Mapping[int, Sequence[int]], each: int = 0) -> Units:
    """Shards as units to train on, without the pairs at the places `held`, and up to the first `each` pairs of each."""

    def explain(units: Sequence[int]) -> None:
        for number in units:
            shard = shards[number]
            check_shard(shard)
            found = sum(1 for _ in checked_pairs(str(shard.path)))
            if found != shard.examples:
                raise UserError(
                    f"{shard.path}: must have {shard.examples:,} records, as {INDEX} beside it says, got {found:,}; "
                    "write the shards again"
                )

    sizes = [shard.examples - len(held.get(number, ())) for number, shard in enumerate(shards)]
    # Processes that read them may have other working directories.
    files = [str(shard.path.absolute()) for shard in shards]
    places = [held.get(number, ()) for number in range(len(shards))]

    def pairs(units: tf.data.Dataset) -> tf.data.Dataset:
        return pairs_without(files_of_units(units, files, places), each)

    def opened(units: tf.data.Dataset) -> tf.data.Dataset:
        # Others read them, and nobody counts what TensorFlow gives of a file that is cut.
        for shard in shards:
            check_shard(shard)
        return pairs(units)

    selection = Selection()
    return Units(sizes, pairs(selection.dataset()), selection, explain=explain, countable=True, opened=opened)


def sampled_texts(shards: Sequence[Shard], held: Mapping[int, Sequence[int]], most: int, side: str) -> Iterator[bytes]:
    """Yields about `most` texts of a side, the first of each shard; all of them if `most` is 0.

    Raises:
        UserError: a shard is missing or damaged.
    """
    units, numbers = pair_units(shards, held, sample_size(shards, most)), range(len(shards))
    units.select(numbers)
    try:
        for texts in units.examples.map(lambda pair: pair[side]).batch(2048).as_numpy_iterator():
            yield from texts
    except tf.errors.OpError:
        units.explain(numbers)
        raise


def sample_size(shards: Sequence[Shard], most: int) -> int:
    """How many pairs of each shard make up about `most` pairs together; 0 for all."""
    each = math.ceil(most / len(shards))
    return 0 if each >= max(shard.examples for shard in shards) else each


# ---- writing --------------------------------------------------------------------------------------------------------


def parallel_lines(source: str, target: str) -> Iterator[Pair]:
    """Yields the pairs of two files of lines.

    Raises:
        UserError: one of them is faulty, or they have different numbers of lines.
    """
    counts = [0, 0]
    for lines in itertools.zip_longest(iterate_lines(source), iterate_lines(target)):
        for side, line in enumerate(lines):
            counts[side] += line is not None
        if None not in lines:
            yield lines
    check_parallel(source, counts[0], target, counts[1])


def write_pair_shards(
    pairs: Iterable[Pair],
    folder: str | Path,
    pairs_per_shard: int = PAIRS_PER_SHARD,
    jobs: int = 1,
    log: Callable[[str], None] = lambda line: None,
    progress: bool | None = None,
) -> list[Shard]:
    """Writes pairs to the shards `00000.tfrecord.gz` and so on, and their index.

    If the writing is stopped, the same call continues it: shards that are complete, and were made of the same pairs,
    stay.

    Args:
        pairs: source and target texts, which are UTF-8.
        folder: the folder to write to. It is created if it does not exist, and must not have other shards.
        pairs_per_shard: the number of pairs in all shards but the last.
        jobs: the number of processes that write.
        log: called with a line of summary.
        progress: whether to show a progress bar on standard error. None shows it if standard error is a terminal.

    Raises:
        UserError: `folder` has shards already or cannot be written, or there are no pairs.
    """
    folder = Path(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock", f"{folder}: another process is writing shards there; wait until it ends"):
        finished = _finished(folder)
        with progress_bar("writing shards", None, progress) as advance, _writer(jobs) as submit:
            shards, kept = _write(pairs, folder, pairs_per_shard, 2 * jobs, finished, submit, advance)
        if not shards:
            raise UserError(f"{folder}: there must be at least one pair to write, got none")
        for number in finished.keys() - range(len(shards)):
            # Of an earlier call, with more pairs.
            finished[number].path.unlink(missing_ok=True)
        write_index(folder, "pairs", shards)
        (folder / JOURNAL).unlink(missing_ok=True)
    size = sum(shard.bytes for shard in shards)
    already = f"; {kept:,} were there already" if kept else ""
    count = sum(shard.examples for shard in shards)
    log(f"{folder}: {count:,} pairs, {len(shards):,} shards, {size / 1e6:,.1f} MB{already}")
    return shards


def _write(
    pairs: Iterable[Pair],
    folder: Path,
    pairs_per_shard: int,
    most_waiting: int,
    finished: Mapping[int, Shard],
    submit: Callable[..., concurrent.futures.Future[Shard]],
    advance: Callable[[int], None],
) -> tuple[list[Shard], int]:
    """Writes what is not there, and returns all shards and how many of them were there."""
    shards: dict[int, Shard] = {}
    waiting: dict[concurrent.futures.Future[Shard], int] = {}
    kept = 0

    def note(most: int) -> None:
        """Notes the shards that are complete, and waits until no more than `most` others are not."""
        while waiting:
            patience = 0 if len(waiting) <= most else None
            done, _ = concurrent.futures.wait(waiting, patience, concurrent.futures.FIRST_COMPLETED)
            if not done and patience == 0:
                break
            for future in done:
                number = waiting.pop(future)
                shards[number] = future.result()
                append_line(folder / JOURNAL, json.dumps({"number": number, **shards[number].to_json()}))
                advance(shards[number].examples)

    rest = iter(pairs)
    for number in itertools.count():
        if not (chunk := list(itertools.islice(rest, pairs_per_shard))):
            break
        path, digest = folder / f"{number:05}.tfrecord.gz", _digest(chunk)
        if number in finished and finished[number].digest == digest:
            shards[number] = finished[number]
            kept += 1
            advance(len(chunk))
            continue
        waiting[submit(_write_shard, path, chunk, digest)] = number
        note(most_waiting)
    note(0)
    return [shards[number] for number in sorted(shards)], kept


def _write_shard(path: Path, pairs: list[Pair], digest: str) -> Shard:
    count = write_records(pairs, path)
    return Shard(path, count, path.stat().st_size, digest)


def _digest(pairs: list[Pair]) -> str:
    """A digest of pairs, in which each text is preceded by its length."""
    found = hashlib.sha256()
    for pair in pairs:
        for text in pair:
            found.update(b"%d:" % len(text) + text)
    return found.hexdigest()


def _finished(folder: Path) -> dict[int, Shard]:
    """The complete shards of a call that was stopped, by number.

    Raises:
        UserError: there are other shards.
    """
    journal = folder / JOURNAL
    if (folder / INDEX).exists() or (not journal.exists() and any(folder.glob("*.tfrecord*"))):
        raise UserError(f"{folder}: must not have shards (*.tfrecord*) yet; give another folder, or delete them first")
    found: dict[int, Shard] = {}
    for line in journal.read_bytes().split(b"\n") if journal.exists() else []:
        # The last line may be cut; a shard that is not listed is written again.
        with contextlib.suppress(ValueError, KeyError, TypeError, UserError):
            entry: dict[str, Any] = json.loads(line)
            shard = Shard.from_json(folder, entry)
            check_shard(shard)
            found[int(entry["number"])] = shard
    return found


@contextlib.contextmanager
def _writer(jobs: int) -> Iterator[Callable[..., concurrent.futures.Future[Shard]]]:
    """Yields a function that calls another one, in other processes if there are several and the work is large."""
    pool: concurrent.futures.ProcessPoolExecutor | None = None
    called = 0

    def submit(function: Callable[..., Shard], *arguments: Any) -> concurrent.futures.Future[Shard]:
        nonlocal pool, called
        called += 1
        # A process takes longer to start than to write a shard.
        if jobs == 1 or called <= _SHARDS_WITHOUT_PROCESSES:
            future: concurrent.futures.Future[Shard] = concurrent.futures.Future()
            future.set_result(function(*arguments))
            return future
        if pool is None:
            # A fork of a process that TensorFlow has started threads in would wait forever. Ctrl-C is for the parent.
            context = multiprocessing.get_context("spawn")
            ignored = signal.SIGINT, signal.SIG_IGN
            pool = concurrent.futures.ProcessPoolExecutor(jobs, context, signal.signal, ignored)
        return pool.submit(function, *arguments)

    try:
        yield submit
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
