"""The registry of model families that contracts are checked on: encoders, decoders and sources, small enough to build
at once, and which of them go together in `FAMILIES`."""

import functools
import itertools
from typing import NamedTuple

import keras
import numpy as np

from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict, source_from_dict
from tfseq2seq.spec import ModelSpec

TRANSFORMER = {"kind": "transformer", "layers": 2, "heads": 2, "ffn": 24, "dropout": 0.1}
RECURRENT = {"kind": "recurrent", "layers": 2, "units": 8, "dropout": 0.1}
CONFORMER = {"kind": "conformer", "layers": 1, "heads": 2, "ffn": 16, "kernel": 3, "relative_distance": 4}
PYRAMID = {"kind": "pyramid", "layers": 2, "joins": 1, "units": 8}

# Where another one of two layers shows that layers follow each other, one layer is enough.
SHALLOW = {**TRANSFORMER, "layers": 1}

NORMED = {"embedding_norm": True, "norm_epsilon": 1e-3, "activation": "silu"}
T5 = {
    "positions": "bucketed",
    "position_buckets": 8,
    "relative_distance": 6,
    "norm_kind": "rms",
    "activation": "geglu",
    "head_width": 6,
    "embedding_scale": False,
}
ENCODERS = {
    "transformer": TRANSFORMER,
    "transformer-post-rotary-swiglu": {**SHALLOW, "norm": "post", "positions": "rotary", "activation": "swiglu"},
    "transformer-relative-grouped": {**SHALLOW, "positions": "relative", "kv_heads": 1, "relative_distance": 3},
    "transformer-learned-gelu": {**SHALLOW, "positions": "learned", "activation": "gelu"},
    "transformer-normed": {**SHALLOW, "norm": "post", **NORMED},
    "transformer-t5": {**SHALLOW, **T5},
    "lstm-both-ways": {**RECURRENT, "cell": "lstm"},
    "gru-one-way": {**RECURRENT, "cell": "gru", "bidirectional": False, "units": 16},
    "simple": {**RECURRENT, "cell": "simple", "layers": 1},
    "convolution": {"kind": "convolution", "layers": 2, "filters": 16, "dropout": 0.1},
    "convolution-pooled": {"kind": "convolution", "layers": 2, "filters": 16, "pooling": 2, "dropout": 0.1},
    "conformer": CONFORMER,
    "conformer-rotary-grouped": {**CONFORMER, "positions": "rotary", "kv_heads": 1},
    "conformer-chunked": {**CONFORMER, "chunk": 3, "left_chunks": 1},
    "pyramid": PYRAMID,
    "pyramid-gru": {**PYRAMID, "cell": "gru", "layers": 3, "joins": 2},
    "transformer-windows": {**SHALLOW, "positions": "rotary", "attention_window": 2, "global_positions": 1},
}


def _attention(kind, cell="lstm", **options):
    return {**RECURRENT, "cell": cell, "units": 16, "attention": kind, "attention_units": 8, **options}


# Decoders that write token by token.
DECODERS = {
    "transformer": TRANSFORMER,
    "transformer-post-rotary-swiglu": {**TRANSFORMER, "norm": "post", "positions": "rotary", "activation": "swiglu"},
    "transformer-relative": {**TRANSFORMER, "positions": "relative", "relative_distance": 2},
    "transformer-grouped-learned": {**TRANSFORMER, "positions": "learned", "kv_heads": 1, "activation": "gelu"},
    "transformer-grouped-rotary": {**TRANSFORMER, "positions": "rotary", "kv_heads": 1},
    "transformer-no-positions": {**TRANSFORMER, "positions": "none"},
    "transformer-normed": {**TRANSFORMER, **NORMED},
    "transformer-t5": {**TRANSFORMER, **T5},
    "transformer-aligned": {**TRANSFORMER, "positions": "learned", "alignment_heads": ["0.1", "1.0"]},
    "fixed-lstm": _attention("none"),
    "fixed-gru": _attention("none", "gru"),
    "additive": _attention("additive"),
    "additive-simple-unfed": _attention("additive", "simple", input_feeding=False),
    "dot-gru": _attention("dot", "gru"),
    "general-unfed": _attention("general", input_feeding=False),
    "scaled": _attention("scaled"),
    "location-gru": _attention("location", "gru", location_kernel=3, location_filters=4),
    "coverage": _attention("additive", coverage=True),
    "coverage-location-unfed": _attention("location", coverage=True, input_feeding=False, location_kernel=3),
    "zero-bridge": _attention("additive", bridge="zero", layers=1),
    "copying-transformer": {**TRANSFORMER, "copy": True},
    "copying-coverage": _attention("additive", "gru", coverage=True, copy=True),
}

