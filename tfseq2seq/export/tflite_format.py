"""TFLite as an export format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tfseq2seq.errors import UserError
from tfseq2seq.export.formats import Asked, ExportOptions, Format, check_inputs
from tfseq2seq.runtime.export_config import read_config


class TFLiteFormat(Format):
    """For phones: ids or samples in, ids out, in TFLite's own operations."""

    name = "tflite"
    marker = "model.tflite"
    suffix = "_tflite"
    quantizations = ("float32", "float16", "int8", "int8_tensor", "full_int8")
    options = ("strings",)

    def check_options(self, options: ExportOptions) -> None:
        super().check_options(options)
        if options.strings and options.quantization == "full_int8":
            raise UserError("--quantization full_int8: TFLite measures no ranges where there are strings; choose int8")

    def write(self, model: Any, folder: str, options: ExportOptions) -> Path:
        from tfseq2seq.export.tflite import export_tflite

        quantization = cast("Any", options.quantization)
        return export_tflite(model, folder, quantization, options.examples, options.check, options.strings)

    def needs(self, folder: Path) -> str:
        config = read_config(folder / "config.json", "min_runtime", "quantization")
        older = "; --quantization int8_tensor runs in older ones" if config["quantization"] == "int8" else ""
        return f"needs a TFLite runtime of version {config['min_runtime']} or later{older}"

    def asked(self, folder: Path, model: Any, inputs: Sequence[Any]) -> Asked:
        config = read_config(folder / "config.json", "quantization", "inputs", "outputs")
        check_inputs(folder, model, config["inputs"])
        exact, singly = config["quantization"] == "float32", "text" in config["outputs"]
        if config["inputs"] != ["text"]:
            return Asked(model.source.features_of(inputs), exact, singly)
        # A file of strings does not normalize them.
        texts = model.source.reader.normalize(model.pack(inputs)[0]).numpy()
        return Asked([text.decode("utf-8") for text in texts], exact, singly)

    def open(self, folder: str, batch: int, workers: int) -> Any:
        from tfseq2seq.runtime.tflite_model import TFLiteModel

        return TFLiteModel(folder, batch, workers or 1)
