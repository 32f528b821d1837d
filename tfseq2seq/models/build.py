"""Builds the model of a recipe."""

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

# The model class of each decoder family.
MODELS: dict[type, Any] = {
    AutoregressiveDecoderBase: Seq2Seq,
    CTCDecoderSpec: CTCModel,
    TransducerDecoderSpec: TransducerModel,
}


def build_model(spec: ModelSpec, source: SourceSpec, source_size: int, target_size: int, **kwargs: Any) -> Any:
    """Returns a model with random initial weights.

    Args:
        spec: the settings of the model.
        source: the settings of the source.
        source_size: the size of the source vocabulary, or 0 if there is none.
        target_size: the size of the target vocabulary.
    """
    return lookup(MODELS, spec.decoder)(spec, source_size, target_size, source, **kwargs)
