"""What shows a training to people while it goes on: TensorBoard with attention and texts, other loggers, profiles."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.pictures import attention_image
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.inspection import reference_attention
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.progress import print_line
from tfseq2seq.run import Run
from tfseq2seq.sources import Corpora
from tfseq2seq.spec import PAD
from tfseq2seq.training.backends import on_tensorflow
from tfseq2seq.training.batches import greedy_predictor
from tfseq2seq.training.callbacks import Position, evaluation_weights
from tfseq2seq.training.loggers import open_loggers
from tfseq2seq.training.profiling import Profile

# Of so many times as many examples as are shown, those are left out that the model does not take.
_CANDIDATES = 4


class Watching:
    """All callbacks that show a training and change nothing in it.

    Args:
        corpora: the corpora of the training.
        run: the run.
        model: the model that is trained.
        stack: closes loggers when the training ends.

    Raises:
        UserError: a logger cannot start.
    """

    def __init__(self, corpora: Corpora, run: Run, model: Any, stack: contextlib.ExitStack):
        self.run, self.spec, self.lengths = run, run.recipe.training, TargetLengths()
        self._loggers = open_loggers(run, stack)
        # Texts and attention come from the search, which needs TensorFlow.
        self._shows = self.spec.tensorboard and self.spec.watch.share > 0 and on_tensorflow()
        self._examples = _choose_examples(corpora, run, model) if self._shows else None

    def callbacks(self, position: Position) -> list[keras.callbacks.Callback]:
        """Returns the callbacks, to be called after those that evaluate.

        Args:
            position: the callback that counts training steps.
        """
        callbacks: list[keras.callbacks.Callback] = []
        if self.spec.tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(str(self.run.folder / "logs"), write_graph=False))
        if self._examples is not None:
            callbacks.append(ShownExamples(self.run, position, self._examples, self.lengths))
        if self.spec.profile:
            callbacks.append(Profile(self.run, position))
        return [*callbacks, *self._loggers]

    def tapped(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the same training batches, of which the target lengths are counted if they are shown."""
        return self.lengths.tapped(batches) if self._shows else batches


class TargetLengths:
    """Counts the target lengths of training batches, in tokens with <eos>, without changing the batches."""

    def __init__(self) -> None:
        self._counts = np.zeros(1, "int64")
        self._lock = threading.Lock()

    def tapped(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the batches of inputs, labels [B, T] and sample weights, counted as they are prepared."""

        def counted(inputs: Any, labels: Any, weights: Any) -> Any:
            first, *others = tf.nest.flatten(labels)
            lengths = tf.math.count_nonzero(tf.not_equal(first, PAD), axis=1)
            with tf.control_dependencies([tf.numpy_function(self._add, [lengths], [])]):
                first = tf.identity(first)
            return inputs, tf.nest.pack_sequence_as(labels, [first, *others]), weights

        return batches.map(counted)

    def take(self) -> np.ndarray:
        """Returns the lengths [N] of all targets since the last call, in increasing order."""
        with self._lock:
            counts, self._counts = self._counts, np.zeros(1, "int64")
        return np.repeat(np.arange(len(counts)), counts)

    def _add(self, lengths: np.ndarray) -> None:
        found = np.bincount(lengths)
        with self._lock:
            if len(found) < len(self._counts):
                found.resize(len(self._counts), refcheck=False)
            found[: len(self._counts)] += self._counts
            self._counts = found


@dataclass(frozen=True)
class Examples:
    """Validation examples to show.

    Attributes:
        predictor: the model that is trained, with greedy search.
        sources: Python values as the predictor takes them.
        references: the target texts.
    """

    predictor: Predictor
    sources: Sequence[Any]
    references: Sequence[str]


def _choose_examples(corpora: Corpora, run: Run, model: Any) -> Examples:
    """Returns the first validation examples that are not too long for the model."""
    spec, predictor = run.recipe.training.watch, greedy_predictor(run, model)
    count = max(spec.texts, spec.pictures if predictor.decoding.has_attention else 0)
    sources, references = run.source.values(corpora.validation.take(_CANDIDATES * count))
    if sources and predictor.source.inputs(*predictor.pack(sources[:1])).prefix is not None:
        sources = [_beginning(text) for text in references]
    wrong = {index for index, _ in [*predictor.faults(sources), *predictor.target_faults(references)]}
    kept = [index for index in range(len(sources)) if index not in wrong][:count]
    return Examples(predictor, [sources[index] for index in kept], [references[index] for index in kept])


def _beginning(text: str) -> str:
    """The first third of a text, for language models to continue, up to the end of a word where there are words."""
    third = text[: len(text) // 3]
    return third.rpartition(" ")[0] or third


class ShownExamples(keras.callbacks.Callback):
    """Writes target lengths, generated texts and attention to `logs/examples` of the run for TensorBoard.

    It writes at the first evaluation, which builds the graph of the search, and then at each evaluation at which all
    its writing so far has taken at most `training.watch.share` of the time of all evaluations so far.

    Args:
        run: the run.
        position: the callback that counts training steps.
        examples: what to show.
        lengths: counts the target lengths of the training batches.
    """

    def __init__(self, run: Run, position: Position, examples: Examples, lengths: TargetLengths):
        super().__init__()
        self.spec, self.position, self.examples, self.lengths = run.recipe.training.watch, position, examples, lengths
        self.folder = run.folder / "logs" / "examples"
        self.generator = Generator(examples.predictor, workers=1, checked=True)
        self.pictures = self.spec.pictures if examples.predictor.decoding.has_attention else 0
        self.writer: Any = None
        self.began = self.evaluating = self.writing = 0.0

    def on_test_begin(self, logs: Any = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        begin = time.monotonic()
        self.evaluating += begin - self.began
        if self.writing > self.spec.share * self.evaluating:
            return
        self.writer = self.writer or tf.summary.create_file_writer(str(self.folder))
        with evaluation_weights(self.model), self.writer.as_default(step=self.position.step):
            lengths = self.lengths.take()
            if len(lengths):
                tf.summary.histogram("target length in tokens", lengths)
            if self.spec.texts:
                tf.summary.text("validation examples", self._table())
            self._draw()
        self.writer.flush()
        self.writing += time.monotonic() - begin

    def on_train_end(self, logs: Any = None) -> None:
        if self.writer is not None:
            self.writer.close()

    def _table(self) -> str:
        """Sources that are texts, references and outputs as a table in Markdown."""
        sources = self.examples.sources[: self.spec.texts]
        outputs = [output.texts[0] for output in self.generator.generate(sources)]
        columns: dict[str, Sequence[Any]] = {"reference": self.examples.references, "output": outputs}
        if self.examples.predictor.source.takes_strings:
            columns = {"source": sources, **columns}
        rows = [list(columns), ["---"] * len(columns), *zip(*columns.values())]
        return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)

    def _draw(self) -> None:
        """Writes pictures of the attention from references. If they cannot be drawn, that is told once."""
        shown = list(zip(self.examples.sources, self.examples.references))[: self.pictures]
        for number, (source, reference) in enumerate(shown, start=1):
            found = reference_attention(self.examples.predictor, source, reference)
            try:
                content = attention_image(found.weights, found.source_labels, found.target_tokens)
            except UserError as error:
                self.pictures = 0
                print_line(f"no pictures of attention in TensorBoard: {error}")
                return
            tf.summary.image(f"attention {number}", tf.io.decode_png(content, channels=3)[tf.newaxis])


def _cell(text: str) -> str:
    """Text in a cell of a table in Markdown."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
