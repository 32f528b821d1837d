"""Sequence-to-sequence models with Keras 3 and TensorFlow: from raw data to a served model.

Importing this package imports neither TensorFlow nor Keras; what needs them is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Recipe": "tfseq2seq.spec",
    "UserError": "tfseq2seq.errors",
    "load_recipe": "tfseq2seq.recipe",
    "dump_recipe": "tfseq2seq.recipe",
    "preset": "tfseq2seq.presets",
    "Seq2Seq": "tfseq2seq.models.seq2seq",
    "Run": "tfseq2seq.run",
    "train": "tfseq2seq.training.fit",
    "Predictor": "tfseq2seq.inference.predictor",
    "TextToText": "tfseq2seq.inference.predictor",
    "SpeechToText": "tfseq2seq.inference.predictor",
    "LanguageModel": "tfseq2seq.inference.predictor",
    "Streaming": "tfseq2seq.inference.streaming",
    "Transcriber": "tfseq2seq.inference.word_times",
    "Generator": "tfseq2seq.inference.generator",
    "TextStream": "tfseq2seq.inference.text_stream",
    "export_saved_model": "tfseq2seq.export.saved_model",
}
__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tfseq2seq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
