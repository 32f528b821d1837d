"""What a model is given, token ids or samples with their lengths, and what models of samples alone have in common."""

from __future__ import annotations

from typing import Any

import keras

from tfseq2seq.recipe import from_dict, to_dict
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


class SpeechModel(keras.Model):
    """What CTC and transducer models share. They set `spec`, `source`, `target_size`, `frontend` and `encoder`."""

    # Neither reads its own output in training, nor attends.
    sampling = guidance = None

    def encode(self, samples: Any, lengths: Any) -> tuple[Any, Any, Any]:
        """Samples [B, N] and lengths [B] to memory [B, F, M], its mask [B, F] and summary [B, Q]."""
        return self.encoder(*self.frontend(samples, lengths, training=False), training=False)

    def get_config(self) -> dict[str, Any]:
        return {
            "spec": to_dict(self.spec),
            "source": to_dict(self.source),
            "target_size": self.target_size,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SpeechModel:
        spec, source = from_dict(ModelSpec, config["spec"]), from_dict(AudioSpec, config["source"])
        return cls(**{**config, "spec": spec, "source": source})
