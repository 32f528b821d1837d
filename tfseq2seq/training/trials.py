"""Trains the trials of a sweep, each in a process of its own, several at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfseq2seq.files import is_held, open_locked, write_whole
from tfseq2seq.recipe import dump_recipe
from tfseq2seq.spec import Recipe

# How often processes are asked whether they have ended, in seconds.
_INTERVAL = 0.2
# The exit codes of a training that SIGINT or SIGTERM has ended.
_INTERRUPTED = {-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM}


@dataclass(frozen=True)
class Job:
    """A part of the training of a trial.

    Attributes:
        folder: the folder of the run. Beside it, `<folder>.yaml` is the recipe and `<folder>.log` what is told.
        recipe: the recipe.
        until: the training step at which this part ends.
    """

    folder: Path
    recipe: Recipe
    until: int


def train_in_processes(jobs: Sequence[Job]) -> list[str]:
    """Trains trials at the same time, or continues them where they have begun.

    If this is interrupted, the processes are ended too. They continue from their last state next time.

    Returns:
        For each trial "", or the message of the error with which its training ended.

    Raises:
        KeyboardInterrupt: this was interrupted, or one of the processes was, as by Ctrl-C.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for job in jobs:
            processes.append(_start(job))
        while any(process.poll() is None for process in processes):
            time.sleep(_INTERVAL)
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()
    if any(process.returncode in _INTERRUPTED for process in processes):
        raise KeyboardInterrupt
    return [_error(job, process.returncode) for job, process in zip(jobs, processes, strict=True)]


def wait_for(folder: Path) -> None:
    """Waits until no process trains a trial. If a sweep is killed, the processes of its trials go on to their rung."""
    while is_held(_lock(folder)):
        time.sleep(_INTERVAL)


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _start(job: Job) -> subprocess.Popen[bytes]:
    recipe = job.folder.with_name(f"{job.folder.name}.yaml")
    write_whole(recipe, dump_recipe(job.recipe).encode("utf-8"))
    # On a GPU, a process would otherwise take all memory, and the next one would find none.
    environment = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", **os.environ}
    # The process holds the lock from its first moment to its end, because it inherits it.
    lock = open_locked(_lock(job.folder), f"{job.folder}: another process is training this trial; wait until it ends")
    try:
        with open(_log(job), "ab") as log:
            return subprocess.Popen(
                [sys.executable, *_arguments(job, recipe)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[lock],
            )
    finally:
        os.close(lock)


def _arguments(job: Job, recipe: Path) -> list[str]:
    begun = ["--resume"] if (job.folder / "recipe.yaml").exists() else []
    command = ["-m", "tfseq2seq.cli", "train", str(recipe), "--run", str(job.folder)]
    return [*command, "--until", str(job.until), *begun]


def _log(job: Job) -> Path:
    return job.folder.with_name(f"{job.folder.name}.log")


def _error(job: Job, code: int) -> str:
    """What the process of a trial has told at its end; "" if it ended well."""
    if not code:
        return ""
    if code < 0:
        reason = f"its process was ended by {signal.Signals(-code).name}"
    else:
        lines = _log(job).read_text("utf-8", "replace").strip().splitlines()
        reason = lines[-1].removeprefix("tfseq2seq: ") if lines else f"its process ended with exit code {code}"
    return f"{reason} ({_log(job)})"
