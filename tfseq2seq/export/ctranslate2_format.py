"""CTranslate2 as an export format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tfseq2seq.export.formats import Asked, ExportOptions, Format, check_inputs
from tfseq2seq.runtime.export_config import read_config


class CTranslate2Format(Format):
    """For fast answers on CPUs: tokens in, tokens out; Transformers over source text."""

    name = "ctranslate2"
    marker = "model.bin"
    suffix = "_ctranslate2"
    quantizations = ("float32", "float16", "int16", "int8")

    def write(self, model: Any, folder: str, options: ExportOptions) -> Path:
        from tfseq2seq.export.ctranslate2 import export_ctranslate2

        return export_ctranslate2(model, folder, cast("Any", options.quantization), options.check)

    def asked(self, folder: Path, model: Any, inputs: Sequence[Any]) -> Asked:
        config = read_config(folder / "tfseq2seq.json", "quantization", "options")
        check_inputs(folder, model, ["ids"])
        tokens = model.source.reader.vocabulary.tokens
        rows = [[tokens[token] for token in row] for row in model.source.features_of(inputs)]
        # It leaves an output that is cut off without <eos>, and its score without that of <eos>.
        return Asked(rows, config["quantization"] == "float32", cut=config["options"]["max_decoding_length"])

    def open(self, folder: str, batch: int, workers: int) -> Any:
        from tfseq2seq.runtime.ctranslate2_model import CTranslate2Model

        return CTranslate2Model(folder, batch, workers or os.cpu_count() or 1)
