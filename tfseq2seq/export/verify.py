"""Does an exported model answer as its run does? Both are asked the same, the exported one in its own process."""

from __future__ import annotations

import difflib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.export.formats import Asked, Format, format_of
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.progress import progress_bar
from tfseq2seq.spec import PAD

# Nats per token. Lower values count as this one, so that a single impossible text does not decide the mean.
_LEAST = -50.0


@dataclass(frozen=True)
class Verdict:
    """How the answers of an exported model at one batch size compare with the live model's.

    Attributes:
        batch: inputs per call.
        count: inputs in all.
        same: inputs with identical texts.
        tokens: the share of tokens that are the same.
        differing: the first few inputs with other texts, as (number of the input from 1, live, exported).
        score_difference: the largest difference of two scores among identical texts.
        apart: identical texts whose scores are too far apart.
        drop: how much less probable the texts are, to the live model, than its own: nats per token, mean over inputs.
        speed: inputs per second.
        latency: median seconds of a call.
        peak_bytes: the most memory that the process of the exported model used.
        most_drop: of a quantized model, the largest `drop` that passes; None of others.
        texts: the exported model's.
        cut: of each input, whether the live model's text may have been cut off at the length that the search allows.
    """

    batch: int
    count: int
    same: int
    tokens: float
    differing: tuple[tuple[int, str, str], ...]
    score_difference: float
    apart: int
    drop: float
    speed: float
    latency: float
    peak_bytes: int
    most_drop: float | None = None
    texts: tuple[str, ...] = ()
    cut: tuple[bool, ...] = ()

    @property
    def passed(self) -> bool:
        if self.most_drop is not None:
            return self.drop <= self.most_drop
        return self.same == self.count and not self.apart

    def __str__(self) -> str:
        judged = {True: "equal", False: "NOT EQUAL"}
        if self.most_drop is not None:
            judged = {True: "close enough", False: "NOT CLOSE ENOUGH"}
        return (
            f"batch {self.batch}: {self.same:,} of {self.count:,} texts identical, "
            f"{100 * self.tokens:.2f} % of tokens, scores within {self.score_difference:.1e}, "
            f"texts {self.drop:.4f} nats a token less probable, "
            f"{self.speed:,.1f} inputs/s, {1000 * self.latency:,.0f} ms a call, "
            f"{self.peak_bytes / 2**20:,.0f} MiB: {judged[self.passed]}"
        )


def verify(
    folder: str | Path,
    model: Predictor,
    inputs: Sequence[Any],
    batches: Sequence[int] = (1, 64),
    tolerance: float = 1e-3,
    most_drop: float = 0.1,
) -> list[Verdict]:
    """Compares the texts and scores of an exported model, run without this package, with those of the live model.

    Args:
        folder: a SavedModel, .../<version>, or a TFLite or CTranslate2 folder.
        model: what it was exported from.
        inputs: strings, or arrays of samples.
        batches: inputs per call of the exported model, in the order of `inputs`. The live model sorts by length
            instead. A TFLite file of strings is asked one by one.
        tolerance: on the difference of two scores, of a model in float32; for a score beyond -100, a sum over long
            inputs, it grows in proportion, as the error of float32 does.
        most_drop: texts of a quantized model may differ, but be no less probable than this, in nats per token on
            average. What counts is the probability the live model gives them, not what the exported one says of itself.

    Raises:
        UserError: there is no exported model, it fails, or it is none of this model.
    """
    folder = Path(folder)
    if not inputs:
        raise UserError("there is nothing to ask: the input has no line")
    form = format_of(folder)
    asked = form.asked(folder, model, inputs)
    sizes = [1] if asked.singly else batches
    with progress_bar("comparing", len(inputs) * (1 + len(sizes))) as advance:
        return _verdicts(folder, form, model, inputs, asked, sizes, tolerance, most_drop, advance)


def _verdicts(
    folder: Path,
    form: Format,
    model: Predictor,
    inputs: Sequence[Any],
    asked: Asked,
    sizes: Sequence[int],
    tolerance: float,
    most_drop: float,
    advance: Callable[[int], None],
) -> list[Verdict]:
    """A verdict for each batch size; see `verify`. `advance` is told how many inputs were answered."""
    # Exported models draw every answer from the stream 0, unless they are asked for another one.
    live = Generator(model).generate(inputs, advance=advance, streams=[0] * len(inputs))
    # Few at a time: a transducer lays each position beside each token.
    scorer = Generator(model, batch_size=4, workers=1)
    verdicts = []
    for batch in sizes:
        texts, scores, found = _answers(folder, form, model, inputs, asked, batch)
        advance(len(inputs))
        pairs = [(output.texts[0], text) for output, text in zip(live, texts, strict=True)]
        differing = [(index + 1, *pair) for index, pair in enumerate(pairs) if pair[0] != pair[1]]
        compared = [
            (output.scores[0], score)
            for output, (one, other), score in zip(live, pairs, scores, strict=True)
            if one == other and score is not None
        ]
        verdicts.append(
            Verdict(
                batch=batch,
                count=len(inputs),
                same=len(inputs) - len(differing),
                tokens=_same_tokens(model, pairs),
                differing=tuple(differing[:5]),
                score_difference=max((abs(one - other) for one, other in compared), default=0.0),
                apart=sum(not same_score(one, other, tolerance) for one, other in compared),
                drop=_drop(scorer, inputs, pairs),
                speed=len(found["answers"]) / max(sum(found["seconds"]), 1e-9),
                latency=statistics.median(found["seconds"] or [0.0]),
                peak_bytes=found["peak_bytes"],
                most_drop=None if asked.exact else most_drop,
                texts=tuple(texts),
                cut=tuple(output.cut for output in live),
            )
        )
    return verdicts


