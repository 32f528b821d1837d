"""Sources of dialogues: the turns before an answer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.data.batching import tokenize
from tfseq2seq.data.dialogues import contexts_and_answers, dialogue_corpora
from tfseq2seq.errors import UserError
from tfseq2seq.features.contexts import ContextFeatures
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.turns import TURN_END, Context
from tfseq2seq.recipe import to_dict
from tfseq2seq.sources.base import Corpora, Filtering, Form, SourceInputs
from tfseq2seq.sources.text import TextSource, corpora_of, some_text
from tfseq2seq.spec import DataSpec, DialogueSpec, Recipe


class DialogueSource(TextSource, reads=DialogueSpec):
    """Dialogues of which the last turn is answered.

    A Python value is a list of turns, each a text, a `Turn`, or {"speaker": name, "text": text}. The tensors are turns:
    string [B, N] and their number: int32 [B]. What is behind that number is padding.

    Args:
        spec: scheme, speakers, separator.
        features: of the source.
        data: how many turns and tokens are read. `with_data` changes it.
    """

    takes_strings = False
    signature: Sequence[tf.TensorSpec] = (
        tf.TensorSpec([None, None], tf.string, name="turns"),
        tf.TensorSpec([None], tf.int32, name="count"),
    )

    def __init__(self, spec: DialogueSpec, features: TextFeatures | None = None, data: DataSpec | None = None):
        super().__init__(spec, features)
        self.with_data(data or DataSpec())

    def with_data(self, data: DataSpec) -> None:
        self.contexts = self._contexts(data)

    def _contexts(self, data: DataSpec) -> ContextFeatures:
        return ContextFeatures(self.features, self.spec.speakers, data.history, data.max_source_length)

    # ---- training data ----------------------------------------------------------------------------------------------

    @classmethod
    def open_corpora(cls, recipe: Recipe) -> Corpora:
        assert isinstance(recipe.source, DialogueSpec)
        return corpora_of(*dialogue_corpora(recipe.data, recipe.source, recipe.seed))

    def chunks(self, examples: tf.data.Dataset, filtering: Filtering) -> tf.data.Dataset:
        contexts = self._contexts(filtering.spec)

        def encode(chunk: dict[str, Any]) -> dict[str, Any]:
            ids, cut = contexts.ids(*contexts.split(chunk["source"]))
            copied = {"copy_ids": self.copying.mapped(ids)} if self.copying else {}
            return {**chunk, **copied, "source": ids, "cut": cut}

        return tokenize({"target": filtering.target})(examples).map(encode)

    def values(self, examples: tf.data.Dataset) -> tuple[list[Any], list[str]]:
        joined, targets = super().values(examples)
        return [Context(text.split(TURN_END)) for text in joined], targets

    # ---- predictor --------------------------------------------------------------------------------------------------

    def pack(self, values: Sequence[Any]) -> list[tf.Tensor]:
        rows = self.client_rows(values)
        width = max(map(len, rows), default=0)
        padded = [[*row, *[""] * (width - len(row))] for row in rows]
        turns = tf.reshape(tf.constant(padded, tf.string), [len(rows), width])
        return [turns, tf.constant([len(row) for row in rows], tf.int32)]

    @staticmethod
    def length(value: Any) -> int:
        return sum(map(len, Context.of(value)))

    def inputs(self, *raw: Any) -> SourceInputs:
        return self.from_features(self.contexts.ids(*raw)[0].to_tensor())

    def clean(self, most: int, *raw: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        turns, count = raw
        error = self.contexts.errors(turns, count, most)
        count = tf.where(tf.equal(error, ""), count, 0)
        told = self.contexts.told(self.contexts.ids(turns, count)[1])
        return (turns, count), {"error": error, "warning": told}

    def faults(self, most: int, values: Sequence[Any]) -> list[tuple[int, str]]:
        return self._messages(values, lambda turns, count: self.contexts.errors(turns, count, most))

    def warnings(self, values: Sequence[Any]) -> list[tuple[int, str]]:
        return self._messages(values, lambda turns, count: self.contexts.told(self.contexts.ids(turns, count)[1]))

    def forms(self, most: int) -> Sequence[Form]:
        return (Form("reply", self.signature),)

    # ---- exported models --------------------------------------------------------------------------------------------

    def check_strings(self) -> None:
        raise UserError(
            "--strings: a dialogue is several strings, and tensorflow-text gives TFLite no more than one; without "
            "--strings the file takes ids, and the tokenizer's files lie beside it"
        )

    def config(self) -> dict[str, Any]:
        limits = {"history": self.contexts.history, "max_source_length": self.contexts.most}
        return {"inputs": ["ids"], "source": to_dict(self.spec), **limits}

    def client_rows(self, values: Sequence[Any]) -> list[Any]:
        return [Context.of(value) for value in values]

    def features_of(self, values: Sequence[Any]) -> list[Any]:
        return [row.numpy() for row in self.contexts.ids(*self.pack(values))[0]]

    def examples(self) -> list[Any]:
        first, second = (some_text(self.features, start) for start in (0, 1))
        return [[first], [second, first]]

    def usual_inputs(self, data: DataSpec, count: int) -> list[Any]:
        corpus = data.validation if data.validation.given else data.train
        assert isinstance(self.spec, DialogueSpec)
        contexts, _, _ = contexts_and_answers(corpus.dialogues, self.spec, data.history)
        return list(itertools.islice(contexts, count))
