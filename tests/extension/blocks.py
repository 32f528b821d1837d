"""A package's own encoder, decoder and export format: one module for each, here in one file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
from keras import ops

from tfseq2seq.export.formats import Asked, Format
from tfseq2seq.layers.masks import attention_bias, masked_mean
from tfseq2seq.models.decoders import BUILDERS as DECODER_BUILDERS
from tfseq2seq.models.encoders import BUILDERS as ENCODER_BUILDERS
from tfseq2seq.models.encoders import Encoder
from tfseq2seq.spec import AutoregressiveDecoderBase, EncoderBase, register_kind, setting

# ---- an encoder: its layer, its spec, its entry ---------------------------------------------------------------------


@register_kind
@dataclass(frozen=True)
class DenseEncoderSpec(EncoderBase):
    kind: Literal["dense"] = setting("dense", "names this encoder")
    dropout: float = setting(0.0, "dropout on the output", low=0, high=0.99)

    def memory_width(self, width):
        return width


class DenseEncoder(Encoder):
    """One dense layer over each position."""

    def __init__(self, spec, width, initializer, **kwargs):
        super().__init__(**kwargs)
        self.memory_width = self.summary_width = self.width = width
        self.dense = keras.layers.Dense(width, "tanh", kernel_initializer=initializer, name="dense")
        self.dropout = keras.layers.Dropout(spec.dropout)

    def build(self, input_shape):
        self.dense.build((None, None, self.width))

    def call(self, inputs, mask, training=None):
        x = self.dropout(self.dense(inputs), training=training)
        return x, mask, masked_mean(x, mask)


ENCODER_BUILDERS[DenseEncoderSpec] = DenseEncoder

# ---- a decoder of a known family ------------------------------------------------------------------------------------


@register_kind
@dataclass(frozen=True)
class MarkovDecoderSpec(AutoregressiveDecoderBase):
    kind: Literal["markov"] = setting("markov", "names this decoder")


class MarkovDecoder(keras.layers.Layer):
    """The next token from the last one and the source's summary alone."""

    parallel = True

    def __init__(self, spec, width, memory_width, summary_width, initializer, **kwargs):
        super().__init__(**kwargs)
        self.width, self.summary_width = width, summary_width
        self.combine = keras.layers.Dense(width, "tanh", kernel_initializer=initializer, name="combine")

    def build(self, input_shape):
        self.combine.build((None, None, self.width + self.summary_width))

    def call(self, embedded, memory, target_mask=None, training=None):
        rows = ops.shape(embedded)[1]
        summary = ops.repeat(ops.expand_dims(memory.summary, 1), rows, axis=1)
        bias = ops.expand_dims(attention_bias(memory.mask), 1)
        weights = ops.repeat(ops.softmax(bias, axis=-1), rows, axis=1)
        return self.combine(ops.concatenate([embedded, summary], axis=-1)), weights

    def start(self, memory, beam, length):
        return {"summary": memory.summary, "mask": memory.mask}, {"state": {}, "history": {}}

    def step(self, embedded, index, visible, fixed, cache):
        beam = ops.shape(embedded)[1]
        summary = ops.repeat(ops.expand_dims(fixed["summary"], 1), beam, axis=1)
        weights = ops.repeat(ops.softmax(ops.expand_dims(attention_bias(fixed["mask"]), 1), axis=-1), beam, axis=1)
        return self.combine(ops.concatenate([embedded, summary], axis=-1)), cache, weights


DECODER_BUILDERS[MarkovDecoderSpec] = MarkovDecoder

# ---- an export format -----------------------------------------------------------------------------------------------

# The program that answers from the format, without this package.
CLIENT = """
import json, sys
import numpy as np
folder, asked_path, answers_path = sys.argv[1:]
with open(folder + "/answers.json") as file:
    known = json.load(file)
with np.load(asked_path) as asked:
    rows = json.loads(str(asked["texts"]))
found = [known[row] for row in rows]
with open(answers_path, "w") as file:
    answers, scores = [text for text, _ in found], [score for _, score in found]
    json.dump({"answers": answers, "scores": scores, "seconds": [1.0], "peak_bytes": 0}, file)
"""


class TableFormat(Format):
    """A table of answers to known inputs: the smallest format there can be."""

    name = "table"
    marker = "answers.json"
    suffix = "_table"
    client: Any = None

    def write(self, model, folder, options):
        from tfseq2seq.inference.generator import Generator

        inputs = list(options.examples)
        outputs = Generator(model).generate(inputs)
        Path(folder).mkdir(parents=True)
        table = {one: (found.texts[0], found.scores[0]) for one, found in zip(inputs, outputs)}
        (Path(folder) / self.marker).write_text(json.dumps(table))
        return Path(folder)

    def asked(self, folder, model, inputs):
        program = folder / "client.py"
        program.write_text(CLIENT)
        self.client = program
        return Asked(list(inputs), exact=True)

    def open(self, folder, batch, workers):
        raise NotImplementedError
