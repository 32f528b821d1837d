"""The model a recipe asks for."""

from __future__ import annotations

from typing import Any

from tfseq2seq.models.ctc import CTCModel
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.models.transducer import TransducerModel
from tfseq2seq.spec import (
    AutoregressiveDecoderBase,
    CTCDecoderSpec,
    ModelSpec,
    SourceSpec,
    TransducerDecoderSpec,
    lookup,
)

# The model class for each family of decoders.
MODELS: dict[type, Any] = {
    AutoregressiveDecoderBase: Seq2Seq,
    CTCDecoderSpec: CTCModel,
    TransducerDecoderSpec: TransducerModel,
}


def build_model(spec: ModelSpec, source: SourceSpec, source_size: int, target_size: int, **kwargs: Any) -> Any:
    """A model with fresh weights.

    Args:
        spec: encoder and decoder.
        source: what the model reads.
        source_size: entries of the source vocabulary; 0 where there is none.
        target_size: entries of the target vocabulary.
    """
    return lookup(MODELS, spec.decoder)(spec, source_size, target_size, source, **kwargs)
