"""The command that starts the workers of a distributed training on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO

import click

from tfseq2seq.cli.exit import tell
from tfseq2seq.cli.options import settings_option
from tfseq2seq.errors import UserError

# A worker that is asked to stop finishes an update and writes the state of the training.
_SECONDS_TO_STOP = 60


@click.command()
@click.argument("recipe")
@click.option("--run", "folder", required=True, help="Folder for the run, which the first worker writes.")
@click.option("--workers", type=click.IntRange(min=2), required=True, help="Number of processes to start.")
@settings_option("Change a key of the recipe, for example training.steps=500. Repeat the option for more keys.")
@click.option("--resume", is_flag=True, help="Continue the run in this folder from its last checkpoint.")
def launch(recipe: str, folder: str, workers: int, overrides: tuple[str, ...], resume: bool) -> None:
    """Train the model of RECIPE with several processes on this machine, to try out training on several machines.

    Each process runs `tfseq2seq train` with training.strategy=workers and its part of the processor cores. If one of
    them fails, all are stopped.
    """
    from tfseq2seq.recipe import load_recipe

    settings = (*overrides, "training.strategy=workers")
    load_recipe(recipe, settings)
    options = [part for setting in settings for part in ("--set", setting)] + ["--resume"] * resume
    command = [sys.executable, "-m", "tfseq2seq.cli", "train", recipe, "--run", folder, *options]
    code = _Workers(command, workers).wait()
    if code:
        sys.exit(code)


class _Workers:
    """Processes that run the same command, each as one task of a cluster."""

    def __init__(self, command: Sequence[str], count: int):
        addresses = [f"localhost:{port}" for port in _free_ports(count)]
        threads = str(max(1, (os.cpu_count() or 1) // count))
        self.stopping = ""
        self.processes: list[subprocess.Popen] = []
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, self._stop)
        for index in range(count):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = {"TF_NUM_INTRAOP_THREADS": threads, **os.environ, "TF_CONFIG": json.dumps(task)}
            # In a group of its own: Ctrl-C in a terminal reaches this process alone, which stops the workers once.
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", process_group=0,
            )  # fmt: skip
            self.processes.append(process)
        self.readers = [
            threading.Thread(target=_forward, args=(process.stdout, index), daemon=True)
            for index, process in enumerate(self.processes)
        ]
        for reader in self.readers:
            reader.start()

    def wait(self) -> int:
        """Waits until all processes have ended. Returns the exit code of the one that failed first, or 0."""
        failed, deadline = None, None
        while running := [process for process in self.processes if process.poll() is None]:
            if failed is None and (failed := self._failed()) is not None:
                self._signal(signal.SIGTERM)
            if failed is not None or self.stopping:
                deadline = deadline or time.monotonic() + _SECONDS_TO_STOP
                if time.monotonic() > deadline:
                    self._signal(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running[0].wait(0.2)
        for reader in self.readers:
            reader.join(5)
        failed = self._failed() if failed is None else failed
        if failed is None:
            return 0
        code = self.processes[failed].returncode
        if not self.stopping:
            reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            tell(f"worker {failed} ended first, with {reason}; the others were stopped")
        # As a shell gives it.
        return code if code >= 0 else 128 - code

    def _failed(self) -> int | None:
        """Returns the index of a process that failed. One that was killed comes first: it made the others fail."""
        codes = {index: code for index, process in enumerate(self.processes) if (code := process.poll())}
        return min(codes, key=lambda index: (codes[index] > 0, index), default=None)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = signal.Signals(number).name
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)


def _forward(lines: IO[str] | None, index: int) -> None:
    """Writes the lines of a worker to standard error, with its index in front."""
    for line in lines or ():
        click.echo(f"[worker {index}] {line.rstrip()}", err=True)


def _free_ports(count: int) -> list[int]:
    """Returns ports of this machine that no process listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]
    except OSError as error:
        raise UserError(f"launch: no free port for a worker: {error.strerror}") from None
    finally:
        for one in sockets:
            one.close()
