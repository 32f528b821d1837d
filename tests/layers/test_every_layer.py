"""Every class of `tfseq2seq.layers` under the one check of `check_layer`."""

import importlib
import pkgutil

import keras
import numpy as np
import pytest
from check_layer import Padding, check_layer
from keras import ops

from tfseq2seq import layers
from tfseq2seq.layers.alignment_losses import CTCLoss, TransducerLoss
from tfseq2seq.layers.attention import MultiHeadAttention
from tfseq2seq.layers.backbones import (
    ConvolutionBackbone,
    FrameEmbedding,
    GridEmbedding,
    PatchBackbone,
    ResidualConvolution,
)
from tfseq2seq.layers.conformer import ConformerBlock, ConvolutionPart
from tfseq2seq.layers.convolution import GatedConvolution
from tfseq2seq.layers.copying import CopyMixture
from tfseq2seq.layers.ctc import CTCOutput, blank_past_end
from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.guided_attention import GuidedAttention
from tfseq2seq.layers.local_attention import LocalAttention
from tfseq2seq.layers.masks import attention_bias, causal_mask, chunk_mask
from tfseq2seq.layers.positions import BucketedPositions, PositionedEmbedding
from tfseq2seq.layers.recurrent import GRU, LSTM, CellStack, SimpleRNN
from tfseq2seq.layers.recurrent_attention import RecurrentAttention
from tfseq2seq.layers.subsampling import ConvolutionSubsampling, TimeConvolutionSubsampling
from tfseq2seq.layers.transducer import JointNetwork, PredictionNetwork
from tfseq2seq.layers.transformer import FeedForward, TransformerBlock, cache_rows
from tfseq2seq.spec import (
    ConformerEncoderSpec,
    ConvolutionBackboneSpec,
    PatchBackboneSpec,
    RecurrentDecoderSpec,
    TransducerDecoderSpec,
    TransformerSpec,
)

WIDTH, MEMORY_WIDTH, UNITS, HEADS, FFN, SIZE, EOS = 8, 10, 6, 2, 12, 6, 3
INITIALIZER = "he_normal"
# The last row has no real position, as a recording without sound to hear has none.
LENGTHS = (5, 3, 0)
TARGETS = (4, 2, 1)
ROWS, SOURCE, TARGET = len(LENGTHS), max(LENGTHS), max(TARGETS)
UNIFORM = "attention to nothing is uniform over the padding"

random = np.random.default_rng(0)


def normal(*shape):
    return random.normal(size=shape).astype("float32")


MASK = np.arange(SOURCE) < np.asarray(LENGTHS)[:, None]
SEQUENCE = {"inputs": normal(ROWS, SOURCE, WIDTH)}
MASKED_SEQUENCE = {**SEQUENCE, "mask": MASK}
MEMORY = {"memory": normal(ROWS, SOURCE, MEMORY_WIDTH), "memory_mask": MASK}
SEQUENCE_PADDING = Padding(LENGTHS, {"inputs": 1, "mask": 1}, {"output": 1})


def memory_padding(**outputs):
    return Padding(LENGTHS, {"memory": 1, "memory_mask": 1}, outputs, empty_rows_change=UNIFORM)


def indices(inputs):
    return ops.arange(ops.shape(inputs)[1], dtype="int32")


def bias(layer, mask):
    return attention_bias(mask, layer.compute_dtype)


def named(output, states):
    return {"output": output, **{f"state_{index}": state for index, state in enumerate(states)}}


# Attention


def attend_to_itself(layer, x):
    positions = indices(x["inputs"])
    projected = layer.queries_keys_values(x["inputs"], positions)
    output, weights = layer(*projected, bias(layer, x["mask"][:, None]), positions, positions)
    return {"output": output, "weights": weights}