# What decodes along the positions of the encoder, of recordings alone; "joint" does so beside an attention decoder.
ALIGNED = {
    "ctc": {"decoder": {"kind": "ctc"}},
    "transducer": {"decoder": {"kind": "transducer", "units": 12, "joint": 10}},
    "transducer-gru": {"decoder": {"kind": "transducer", "cell": "gru", "layers": 2, "units": 12, "joint": 10}},
    "joint": {"decoder": DECODERS["transformer"], "ctc_weight": 0.3},
}

RATE = 2000
# Of pictures, in pixels, and of clips.
SIDE, FRAMES = 12, 4
SOURCES = {
    "text": {"kind": "text", "scheme": "characters"},
    # Windows of 50 samples every 20.
    "audio": {
        "kind": "audio",
        "sample_rate": RATE,
        "bins": 12,
        "subsampling": 2,
        "augmentation": {"frequency_masks": 0, "time_masks": 0},
    },
    # As in Whisper.
    "audio-padded": {
        "kind": "audio",
        "sample_rate": RATE,
        "bins": 12,
        "subsampling": 2,
        "convention": "whisper",
        "normalization": "none",
        "input_layer": "conv1d",
        "pad_seconds": 1,
        "augmentation": {"frequency_masks": 0, "time_masks": 0},
    },
    "none": {"kind": "none"},
    "image": {"kind": "image", "size": SIDE, "backbone": {"kind": "patches", "patch": 4}},
    "image-convolution": {
        "kind": "image",
        "size": SIDE,
        "backbone": {"kind": "convolution", "stages": 2, "filters": 4},
        "augmentation": {"crop": 0.2, "flip": 0.5, "brightness": 0.1, "contrast": 0.1},
    },
    "video": {"kind": "video", "size": SIDE, "frames": FRAMES, "backbone": {"kind": "patches", "patch": 4}},
    "video-grid": {
        "kind": "video",
        "size": SIDE,
        "frames": FRAMES,
        "vectors": "grid",
        "time_positions": "learned",
        "backbone": {"kind": "convolution", "stages": 3, "filters": 4},
        "augmentation": {"crop": 0.2, "brightness": 0.1},
    },
}
SOURCE_SIZE, TARGET_SIZE = 20, 30

TOKENS, SAMPLES = (7, 5, 2), (520, 400, 277)
TARGET_TOKENS = (5, 5, 3)


class Family(NamedTuple):
    """Names of the parts of a model; of a model without a source, "" for the encoder."""

    encoder: str
    decoder: str
    source: str

    def __str__(self):
        return "-over-".join(filter(None, (self.decoder, self.encoder, self.source)))


def _pairs(source, decoders, shift):
    """Each encoder and each decoder at least once, in pairs that depend on the shift."""
    encoders = list(ENCODERS)
    count = max(len(encoders), len(decoders))
    shifted = itertools.islice(itertools.cycle(decoders), shift, shift + count)
    return [Family(encoder, decoder, source) for encoder, decoder in zip(itertools.cycle(encoders), shifted)]


# Encoders meet other decoders over audio than over text.
TEXT_FAMILIES = _pairs("text", list(DECODERS), 0)
AUDIO_FAMILIES = _pairs("audio", [*ALIGNED, "additive", "location-gru", "transformer-relative", "fixed-lstm"], 0)
# Without a source there is nothing to attend to.
NO_SOURCE_FAMILIES = [
    Family("", decoder, "none")
    for decoder in ("transformer", "transformer-relative", "transformer-grouped-rotary", "fixed-lstm", "fixed-gru")
]
IMAGE_FAMILIES = [
    Family("transformer", "transformer", "image"),
    Family("pyramid", "coverage", "image"),
    Family("lstm-both-ways", "fixed-gru", "image-convolution"),
    Family("convolution-pooled", "additive", "image-convolution"),
]
VIDEO_FAMILIES = [Family("lstm-both-ways", "additive", "video"), Family("transformer", "transformer", "video-grid")]
PADDED_FAMILIES = [Family("transformer", "transformer-aligned", "audio-padded")]
FAMILIES = [*TEXT_FAMILIES, *AUDIO_FAMILIES, *PADDED_FAMILIES, *NO_SOURCE_FAMILIES, *IMAGE_FAMILIES, *VIDEO_FAMILIES]


