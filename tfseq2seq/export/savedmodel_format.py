"""SavedModel as an export format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.export.formats import Asked, ExportOptions, Format


class SavedModelFormat(Format):
    """For TensorFlow Serving: strings or samples in, strings out."""

    name = "savedmodel"
    marker = "saved_model.pb"
    options = ("version", "license")

    def write(self, model: Any, folder: str, options: ExportOptions) -> Path:
        from tfseq2seq.export.saved_model import export_saved_model

        return export_saved_model(model, folder, options.version, options.card, options.check)

    def asked(self, folder: Path, model: Any, inputs: Sequence[Any]) -> Asked:
        return Asked(model.source.client_rows(inputs), exact=True)

    def open(self, folder: str, batch: int, workers: int) -> Any:
        raise UserError(f"{folder}: is a SavedModel; ask it by `tfseq2seq serve`. --model takes the other exports")
