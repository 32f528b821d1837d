"""The model families that contracts are checked on, as plain values of a `ModelSpec`, small enough to build at once."""

from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import ModelSpec

TRANSFORMER = {"kind": "transformer", "layers": 2, "heads": 2, "ffn": 24, "dropout": 0.1}
RECURRENT = {"kind": "recurrent", "layers": 2, "units": 8, "dropout": 0.1}

ENCODERS = {
    "transformer": TRANSFORMER,
    "transformer-post-rotary-swiglu": {**TRANSFORMER, "norm": "post", "positions": "rotary", "activation": "swiglu"},
    "transformer-relative-grouped": {**TRANSFORMER, "positions": "relative", "kv_heads": 1, "relative_distance": 3},
    "transformer-learned-gelu": {**TRANSFORMER, "positions": "learned", "activation": "gelu"},
    "lstm-both-ways": {**RECURRENT, "cell": "lstm"},
    "gru-one-way": {**RECURRENT, "cell": "gru", "bidirectional": False, "units": 16},
    "simple": {**RECURRENT, "cell": "simple"},
    "convolution": {"kind": "convolution", "layers": 2, "filters": 16, "dropout": 0.1},
    "convolution-pooled": {"kind": "convolution", "layers": 2, "filters": 16, "pooling": 2, "dropout": 0.1},
}


def _attention(kind, cell="lstm", **options):
    return {**RECURRENT, "cell": cell, "units": 16, "attention": kind, "attention_units": 8, **options}


DECODERS = {
    "transformer": TRANSFORMER,
    "transformer-post-rotary-swiglu": {**TRANSFORMER, "norm": "post", "positions": "rotary", "activation": "swiglu"},
    "transformer-relative": {**TRANSFORMER, "positions": "relative", "relative_distance": 2},
    "transformer-grouped-learned": {**TRANSFORMER, "positions": "learned", "kv_heads": 1, "activation": "gelu"},
    "transformer-grouped-rotary": {**TRANSFORMER, "positions": "rotary", "kv_heads": 1},
    "transformer-no-positions": {**TRANSFORMER, "positions": "none"},
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
}


def model_spec(encoder="transformer", decoder="transformer", **options):
    """A `ModelSpec` of width 16 with the named parts."""
    return from_dict(ModelSpec, {"width": 16, "encoder": ENCODERS[encoder], "decoder": DECODERS[decoder], **options})
