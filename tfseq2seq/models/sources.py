"""What a model is given: token ids, or samples with their lengths."""

from __future__ import annotations

from typing import Any

import keras

from tfseq2seq.spec import AudioSpec, ConformerEncoderSpec, ModelSpec


def source_inputs(source: AudioSpec | None) -> dict[str, Any]:
    """Symbolic inputs of a functional model: ids [B, S], or of audio samples [B, N] and lengths [B]."""
    if source is None:
        return {"source": keras.Input((None,), dtype="int32", name="source")}
    return {
        "source": keras.Input((None,), dtype="float32", name="source"),
        "source_length": keras.Input((), dtype="int32", name="source_length"),
    }


def looks_back_only(spec: ModelSpec) -> bool:
    """Whether the encoder streams, so that what stands before it must not look ahead either."""
    return isinstance(spec.encoder, ConformerEncoderSpec) and spec.encoder.chunk > 0
