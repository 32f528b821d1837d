"""Does an artefact answer as the checkpoint does? Both are asked the same, the artefact in a process of its own."""

from __future__ import annotations

import difflib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.export.endpoints import TextToText
from tfseq2seq.export.generator import Generator
from tfseq2seq.export.outputs import Output
from tfseq2seq.export.speech import SpeechToText
from tfseq2seq.spec import PAD

_CLIENT = Path(__file__).parent / "answer.py"


@dataclass(frozen=True)
class Verdict:
    """How the answers of an artefact at one batch size compare with the live model's.

    count of inputs; same of them with identical text; the share of tokens that are the same; the first few that differ,
    as (number of the input from 1, live, artefact); the largest difference of a score among identical texts; how many
    of them have scores too far apart; how much lower the artefact's scores are on average; inputs a second; median
    seconds of a call; bytes of memory at the artefact's peak; of a quantised artefact, how much lower scores may be;
    the artefact's texts.
    """

    batch: int
    count: int
    same: int
    tokens: float
    differing: tuple[tuple[int, str, str], ...]
    score_difference: float
    apart: int
    score_drop: float
    speed: float
    latency: float
    peak_bytes: int
    most_drop: float | None = None
    texts: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        if self.most_drop is not None:
            return self.score_drop <= self.most_drop
        return self.same == self.count and not self.apart

    def __str__(self) -> str:
        judged = {True: "equal", False: "NOT EQUAL"}
        if self.most_drop is not None:
            judged = {True: "close enough", False: "NOT CLOSE ENOUGH"}
        return (
            f"batch {self.batch}: {self.same:,} of {self.count:,} texts identical, "
            f"{100 * self.tokens:.2f} % of tokens, scores within {self.score_difference:.1e} "
            f"and {self.score_drop:.4f} lower on average, "
            f"{self.speed:,.1f} inputs/s, {1000 * self.latency:,.0f} ms a call, "
            f"{self.peak_bytes / 2**20:,.0f} MiB: {judged[self.passed]}"
        )


def verify(
    folder: str | Path,
    model: TextToText | SpeechToText,
    inputs: Sequence[Any],
    batches: Sequence[int] = (1, 64),
    tolerance: float = 1e-3,
    most_drop: float = 0.1,
) -> list[Verdict]:
    """Compares the texts and scores of an artefact, run without this package, with those of the live model.

    Args:
        folder: a SavedModel, .../<version>, or a TFLite or CTranslate2 folder.
        model: what it was exported from.
        inputs: strings, or arrays of samples.
        batches: sizes the artefact is asked in, in the order of `inputs`. The live model sorts by length instead. A
            TFLite file of strings is asked one by one.
        tolerance: on the difference of two scores, of an artefact in float32; for a score beyond -100, a sum over long
            inputs, it grows in proportion, as the error of float32 does.
        most_drop: how much lower the mean score of a quantised artefact may be; its texts may differ.

    Raises:
        UserError: there is no artefact, or it fails.
    """
    folder = Path(folder)
    if not inputs:
        raise UserError("there is nothing to ask: the input has no line")
    if (folder / "saved_model.pb").exists():
        asked, exact = list(inputs), True
    elif (folder / "model.tflite").exists():
        config = _config(folder / "config.json")
        exact = config["quantization"] == "float32"
        if config["inputs"] == ["text"]:
            asked = [text.decode("utf-8") for text in model.source.normalize(tf.constant(list(inputs))).numpy()]  # type: ignore[union-attr]
        else:
            asked = _rows(model, inputs)
        if "text" in config["outputs"]:
            batches = [1]
    elif (folder / "model.bin").exists():
        tokens = model.source.vocabulary.tokens  # type: ignore[union-attr]
        asked = [[tokens[place] for place in row] for row in _rows(model, inputs)]
        exact = _config(folder / "tfseq2seq.json")["quantization"] == "float32"
    else:
        raise UserError(
            f"{folder}: holds no artefact; name the folder of a version, as saved_models/<name>/1, or that of a TFLite "
            "or CTranslate2 export"
        )
    live = Generator(model).generate(inputs)
    return [_compare(folder, model, live, asked, batch, tolerance, None if exact else most_drop) for batch in batches]


def same_score(live: float, other: float, tolerance: float) -> bool:
    """Whether two scores differ by no more than the tolerance, or by that share of a hundredth of the live one."""
    return abs(live - other) <= tolerance * max(1.0, abs(live) / 100)


