"""Hostile inputs for every door of the package, drawn from a seed: values of strangers that the package reads.

A door takes bytes. It may refuse them with a `UserError` (over REST: an answer with a code below 500), and nothing else
may happen: no other exception, no wait, no memory, no file outside of the folder.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfseq2seq.data.audio_files import decode_audio
from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.references import read_references
from tfseq2seq.features.vocabulary import load_vocabulary
from tfseq2seq.files import write_wave
from tfseq2seq.recipe import apply_overrides, from_dict, load_recipe
from tfseq2seq.runtime.tflite_model import TFLiteModel
from tfseq2seq.search.arpa import read_arpa
from tfseq2seq.spec import Recipe, TextSpec

SECONDS, MEGABYTES = 5.0, 500

# What breaks readers: tags and anchors of YAML, huge and odd numbers, controls, surrogates, names of other files.
NASTY = [
    *(f"!!{tag} " for tag in ("int abc", "float x", "bool x", "timestamp 2020-99-99", "binary aGk=", "set {a, b}")),
    *("!!python/object/apply:os.system [true]", "&a [*a]", "&a {a: *a}", "*missing", "{" * 200, "[" * 3000, "- " * 500),
    *("9" * 5000, "1e999", "-1", "0", ".inf", "-.inf", ".nan", "1e-400", "0x" + "f" * 400, "2020-01-01", "1_000", "~"),
    *("\0", "\x1b[31m", "\u2028", "\ufeff", "\ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace")),
    *('"\\ud800"', '"\\u0000"', "\r", "\t", "\r\n", "\\", '"', "'", "a" * 10_000, "\u0130", "e\u0301" * 50),
    *("../../etc/passwd", "/dev/zero", "~", "$HOME", "%s%n", "null", "true", "NaN", "Infinity", "-Infinity"),
]
RECIPE = """name: small
data: {train: {source: a, target: b}, holdout: 5, batch_tokens: 512}
source: {kind: text, scheme: words, vocabulary_size: 100, reserved: ["<a>"], begin: "<a>"}
target: {scheme: unigram}
model: {width: 16, encoder: {kind: transformer, layers: 1}, decoder: {kind: recurrent, units: 8}}
training: {steps: 10, optimizer: {learning_rate: 1e-3}, schedule: {name: cosine}}
search: {beam: 2, alpha: 0.5, fusion: {phrases: p}}
"""
ROW = {"text": "a b", "offset": 0.5, "duration": 1.25}
MANIFEST = "".join(json.dumps({"audio_filepath": f"{name}.wav", **ROW}) + "\n" for name in "abc")
TABLE = "split\tpath\ttext\tspeaker\ntrain\ta.wav\thello\ts1\ntest\tb.wav\tgood bye\ts2\n"
TOKENS = "<pad>\n<unk>\n<bos>\n<eos>\nthe\ncat\n##s\n你\n"
ARPA = """\\data\\
ngram 1=3
ngram 2=1

\\1-grams:
-1.0\t<s>\t-0.3
-1.0\ta\t-0.3
-1.0\t</s>

\\2-grams:
-0.5\ta a

