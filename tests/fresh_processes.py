"""Processes for clients of exported models that have imported TensorFlow and nothing of this package.

Importing TensorFlow takes some seconds, several times what a client of a small model takes. So one process imports it,
does nothing else, and forks for every client: each finds what it would find in a process that it started itself.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PARENT = """
import json, os, runpy, sys, traceback
import tensorflow
import tensorflow_text

def run(task):
    for number, name in enumerate(("input", "output", "errors")):
        os.dup2(os.open(os.path.join(task["streams"], name), os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(task["environment"])
    os.chdir(task["cwd"])
    sys.argv = task["arguments"]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stopped:
        return int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    child = os.fork()
    if not child:
        code = run(json.loads(line))
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@functools.cache
def _parent():
    """The process that forks; it ends with this one, whose end closes its standard input."""
    # -P: modules that lie beside a program, or in the current folder, are kept off the path.
    command = [sys.executable, "-P", "-c", PARENT]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def run_client(program, *arguments, given="", environment=None, cwd="."):
    """Runs a Python file in a process of its own, as `subprocess.run` does with captured text."""
    with tempfile.TemporaryDirectory() as streams:
        Path(streams, "input").write_text(given, encoding="utf-8")
        task = {
            "arguments": [str(program), *map(str, arguments)],
            "streams": streams,
            "environment": dict(environment or os.environ),
            "cwd": os.path.abspath(cwd),
        }
        parent = _parent()
        parent.stdin.write(json.dumps(task) + "\n")
        parent.stdin.flush()
        code = int(parent.stdout.readline())
        output, errors = (Path(streams, name).read_text(encoding="utf-8") for name in ("output", "errors"))
    return subprocess.CompletedProcess(task["arguments"], code, output, errors)


def run_command(command, env, **options):
    """Stands for `subprocess.run` where `verify` starts a client: one that needs TensorFlow runs in such a process, any
    other in one that it starts, as it must not need TensorFlow."""
    program, folder, *files = command[2:]
    if Path(folder, "saved_model.pb").exists() or _takes_strings(Path(folder, "config.json")):
        return run_client(program, folder, *files, environment=env)
    return subprocess.run(command, env=env, **options)


def _takes_strings(config):
    return config.exists() and "text" in json.loads(config.read_text()).get("outputs", [])
