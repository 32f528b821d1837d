"""Series in files, in batches, and as the tensors of a predictor."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from series.spec import SeriesSpec
from tfseq2seq.data.batching import batch_by_length
from tfseq2seq.files import expanded_path, read_lines
from tfseq2seq.recipe import to_dict
from tfseq2seq.runtime.padding import padded_rows
from tfseq2seq.sources import Corpora, Source, SourceInputs


@dataclass(frozen=True)
class SeriesReport:
    kept: int

    def __str__(self):
        return f"{self.kept} series"


def read_series(path):
    """Labels and series of a CSV file."""
    rows = [line.partition(",") for line in read_lines(expanded_path(path))]
    return [label for label, _, _ in rows], [np.array(numbers.split(), "float32") for _, _, numbers in rows]


class SeriesSource(Source, reads=SeriesSpec):
    signature = (
        tf.TensorSpec([None, None], tf.float32, name="series"),
        tf.TensorSpec([None], tf.int32, name="length"),
    )
    features_signature = signature

    @classmethod
    def open_corpora(cls, recipe):
        def examples(corpus):
            labels, series = read_series(corpus.manifest)
            ragged = tf.ragged.constant([row.tolist() for row in series], dtype=tf.float32)
            rows = tf.data.Dataset.from_tensor_slices({"source": ragged, "target": labels})
            return rows.map(lambda one: {"source": tf.ensure_shape(one["source"], [None]), "target": one["target"]})

        def texts(side):
            return iter(label.encode() for label in read_series(recipe.data.train.manifest)[0])

        return Corpora(examples(recipe.data.train), examples(recipe.data.validation), texts)

    def filter_examples(self, examples, filtering):
        def encode(one):
            ids = filtering.target.ids(tf.expand_dims(one["target"], 0)).flat_values
            return {"source": one["source"], "source_length": tf.size(one["source"]), "target": ids}

        kept = examples.map(encode).cache()
        return kept, SeriesReport(sum(1 for _ in kept))

    def batch(self, spec):
        return batch_by_length(lambda one: one["source_length"], [8, 16, 64], [spec.batch_pairs or 16] * 3)

    def values(self, examples):
        rows = list(examples.as_numpy_iterator())
        return [row["source"] for row in rows], [row["target"].decode() for row in rows]

    def pack(self, values):
        return [tf.constant(part) for part in padded_rows(values, "float32")]

    def inputs(self, series, length):
        return SourceInputs({"source": series, "source_length": length}, tf.equal(length, 0))

    from_features = inputs

    def config(self):
        return {"inputs": ["series", "length"], "source": to_dict(self.spec)}

    def features_of(self, values):
        return [np.asarray(value, "float32") for value in values]

    def examples(self):
        return [np.array([1, 2, 3], "float32"), np.array([3, 2], "float32")]

    def usual_inputs(self, data, count):
        return read_series(data.validation.manifest)[1][:count]