\\end\\
"""
SETTINGS = ["training.steps=5", "model.encoder.kind=lstm", "source.reserved[0]=<b>", "search.beam=2", "a.b[9].c={x: 1}"]


def recording() -> bytes:
    file = io.BytesIO()
    write_wave(file, np.sin(np.arange(400)) / 4, 8000)
    return file.getvalue()


def mutated(draw: random.Random, seed: bytes) -> bytes:
    """A valid input with a few faults: bytes flipped, cut, repeated or moved, and nasty values put in."""
    content = bytearray(seed)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(content) + 1)
        kind = draw.randrange(7)
        if kind == 0 and content:
            content[place % len(content)] = draw.randrange(256)
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            del content[place : place + draw.randint(1, 20)]
        elif kind == 3:
            content[place:place] = draw.choice(NASTY).encode("utf-8", "surrogatepass")
        elif kind == 4:
            end = place + draw.randint(1, 40)
            content[place:place] = content[place:end] * draw.randint(1, 50)
        elif kind == 5:
            content[place:place] = draw.randbytes(draw.randint(1, 8))
        else:
            # A value for another one: after a colon, a comma, an equals sign or a tab.
            marks = [index for index, byte in enumerate(content) if byte in b":,=\t"]
            if marks:
                mark = draw.choice(marks) + 1
                content[mark : mark + draw.randint(0, 6)] = f" {draw.choice(NASTY)}".encode("utf-8", "surrogatepass")
    return bytes(content)


class Door(NamedTuple):
    """A way into the package: valid inputs to begin with, and what reads bytes in an empty folder."""

    name: str
    seeds: list[bytes]
    read: Callable[[bytes, Path], object]


def _written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _settings(content: bytes, folder: Path) -> None:
    overrides = content.decode("utf-8", "surrogateescape").split("\n")
    from_dict(Recipe, apply_overrides({"data": {"train": {"source": "a", "target": "b"}}}, overrides))


def _vocabulary(content: bytes, folder: Path) -> None:
    path = _written(folder, "tokens", content)
    for scheme in ("words", "characters", "wordpiece", "bytes", "unigram"):
        try:
            load_vocabulary(path, TextSpec(scheme=scheme))  # type: ignore[arg-type]
        except UserError:
            continue


def _artifact(exported: Path | None) -> Callable[[bytes, Path], None]:
    """Reads an exported TFLite model with one of its files replaced. The first byte chooses which."""

    def read(content: bytes, folder: Path) -> None:
        names = ["config.json", "source.txt", "target.txt"]
        chosen = names[content[0] % len(names)] if content else names[0]
        for name in ("model.tflite", *names):
            if exported is not None and name != chosen and (exported / name).exists():
                os.link(exported / name, folder / name)
        _written(folder, chosen, content[1:])
        TFLiteModel(folder).generate(["ab cd", ""])

    return read


def doors(exported: Path | None = None, ask: Callable[[bytes], int] | None = None) -> list[Door]:
    """The doors.

    Args:
        exported: the folder of an exported TFLite model of text, for the door of exported models.
        ask: posts a body to a server and gives the code of its answer, for the door of the server.
    """
    clip = recording()
    rest = json.dumps({"instances": ["a b", "c"]}).encode()
    found = [
        Door("recipe", [RECIPE.encode()], lambda c, f: load_recipe(_written(f, "recipe.yaml", c))),
        Door(
            "recipe.json",
            [json.dumps({"name": "a", "training": {"steps": 5}}).encode()],
            lambda c, f: load_recipe(_written(f, "recipe.json", c)),
        ),
        Door("--set", ["\n".join(SETTINGS).encode(), *(setting.encode() for setting in SETTINGS)], _settings),
        Door("manifest", [MANIFEST.encode()], lambda c, f: read_manifest(_written(f, "m.jsonl", c))),
        Door("table", [TABLE.encode()], lambda c, f: read_manifest(_written(f, "m.tsv", c), "train")),
        Door("recording", [clip, clip[:60]], lambda c, f: decode_audio(c, "a.wav", 8000)),
        Door("vocabulary", [TOKENS.encode()], _vocabulary),
        Door("n-grams", [ARPA.encode()], lambda c, f: read_arpa(_written(f, "lm.arpa", c))),
        Door("references", [b"a b | c\nd\n"], lambda c, f: read_references(_written(f, "r", c), separator="|")),
    ]
    if exported is not None:
        files = [(exported / name) for name in ("config.json", "source.txt", "target.txt")]
        seeds = [bytes([index]) + path.read_bytes() for index, path in enumerate(files) if path.exists()]
        found.append(Door("exported model", seeds, _artifact(exported)))
    if ask is not None:

        def post(content: bytes, folder: Path) -> None:
            code = ask(content)
            assert code < 500, f"answered {code}"

        coded = json.dumps({"inputs": {"text": [{"b64": base64.b64encode(clip).decode()}]}}).encode()
        found.append(Door("REST", [rest, coded, b'{"signature_name": "n_best", "inputs": ["a"]}'], post))
    return found


class TooLong(BaseException):
    """Not an `Exception`, so that what is tested cannot catch it."""


def _stop(*_: object) -> None:
    raise TooLong


def fault_of(door: Door, index: int, folder: Path) -> str:
    """What is wrong with the answer of a door to its input of a number: nothing, or a line that tells.

    Args:
        door: the door.
        index: the number of the input; equal ones give equal inputs.
        folder: a folder that exists and is empty. It is emptied again.
    """
    draw = random.Random(f"{door.name} {index}")
    content = mutated(draw, draw.choice(door.seeds))
    inside = folder / "inside"
    inside.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    began, fault = time.monotonic(), ""
    try:
        door.read(content, inside)
    except UserError as error:
        if "\n" in str(error):
            fault = "message of several lines"
    except TooLong:
        fault = f"took more than {SECONDS:g} s"
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if not fault and time.monotonic() - began > SECONDS:
        fault = f"took more than {SECONDS:g} s"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > MEGABYTES * 1024:
        fault = fault or f"took more than {MEGABYTES} MB"
    if sorted(path.name for path in folder.iterdir()) != ["inside"]:
        fault = fault or "wrote outside of its folder"
    for path in inside.iterdir():
        path.unlink()
    inside.rmdir()
    return f"{door.name} {index}: {fault} on {content[:200]!r}" if fault else ""