def model_spec(encoder="transformer", decoder="transformer", **options):
    """A `ModelSpec` of width 16 with the named parts; "" for no encoder."""
    parts = ALIGNED[decoder] if decoder in ALIGNED else {"decoder": DECODERS[decoder]}
    if encoder:
        parts = {**parts, "encoder": ENCODERS[encoder]}
    return from_dict(ModelSpec, {"width": 16, **parts, **options})


def source_spec(source, encoder="", **options):
    """The spec of a named source, for a model with the named encoder."""
    if source.startswith("audio") and ENCODERS.get(encoder, {}).get("chunk"):
        # A stream is not normalized over the whole of a recording.
        options = {"normalization": "none", **options}
    return source_from_dict({**SOURCES[source], **options})


def build(encoder, decoder, source="text", seed=3, options=None, **source_options):
    """A new model of a family; `options` are those of `ModelSpec`."""
    keras.utils.set_random_seed(seed)
    spec = model_spec(encoder, decoder, **(options or {}))
    size = SOURCE_SIZE if source == "text" else 0
    return build_model(spec, source_spec(source, encoder, **source_options), size, TARGET_SIZE)


@functools.cache
def built(family):
    """The model of a family, made once for all tests, which must not change it."""
    return build(*family)


@functools.cache
def answers(family):
    """What `built` gives for `inputs`: `arrays` that tests must not change."""
    return arrays(built(family), inputs(family.source))


def sizes(source):
    """Tokens or samples of each example of `inputs`, or pixels in a row."""
    if source.startswith(("image", "video")):
        return (SIDE, SIDE, SIDE)
    if source.startswith("audio"):
        return SAMPLES
    return {"text": TOKENS, "none": (0, 0, 0)}[source]


def inputs(source):
    """A batch of three examples of different sizes, padded: model inputs by name."""
    random = np.random.default_rng(0)
    target = random.integers(4, TARGET_SIZE, (3, max(TARGET_TOKENS))).astype("int32")
    target[:, 0] = 2
    batch = {"target": _padded(target, TARGET_TOKENS)}
    if source == "text":
        ids = random.integers(4, SOURCE_SIZE, (3, max(TOKENS))).astype("int32")
        batch["source"] = _padded(ids, TOKENS)
        # Of decoders that copy: every third token is a word that the target vocabulary lacks.
        first = (batch["source"][:, :, None] == batch["source"][:, None]).argmax(2)
        unknown = batch["source"] % 3 == 2
        batch["copy_ids"] = np.where(unknown, TARGET_SIZE + first, batch["source"]).astype("int32")
    if source.startswith("audio"):
        samples = random.normal(size=(3, max(SAMPLES))).astype("float32") * 0.1
        batch |= {"source": _padded(samples, SAMPLES), "source_length": np.array(SAMPLES, "int32")}
    if source.startswith("image"):
        batch["source"] = random.integers(0, 256, (3, SIDE, SIDE, 3)).astype("uint8")
    if source.startswith("video"):
        batch["source"] = random.integers(0, 256, (3, FRAMES, SIDE, SIDE, 3)).astype("uint8")
    return batch


def _padded(values, lengths):
    values[np.arange(values.shape[1]) >= np.array(lengths)[:, np.newaxis]] = 0
    return values


def outputs(model, batch):
    """What a model gives for a batch: "tokens" [B, T, V], "positions" [B, S', V] or "lattice" [B, S', T, V]."""
    found = model({name: batch[name] for name in model.input}, training=False)
    if isinstance(found, dict):
        return {"tokens": found["attention"], "positions": found["ctc"]}
    return {{"ctc": "positions", "transducer": "lattice"}.get(model.spec.decoder.kind, "tokens"): found}


def arrays(model, batch):
    """`outputs` as arrays of float32."""
    named = outputs(model, batch)
    return {name: keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")) for name, value in named.items()}