def self_attention(weights, numbers, **options):
    return {
        "cls": MultiHeadAttention,
        "arguments": {"width": WIDTH, "heads": HEADS, "dropout": 0.1, "initializer": INITIALIZER, **options},
        "inputs": MASKED_SEQUENCE,
        "call": attend_to_itself,
        "weights": weights,
        "numbers": numbers,
        "paddings": [Padding(LENGTHS, {"inputs": 1, "mask": 1}, {"output": 1, "weights": (2, 3)})],
    }


def attend_in_windows(layer, x):
    positions = indices(x["inputs"])
    projected = layer.queries_keys_values(x["inputs"], positions)
    return layer(*projected, bias(layer, x["mask"][:, None]))[0]


def local_attention(weights, numbers, **options):
    case = self_attention(weights, numbers, **options)
    case["paddings"] = [Padding(LENGTHS, {"inputs": 1, "mask": 1}, {"output": 1})]
    return {**case, "cls": LocalAttention, "call": attend_in_windows}


def attend_to_memory(layer, x):
    memory_bias = bias(layer, x["memory_mask"][:, None])
    output, weights = layer(layer.queries(x["inputs"]), *layer.keys_values(x["memory"]), memory_bias)
    return {"output": output, "weights": weights}


CROSS_ATTENTION = {
    "cls": MultiHeadAttention,
    "arguments": {"width": WIDTH, "heads": HEADS, "memory_width": MEMORY_WIDTH},
    "inputs": {**SEQUENCE, **MEMORY},
    "call": attend_to_memory,
    "weights": 6,
    "numbers": 320,
    "paddings": [memory_padding(weights=3)],
}


def attend_from_states(layer, x):
    # Weights of earlier steps are zero on padding.
    real = ops.cast(x["memory_mask"], x["last"].dtype)[:, None]
    fixed = layer.prepare(x["memory"], x["memory_mask"])
    output, weights = layer(x["query"], fixed, x["last"] * real, x["coverage"] * real)
    return {"output": output, "weights": weights}


def recurrent_attention(kind, weights, numbers, units=UNITS, **options):
    spec = RecurrentDecoderSpec(
        units=units, attention=kind, attention_units=7, location_filters=2, location_kernel=3, **options
    )
    return {
        "cls": RecurrentAttention,
        "arguments": {"spec": spec, "memory_width": MEMORY_WIDTH, "initializer": INITIALIZER},
        "inputs": {
            **MEMORY,
            "query": normal(ROWS, TARGET, units),
            "last": random.dirichlet(np.ones(SOURCE), (ROWS, TARGET)).astype("float32"),
            "coverage": random.uniform(0, 2, (ROWS, TARGET, SOURCE)).astype("float32"),
        },
        "call": attend_from_states,
        "weights": weights,
        "numbers": numbers,
        "paddings": [
            Padding(
                LENGTHS,
                {"memory": 1, "memory_mask": 1, "last": 2, "coverage": 2},
                {"weights": 2},
                empty_rows_change=UNIFORM,
            )
        ],
    }


# Blocks


def encode(layer, x):
    output, _, (keys, values) = layer(x["inputs"], bias(layer, x["mask"][:, None]), indices(x["inputs"]))
    return {"output": output, "keys": keys, "values": values}


def encoder_block(weights, numbers, **options):
    spec = TransformerSpec(heads=HEADS, ffn=FFN, ffn_dropout=0.1, attention_dropout=0.2, relative_distance=2, **options)
    return {
        "cls": TransformerBlock,
        "arguments": {"spec": spec, "width": WIDTH, "memory_width": 0, "initializer": INITIALIZER},
        "inputs": MASKED_SEQUENCE,
        "call": encode,
        "weights": weights,
        "numbers": numbers,
        "paddings": [Padding(LENGTHS, {"inputs": 1, "mask": 1}, {"output": 1, "keys": 2, "values": 2})],
    }


