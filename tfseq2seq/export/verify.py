"""Does an artefact answer as the checkpoint does? Both are asked the same, the artefact in a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfseq2seq.errors import UserError
from tfseq2seq.export.endpoints import TextToText
from tfseq2seq.export.generator import Generator

_CLIENT = Path(__file__).parent / "answer.py"


@dataclass(frozen=True)
class Verdict:
    """How the answers of an artefact at one batch size compare with the live model's.

    count of inputs; same of them with identical text; the first few that differ, as (input, live, artefact); the
    largest difference of a score among identical texts; inputs a second; median seconds of a call; bytes of memory at
    the artefact's peak; tolerance on scores.
    """

    batch: int
    count: int
    same: int
    differing: tuple[tuple[str, str, str], ...]
    score_difference: float
    speed: float
    latency: float
    peak_bytes: int
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.same == self.count and self.score_difference <= self.tolerance

    def __str__(self) -> str:
        return (
            f"batch {self.batch}: {self.same:,} of {self.count:,} texts identical, scores within "
            f"{self.score_difference:.1e}, {self.speed:,.1f} inputs/s, {1000 * self.latency:,.0f} ms a call, "
            f"{self.peak_bytes / 2**20:,.0f} MiB: {'equal' if self.passed else 'NOT EQUAL'}"
        )


def verify_saved_model(
    folder: str | Path,
    model: TextToText,
    texts: Sequence[str],
    batches: Sequence[int] = (1, 64),
    tolerance: float = 1e-3,
) -> list[Verdict]:
    """Compares the texts and scores of a SavedModel, run without this package, with those of the live model.

    Args:
        folder: the SavedModel, .../<version>.
        model: what it was exported from.
        texts: inputs.
        batches: sizes the SavedModel is asked in, in the order of `texts`. The live model sorts by length instead.
        tolerance: on the difference of two scores.

    Raises:
        UserError: there is no SavedModel, or it fails.
    """
    if not (Path(folder) / "saved_model.pb").exists():
        raise UserError(f"{folder}: holds no SavedModel; name the folder of a version, as saved_models/<name>/1")
    if not texts:
        raise UserError("there is nothing to ask: the input has no line")
    live = Generator(model).generate(texts)
    return [_compare(folder, live, texts, batch, tolerance) for batch in batches]


def _compare(folder: str | Path, live: Sequence, texts: Sequence[str], batch: int, tolerance: float) -> Verdict:
    answers = _ask(folder, texts, batch)
    pairs = list(zip(texts, (output.texts[0] for output in live), answers["texts"], strict=True))
    differing = [row for row in pairs if row[1] != row[2]]
    differences = [
        abs(output.scores[0] - score)
        for output, text, score in zip(live, answers["texts"], answers["scores"], strict=True)
        if output.texts[0] == text
    ]
    return Verdict(
        batch=batch,
        count=len(texts),
        same=len(texts) - len(differing),
        differing=tuple(differing[:5]),
        score_difference=max(differences, default=0.0),
        speed=len(texts) / sum(answers["seconds"]),
        latency=statistics.median(answers["seconds"]),
        peak_bytes=answers["peak_bytes"],
        tolerance=tolerance,
    )


def _ask(folder: str | Path, texts: Sequence[str], batch: int) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        asked, answers = Path(scratch) / "asked.json", Path(scratch) / "answers.json"
        asked.write_text(json.dumps({"texts": list(texts), "batch": batch}), encoding="utf-8")
        # -P: the program's own folder, which holds modules of this package, is kept off the path.
        command = [sys.executable, "-P", str(_CLIENT), str(folder), str(asked), str(answers)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"{folder}: cannot be run: {reason}")
        return json.loads(answers.read_text(encoding="utf-8"))