def _config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path.parent}: not a whole export: {error}") from None
    if "quantization" not in config:
        raise UserError(f"{path.parent}: not a whole export: {path.name} does not tell its quantization")
    return config


def _rows(model: TextToText | SpeechToText, inputs: Sequence[Any]) -> list[Any]:
    """Ids or samples for an artefact that takes no strings."""
    if isinstance(model, SpeechToText):
        return [np.asarray(samples, "float32") for samples in inputs]
    return [row[row != PAD] for row in model.source(tf.constant(list(inputs))).numpy()]


def _compare(
    folder: Path,
    model: TextToText | SpeechToText,
    live: Sequence[Output],
    asked: Sequence[Any],
    batch: int,
    tolerance: float,
    most_drop: float | None,
) -> Verdict:
    # Nothing in gives nothing out; what takes ids is not asked about an <eos> alone, nor about no samples.
    least = 1 if isinstance(model, TextToText) else 0
    places = [place for place, row in enumerate(asked) if isinstance(row, str) or len(row) > least]
    found = _ask(folder, [asked[place] for place in places], batch)
    texts, scores = [""] * len(asked), [0.0] * len(asked)
    for place, text, score in zip(places, _texts(model, found["answers"]), found["scores"], strict=True):
        texts[place], scores[place] = text, score
    expected = [output.texts[0] for output in live]
    differing = [
        (place + 1, *pair) for place, pair in enumerate(zip(expected, texts, strict=True)) if pair[0] != pair[1]
    ]
    gaps = [output.scores[0] - score for output, score in zip(live, scores, strict=True)]
    alike = [place for place, pair in enumerate(zip(expected, texts, strict=True)) if pair[0] == pair[1]]
    return Verdict(
        batch=batch,
        count=len(asked),
        same=len(alike),
        tokens=_same_tokens(model, expected, texts),
        differing=tuple(differing[:5]),
        score_difference=max((abs(gaps[place]) for place in alike), default=0.0),
        apart=sum(not same_score(live[place].scores[0], scores[place], tolerance) for place in alike),
        score_drop=sum(gaps) / len(gaps),
        speed=len(places) / max(sum(found["seconds"]), 1e-9),
        latency=statistics.median(found["seconds"] or [0.0]),
        peak_bytes=found["peak_bytes"],
        most_drop=most_drop,
        texts=tuple(texts),
    )


def _texts(model: TextToText | SpeechToText, answers: list[Any]) -> list[str]:
    """Of texts, rows of token ids or rows of tokens."""
    if not answers or isinstance(answers[0], str):
        return answers
    ids = {token: place for place, token in enumerate(model.target.vocabulary.tokens)}
    rows = [[ids.get(token, token) for token in answer if token != PAD] for answer in answers]
    texts = model.target.detokenize(tf.ragged.constant(rows, ragged_rank=1, dtype=tf.int32).to_tensor(PAD))
    return [text.decode("utf-8", "replace") for text in texts.numpy()]


def _same_tokens(model: TextToText | SpeechToText, expected: Sequence[str], found: Sequence[str]) -> float:
    """The share of the live model's tokens that the artefact says too, in the same order."""
    rows = [model.target.tokenize(tf.constant(list(texts))).to_list() for texts in (expected, found)]
    whole = sum(map(len, rows[0]))
    same = 0
    for one, other in zip(*rows, strict=True):
        matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
        same += sum(block.size for block in matcher.get_matching_blocks()) if one != other else len(one)
    return same / whole if whole else 1.0


def _ask(folder: Path, rows: Sequence[Any], batch: int) -> dict[str, Any]:
    if not rows:
        return {"answers": [], "scores": [], "seconds": [], "peak_bytes": 0}
    with tempfile.TemporaryDirectory() as scratch:
        asked, answers = Path(scratch) / "asked.npz", Path(scratch) / "answers.json"
        if isinstance(rows[0], str | list):
            np.savez(asked, batch=batch, texts=json.dumps(list(rows)))
        else:
            np.savez(asked, batch=batch, **{f"row_{place}": row for place, row in enumerate(rows)})
        # -P: the program's own folder, which holds modules of this package, is kept off the path.
        command = [sys.executable, "-P", str(_CLIENT), str(folder), str(asked), str(answers)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise UserError(f"{folder}: cannot be run: {reason}")
        found: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
        return found