def decode(layer, x):
    """Teacher forcing."""
    memory = layer.cross_attention.keys_values(x["memory"])
    own_bias = bias(layer, causal_mask(ops.shape(x["inputs"])[1]))
    memory_bias = bias(layer, x["memory_mask"][:, None])
    output, weights, _ = layer(x["inputs"], own_bias, indices(x["inputs"]), memory, memory_bias)
    return {"output": output, "weights": weights}


def decode_step(layer, x):
    """Two hypotheses at index 1; the cache holds one position of their past and has room for one more behind theirs."""
    cache = (x["keys"], x["values"])
    memory = layer.cross_attention.keys_values(x["memory"])
    output, weights, (keys, values) = layer(
        x["inputs"],
        bias(layer, x["visible"]),
        ops.ones((2,), dtype="int32"),
        memory,
        bias(layer, x["memory_mask"][:, None]),
        cache,
        cache_rows(ops.shape(cache[0]), 2, 2),
        ops.arange(6, dtype="int32") // 2,
    )
    return {"output": output, "weights": weights, "keys": keys, "values": values}


def decoder_block(weights, numbers, **options):
    spec = TransformerSpec(heads=HEADS, ffn=FFN, relative_distance=2, **options)
    return {
        "cls": TransformerBlock,
        "arguments": {"spec": spec, "width": WIDTH, "memory_width": MEMORY_WIDTH, "initializer": INITIALIZER},
        "inputs": {"inputs": normal(ROWS, TARGET, WIDTH), **MEMORY},
        "call": decode,
        "weights": weights,
        "numbers": numbers,
        "paddings": [
            Padding(TARGETS, {"inputs": 1}, {"output": 1, "weights": 2}),
            memory_padding(weights=3),
        ],
    }