def same_score(live: float, other: float, tolerance: float) -> bool:
    """Whether two scores differ by no more than the tolerance, or by that share of a hundredth of the live one."""
    return abs(live - other) <= tolerance * max(1.0, abs(live) / 100)


def _answers(
    folder: Path, form: Format, model: Predictor, inputs: Sequence[Any], asked: Asked, batch: int
) -> tuple[list[str], list[float | None], dict[str, Any]]:
    """For each input the exported model's text, and its score where that can be compared; and all its answers."""
    # An empty input gives an empty output; a model that takes ids is not asked about an <eos> alone.
    indices = [
        index
        for index, row in enumerate(asked.rows)
        if isinstance(row, str | tuple) or not model.source.is_nothing(row)
    ]
    found = _ask(folder, form.client, [asked.rows[index] for index in indices], batch)
    texts = [""] * len(asked.rows)
    scores: list[float | None] = [0.0] * len(asked.rows)
    given = _texts(folder, model, [inputs[index] for index in indices], found["answers"])
    for index, text, answer, score in zip(indices, given, found["answers"], found["scores"], strict=True):
        texts[index] = text
        scores[index] = None if asked.cut and len(answer) >= asked.cut else score
    return texts, scores, found


def _texts(folder: Path, model: Predictor, inputs: Sequence[Any], answers: list[Any]) -> list[str]:
    """Of texts, rows of token ids or rows of tokens, which answer these inputs."""
    if not answers or isinstance(answers[0], str):
        return answers
    ids = {token: index for index, token in enumerate(model.target.vocabulary.tokens)}
    words = model.source.copied_words(inputs)
    # Ids from the size of the vocabulary on are words of the source.
    size = len(ids) if words is None else len(ids) + words.shape[1]
    rows = [[ids.get(token, token) for token in answer if token != PAD] for answer in answers]
    for token in (token for row in rows for token in row):
        if not isinstance(token, int) or not 0 <= token < size:
            raise UserError(
                f"{folder}: says {token!r}, which the run's target vocabulary has not: it is of another run"
            )
    padded = tf.expand_dims(tf.ragged.constant(rows, ragged_rank=1, dtype=tf.int32).to_tensor(PAD), 1)
    return [text.decode("utf-8", "replace") for text in model.target.detokenize(padded, words=words)[:, 0].numpy()]


def _drop(scorer: Generator, inputs: Sequence[Any], pairs: Sequence[tuple[str, str]]) -> float:
    """How much less probable the second of two texts is for an input, in nats a token of the first, the mean over all
    inputs; where it is more probable it counts as alike."""
    indices = [index for index, (one, other) in enumerate(pairs) if one != other]
    if not indices:
        return 0.0
    asked = [inputs[index] for index in indices]
    sums, counts = [], []
    for side in (0, 1):
        total, count = scorer.log_probabilities(asked, [pairs[index][side] for index in indices])
        counts.append(np.maximum(count, 1))
        sums.append(np.maximum(total, _LEAST * counts[-1]))
    # An endless repetition is probable token by token, and an early end as a whole: what is worse counts.
    drops = np.maximum(sums[0] / counts[0] - sums[1] / counts[1], (sums[0] - sums[1]) / counts[0])
    return float(np.sum(np.clip(drops, 0.0, -_LEAST))) / len(inputs)


def _same_tokens(model: Predictor, pairs: Sequence[tuple[str, str]]) -> float:
    """The share of the live model's tokens that the exported model says too, in the same order."""
    rows = [model.target.tokenize(tf.constant(list(texts))).to_list() for texts in zip(*pairs, strict=True)]
    whole = sum(map(len, rows[0]))
    same = 0
    for one, other in zip(*rows, strict=True):
        matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
        same += sum(block.size for block in matcher.get_matching_blocks()) if one != other else len(one)
    return same / whole if whole else 1.0


def _ask(folder: Path, client: Path, rows: Sequence[Any], batch: int) -> dict[str, Any]:
    if not rows:
        return {"answers": [], "scores": [], "seconds": [], "peak_bytes": 0}
    with tempfile.TemporaryDirectory() as scratch:
        asked, answers = Path(scratch) / "asked.npz", Path(scratch) / "answers.json"
        if isinstance(rows[0], str | list | tuple):
            np.savez(asked, batch=batch, texts=json.dumps(list(rows)))
        else:
            np.savez(asked, batch=batch, **{f"row_{index}": row for index, row in enumerate(rows)})
        # -P: the program's own folder, which holds modules of this package, is kept off the path.
        command = [sys.executable, "-P", str(client), str(folder), str(asked), str(answers)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise UserError(f"{folder}: cannot be run: {reason}")
        found: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
        return found
