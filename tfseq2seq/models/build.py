"""The model a recipe asks for."""

from __future__ import annotations

from typing import Any

import keras

from tfseq2seq.models.ctc import CTCModel
from tfseq2seq.models.language import LanguageModel
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.models.transducer import TransducerModel
from tfseq2seq.spec import AudioSpec, CTCDecoderSpec, ModelSpec, SourceSpec, TransducerDecoderSpec


def build_model(spec: ModelSpec, source: SourceSpec, source_size: int, target_size: int, **kwargs: Any) -> keras.Model:
    """A model with fresh weights.

    Args:
        spec: encoder and decoder.
        source: text or audio.
        source_size: entries of the source vocabulary; of audio, and for a language model, it does not matter.
        target_size: entries of the target vocabulary.
    """
    if spec.is_language_model:
        return LanguageModel(spec, target_size, **kwargs)
    if not isinstance(source, AudioSpec):
        return Seq2Seq(spec, source_size, target_size, **kwargs)
    if isinstance(spec.decoder, CTCDecoderSpec):
        return CTCModel(spec, source, target_size, **kwargs)
    if isinstance(spec.decoder, TransducerDecoderSpec):
        return TransducerModel(spec, source, target_size, **kwargs)
    return Seq2Seq(spec, 0, target_size, source, **kwargs)