DECODER_STEP = {
    **decoder_block(22, 748, positions="relative", kv_heads=1),
    "inputs": {
        "inputs": normal(ROWS, 2, WIDTH),
        "keys": normal(ROWS, 1, 6, WIDTH // HEADS),
        "values": normal(ROWS, 1, 6, WIDTH // HEADS),
        # Each hypothesis sees its own past and itself.
        "visible": np.tile(np.array([[1, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0]], bool), (ROWS, 1, 1)),
        **MEMORY,
    },
    "call": decode_step,
    "paddings": [memory_padding(weights=3)],
}


def run_conformer(layer, x):
    seen = x["mask"][:, None]
    if layer.spec.chunk:
        seen = ops.logical_and(seen, chunk_mask(ops.shape(seen)[2], layer.spec.chunk, layer.spec.left_chunks))
    return layer(x["inputs"], x["mask"], bias(layer, seen), indices(x["inputs"]))


def conformer_block(weights, numbers, **options):
    spec = ConformerEncoderSpec(heads=HEADS, ffn=FFN, kernel=3, relative_distance=2, **options)
    return {
        "cls": ConformerBlock,
        "arguments": {"spec": spec, "width": WIDTH, "initializer": INITIALIZER},
        "inputs": MASKED_SEQUENCE,
        "call": run_conformer,
        "weights": weights,
        "numbers": numbers,
        "paddings": [SEQUENCE_PADDING],
    }


def convolution_part(causal):
    return {
        "cls": ConvolutionPart,
        "arguments": {"width": WIDTH, "kernel": 3, "causal": causal, "initializer": INITIALIZER},
        "inputs": MASKED_SEQUENCE,
        "weights": 8,
        "numbers": 264,
        "paddings": [SEQUENCE_PADDING],
    }


def feed_forward(weights, numbers, activation):
    return {
        "cls": FeedForward,
        "arguments": {
            "width": WIDTH,
            "inner": FFN,
            "activation": activation,
            "dropout": 0.1,
            "initializer": INITIALIZER,
        },
        "inputs": SEQUENCE,
        "weights": weights,
        "numbers": numbers,
        "paddings": [Padding(LENGTHS, {"inputs": 1}, {"output": 1})],
    }


def subsampling(weights, numbers, lengths, cls=ConvolutionSubsampling, **options):
    return {
        "cls": cls,
        "arguments": {"width": WIDTH, "frame_width": 5, "initializer": INITIALIZER, **options},
        "inputs": {"frames": normal(ROWS, 9, 5), "lengths": np.array([9, 6, 0], "int32")},
        "call": lambda layer, x: dict(zip(("output", "lengths"), layer(*x.values()), strict=True)),
        "weights": weights,
        "numbers": numbers,
        "paddings": [Padding((9, 6, 0), {"frames": 1}, {"output": 1}, output_lengths=lengths)],
    }


def positioned(weights, numbers, positions):
    return {
        "cls": PositionedEmbedding,
        # Fewer than there are positions: the last row is repeated.
        "arguments": {"width": WIDTH, "positions": positions, "max_positions": 4, "dropout": 0.1},
        "inputs": SEQUENCE,
        "weights": weights,
        "numbers": numbers,
        "paddings": [Padding(LENGTHS, {"inputs": 1}, {"output": 1})],
    }


# Pictures

UNPADDED = {"padding": "pictures have no padding"}


def grid_embedding(weights, numbers, positions):
    return {
        "cls": GridEmbedding,
        "arguments": {"width": WIDTH, "grid": 9, "positions": positions, "initializer": INITIALIZER},
        "inputs": {"inputs": normal(ROWS, 9, 5)},
        "shape": (None, 9, 5),
        "weights": weights,
        "numbers": numbers,
        "without": UNPADDED,
    }


def backbone(cls, weights, numbers, spec):
    return {
        "cls": cls,
        "arguments": {"spec": spec, "size": 12, "width": WIDTH, "initializer": INITIALIZER},
        "inputs": {"pixels": normal(ROWS, 12, 12, 3)},
        "weights": weights,
        "numbers": numbers,
        "without": UNPADDED,
    }


def frame_embedding(weights, numbers, vectors, positions):
    arguments = {"frames": 3, "width": WIDTH, "vectors": vectors, "positions": positions, "initializer": INITIALIZER}
    return {
        "cls": FrameEmbedding,
        "arguments": arguments,
        "inputs": {"inputs": normal(ROWS, 3, 4, WIDTH)},
        "shape": (None, 3, 4, WIDTH),
        "weights": weights,
        "numbers": numbers,
        "without": UNPADDED,
    }


RESIDUAL_CONVOLUTION = {
    "cls": ResidualConvolution,
    "arguments": {"filters": 4, "initializer": INITIALIZER},
    "inputs": {"inputs": normal(ROWS, 6, 6, 4)},
    "weights": 8,
    "numbers": 312,
    "without": UNPADDED,
}


# Copying


def copy_words(layer, x):
    scores = x["scores"] + ops.cast(bias(layer, x["memory_mask"][:, None]), x["scores"].dtype)
    return layer(x["logits"], x["hidden"], ops.softmax(scores, axis=-1), x["copy_ids"])


def copying(extended, **padding):
    words = np.array([[1, SIZE + 1, 2, SIZE + 1, 2], [SIZE, 4, 3, 0, 0], [0] * SOURCE], "int32")
    inputs = {
        "logits": normal(ROWS, TARGET, SIZE),
        "hidden": normal(ROWS, TARGET, WIDTH),
        "scores": normal(ROWS, TARGET, SOURCE),
        "memory_mask": MASK,
        "copy_ids": words if extended else words % SIZE,
    }
    return {
        "cls": CopyMixture,
        "arguments": {"width": WIDTH, "size": SIZE, "extended": extended},
        "inputs": inputs,
        "call": copy_words,
        "weights": 2,
        "numbers": WIDTH + 1,
        "float32_outputs": ["output"],
        **padding,
    }


SOURCE_PADDING = Padding(LENGTHS, {"scores": 2, "memory_mask": 1, "copy_ids": 1}, {})
TARGET_PADDING = Padding(TARGETS, {"logits": 1, "hidden": 1, "scores": 1}, {"output": 1})

# Recurrent layers


def run_recurrent(layer, x):
    output, *states = layer(x["inputs"], mask=x["mask"])
    return named(output, states)


def recurrent(cls, numbers):
    return {
        "cls": cls,
        "arguments": {"units": UNITS, "return_sequences": True, "return_state": True},
        "inputs": MASKED_SEQUENCE,
        "call": run_recurrent,
        "shape": (None, None, WIDTH),
        "weights": 3,
        "numbers": numbers,
        "paddings": [SEQUENCE_PADDING],
    }


def move_cells(layer, x):
    states = [x["states"][:, index] for index in range(2 * layer.states_each)]
    return named(*layer(layer.project_input(x["inputs"]), states, x["dropout_masks"]))


def cells(kind, weights, numbers):
    return {
        "cls": CellStack,
        "arguments": {
            "cell": kind,
            "layers": 2,
            "units": UNITS,
            "input_width": WIDTH,
            "initializer": INITIALIZER,
        },
        "inputs": {
            "inputs": normal(ROWS, WIDTH),
            "states": normal(ROWS, 4, UNITS),
            "dropout_masks": random.choice([0.0, 1.25], (ROWS, UNITS)).astype("float32"),
        },
        "call": move_cells,
        "weights": weights,
        "numbers": numbers,
        "without": {"padding": "one step in time has no positions"},
    }


def predict(layer, x):
    """All positions at once, and the first one as search asks for it."""
    first, states = layer.step(x["inputs"][:, 0], layer.start(ops.shape(x["inputs"])[0]))
    return {**named(layer(x["inputs"]), states), "first": first}


def prediction_network(weights, numbers, spec):
    return {
        "cls": PredictionNetwork,
        "arguments": {"spec": spec, "width": WIDTH, "initializer": INITIALIZER},
        "inputs": {"inputs": normal(ROWS, TARGET, WIDTH)},
        "call": predict,
        "weights": weights,
        "numbers": numbers,
        "paddings": [Padding(TARGETS, {"inputs": 1}, {"output": 1})],
    }


# Outputs and losses

JOINT_NETWORK = {
    "cls": JointNetwork,
    "arguments": {
        "width": 7,
        "size": SIZE,
        "memory_width": MEMORY_WIDTH,
        "units": UNITS,
        "initializer": INITIALIZER,
    },
    "inputs": {"memory": MEMORY["memory"], "mask": MASK, "predicted": normal(ROWS, TARGET, UNITS)},
    "weights": 5,
    "numbers": 167,
    "float32_outputs": ["output"],
    "paddings": [
        Padding(LENGTHS, {"memory": 1, "mask": 1}, {"output": 1}),
        Padding(TARGETS, {"predicted": 1}, {"output": 2}),
    ],
}
CTC_OUTPUT = {
    "cls": CTCOutput,
    "arguments": {"size": SIZE, "memory_width": MEMORY_WIDTH, "dropout": 0.1, "initializer": INITIALIZER},
    "inputs": {"memory": MEMORY["memory"], "mask": MASK},
    "weights": 2,
    "numbers": 66,
    "float32_outputs": ["output"],
    "paddings": [Padding(LENGTHS, {"memory": 1, "mask": 1}, {"output": 1})],
}


def guide(layer, x):
    # Padding is given no weight.
    attention = x["attention"] * ops.cast(x["memory_mask"], x["attention"].dtype)[:, None]
    hidden = layer(x["hidden"], attention, x["memory_mask"], x["target_mask"], training=True)
    return {"hidden": hidden, "loss": layer.losses[0]}


GUIDED_ATTENTION = {
    "cls": GuidedAttention,
    "arguments": {"weight": 2.0, "width": 0.25},
    "inputs": {
        "hidden": normal(ROWS, TARGET, WIDTH),
        "attention": random.dirichlet(np.ones(SOURCE), (ROWS, TARGET)).astype("float32"),
        "memory_mask": MASK,
        "target_mask": np.arange(TARGET) < np.asarray(TARGETS)[:, None],
    },
    "call": guide,
    "weights": 0,
    "numbers": 0,
    "non_trainable": 1,
    "float32_outputs": ["loss"],
    "paddings": [
        Padding(LENGTHS, {"attention": 2, "memory_mask": 1}, {}),
        Padding(TARGETS, {"hidden": 1, "attention": 1, "target_mask": 1}, {"hidden": 1}),
    ],
    "without": {"batch": "the loss is the sum over all target positions of the batch"},
}


def alignment_loss(cls, logits, *paddings):
    return {
        "cls": cls,
        "arguments": {"reduction": "none", "name": "loss_of_a_row"},
        "inputs": {
            "labels": np.array([[4, 5, 4, EOS], [5, EOS, 0, 0], [EOS, 0, 0, 0]], "int32"),
            "logits": logits,
            "mask": MASK,
        },
        "call": lambda loss, x: loss(x["labels"], blank_past_end(x["logits"], x["mask"])),
        "weights": 0,
        "numbers": 0,
        "float32_outputs": ["output"],
        "paddings": [Padding(LENGTHS, {"logits": 1, "mask": 1}, {}), *paddings],
    }


CASES = {
    "self-attention": self_attention(4, 288),
    "self-attention, grouped and rotary": self_attention(4, 216, kv_heads=1, positions="rotary"),
    "self-attention, relative": self_attention(6, 328, positions="relative", relative_distance=2),
    "self-attention, wide heads": self_attention(4, 428, head_width=6),
    "cross-attention": CROSS_ATTENTION,
    "recurrent attention, additive": recurrent_attention("additive", 4, 126),
    "recurrent attention, dot": recurrent_attention("dot", 0, 0, units=MEMORY_WIDTH),
    "recurrent attention, general": recurrent_attention("general", 1, 60),
    "recurrent attention, scaled": recurrent_attention("scaled", 0, 0, units=MEMORY_WIDTH),
    "recurrent attention, location and coverage": recurrent_attention("location", 7, 153, coverage=True),
    "encoder block": encoder_block(12, 532),
    "encoder block, post, rotary and gated": encoder_block(
        14, 640, norm="post", positions="rotary", activation="swiglu"
    ),
    "encoder block, relative": encoder_block(14, 572, positions="relative"),
    "decoder block": decoder_block(20, 868),
    "decoder block, step": DECODER_STEP,
    "Conformer block": conformer_block(32, 1096),
    "Conformer block, in chunks": conformer_block(30, 1056, positions="rotary", chunk=2, left_chunks=1),
    "convolution part": convolution_part(False),
    "convolution part, causal": convolution_part(True),
    "feed-forward": feed_forward(4, 212, "gelu"),
    "feed-forward, gated": feed_forward(6, 320, "swiglu"),
    "feed-forward, gated by the approximate GELU": feed_forward(6, 320, "geglu"),
    "gated convolution": {
        "cls": GatedConvolution,
        "arguments": {"filters": WIDTH, "kernel": 3, "dropout": 0.1, "initializer": INITIALIZER},
        "inputs": MASKED_SEQUENCE,
        "weights": 2,
        "numbers": 400,
        "paddings": [SEQUENCE_PADDING],
    },
    "subsampling, none": subsampling(4, 64, (9, 6, 0), factor=1, causal=False),
    "subsampling by 4": subsampling(8, 816, (3, 2, 0), factor=4, causal=False),
    "subsampling by 2, causal": subsampling(6, 296, (5, 3, 0), factor=2, causal=True),
    "subsampling over time, none": subsampling(2, 128, (9, 6, 0), TimeConvolutionSubsampling, factor=1, causal=True),
    "subsampling over time, by 4": subsampling(6, 528, (3, 2, 0), TimeConvolutionSubsampling, factor=4, causal=False),
    "positions, sinusoidal": positioned(0, 0, "sinusoidal"),
    "positions, learned": positioned(1, 32, "learned"),
    "positions, bucketed": {
        "cls": BucketedPositions,
        "arguments": {"heads": HEADS, "buckets": 8, "distance": 20, "causal": False},
        "inputs": {"queries": np.arange(4, dtype="int32"), "keys": np.arange(6, dtype="int32")},
        "weights": 1,
        "numbers": 16,
        "without": {"padding": "positions have no padding", "batch": "all rows have the same positions"},
    },
    "dense": {
        "cls": SequenceDense,
        "arguments": {"units": 5, "activation": "tanh"},
        "inputs": SEQUENCE,
        "shape": (None, None, WIDTH),
        "weights": 2,
        "numbers": 45,
        "paddings": [Padding(LENGTHS, {"inputs": 1}, {"output": 1})],
    },
    "grid embedding, sinusoidal": grid_embedding(4, 64, "sinusoidal"),
    "grid embedding, learned": grid_embedding(6, 112, "learned"),
    "grid embedding, no positions": grid_embedding(4, 64, "none"),
    "patches": backbone(PatchBackbone, 6, 456, PatchBackboneSpec(patch=4)),
    "convolution backbone": backbone(
        ConvolutionBackbone, 24, 2008, ConvolutionBackboneSpec(stages=2, filters=4, positions="none")
    ),
    "frame embedding, one vector a frame": frame_embedding(4, 280, "frame", "sinusoidal"),
    "frame embedding, all vectors": frame_embedding(1, 24, "grid", "learned"),
    "residual convolution": RESIDUAL_CONVOLUTION,
    "simple RNN": recurrent(SimpleRNN, 90),
    "LSTM": recurrent(LSTM, 360),
    "GRU": recurrent(GRU, 288),
    "cells, simple": cells("simple", 6, 168),
    "cells, LSTM": cells("lstm", 6, 672),
    "cells, GRU": cells("gru", 8, 540),
    "attention in windows": local_attention(4, 288, window=2),
    "attention in windows, global positions, grouped": local_attention(
        4, 216, window=1, global_positions=2, kv_heads=1, positions="rotary"
    ),
    "copying of subwords": copying(False, paddings=[SOURCE_PADDING, TARGET_PADDING]),
    # More positions of the source are more words: the contracts of models compare the words of the real positions.
    "copying of words": copying(True, paddings=[TARGET_PADDING]),
    "prediction network, transducer": prediction_network(6, 672, TransducerDecoderSpec(layers=2, units=UNITS)),
    "prediction network, language model": prediction_network(
        4, 288, RecurrentDecoderSpec(layers=1, units=UNITS, cell="gru", attention="none")
    ),
    "joint network": JOINT_NETWORK,
    "CTC output": CTC_OUTPUT,
    "guided attention": GUIDED_ATTENTION,
    "CTC loss": alignment_loss(CTCLoss, normal(ROWS, SOURCE, SIZE), Padding(TARGETS, {"labels": 1}, {})),
    "transducer loss": alignment_loss(
        TransducerLoss, normal(ROWS, SOURCE, TARGET, SIZE), Padding(TARGETS, {"labels": 1, "logits": 2}, {})
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_keeps_to_what_models_take_for_granted(case):
    check_layer(**CASES[case])


def test_every_public_layer_and_loss_is_checked():
    found = set()
    for module in pkgutil.walk_packages(layers.__path__, f"{layers.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            kinds = (keras.layers.Layer, keras.losses.Loss)
            if isinstance(value, type) and issubclass(value, kinds) and value.__module__ == module.name:
                found.add(value)
    public = {cls for cls in found if not cls.__name__.startswith("_")}
    missing = sorted(cls.__name__ for cls in public - {case["cls"] for case in CASES.values()})
    assert not missing, f"no case for {', '.join(missing)}"
