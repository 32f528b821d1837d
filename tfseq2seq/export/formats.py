"""Export formats: what a format is called, how it is written, and how it is asked.

Each module `export/<name>_format.py` holds one subclass of `Format`; `formats()` finds them all. The modules import
heavy libraries inside their methods, so that the command line can list formats at once.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tfseq2seq.export
from tfseq2seq.errors import UserError

# The program that asks an exported model in a process without this package.
CLIENT = Path(__file__).parents[1] / "runtime" / "answer.py"


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported. A format refuses what it does not take.

    Attributes:
        quantization: of the weights.
        version: number of the version; None for the next one.
        license: for the model card.
        examples: Python values that ranges of activations are measured on.
        strings: strings in and out, by operations beside the runtime's own.
        card: text of the model card.
        check: called with the folder before it takes its name; what it raises keeps it from doing so.
    """

    quantization: str = "float32"
    version: int | None = None
    license: str = ""
    examples: Sequence[Any] = ()
    strings: bool = False
    card: str = ""
    check: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Asked:
    """What an exported model is asked for a list of inputs.

    Attributes:
        rows: what it takes, one for each input.
        exact: whether it computes in float32, so that texts and scores have to be the run's.
        singly: whether it takes one input at a time.
        cut: tokens from which on an output is cut off and has a score that cannot be compared; 0 for none.
    """

    rows: list[Any]
    exact: bool
    singly: bool = False
    cut: int = 0


class Format:
    """One export format.

    Attributes:
        name: as the command line has it.
        marker: a file that only folders of this format have.
        suffix: of the folder's name by default.
        quantizations: that it can write.
        options: names of the `ExportOptions` beside quantization that it takes.
        client: the program that asks it, `CLIENT` or one with the same arguments and files.
    """

    name = ""
    marker = ""
    suffix = ""
    quantizations: Sequence[str] = ("float32",)
    options: Sequence[str] = ()
    client = CLIENT

    def check_options(self, options: ExportOptions) -> None:
        """Refuses options that this format does not have.

        Raises:
            UserError: one is given; the message names the formats that have it.
        """
        table = list(formats().values())
        if options.quantization not in self.quantizations:
            others = [one.name for one in table if options.quantization in one.quantizations]
            raise UserError(
                f"--quantization {options.quantization}: must be {' or '.join(self.quantizations)} for --format "
                f"{self.name}; choose it with --format {' or '.join(others)}"
            )
        for name in ("version", "license", "strings"):
            if getattr(options, name) and name not in self.options:
                others = [one.name for one in table if name in one.options]
                raise UserError(f"--{name}: is an option of --format {' or '.join(others)}, got --format {self.name}")

    def write(self, model: Any, folder: str, options: ExportOptions) -> Path:
        """Writes a predictor to a folder, aside first, and returns where it is.

        Raises:
            UserError: the folder exists, or the format cannot express the model.
        """
        raise NotImplementedError

    def needs(self, folder: Path) -> str:
        """Returns what a user of the exported model must have, beyond what the format always needs, or ""."""
        return ""

    def asked(self, folder: Path, model: Any, inputs: Sequence[Any]) -> Asked:
        """What an exported model in `folder` is asked for inputs of a predictor.

        Raises:
            UserError: the folder is damaged, or of another kind of model.
        """
        raise NotImplementedError

    def open(self, folder: str, batch: int, workers: int) -> Any:
        """An object that answers without TensorFlow: `generate(inputs)`, `faults(inputs)` as (index, message) of those
        that it does not answer, and `source.spec`, the spec of its source.

        Raises:
            UserError: this format is not asked so, or the folder is damaged.
        """
        raise NotImplementedError


def formats() -> dict[str, Format]:
    """Every format, by its name: those of this package, and subclasses of `Format` that other packages define."""
    for module in pkgutil.iter_modules(tfseq2seq.export.__path__):
        if module.name.endswith("_format"):
            importlib.import_module(f"tfseq2seq.export.{module.name}")
    found = [kind() for kind in Format.__subclasses__() if kind.name]
    # SavedModel first: it is the default.
    return {one.name: one for one in sorted(found, key=lambda one: (bool(one.suffix), one.name))}


def format_of(folder: str | Path) -> Format:
    """The format of an exported model.

    Raises:
        UserError: there is none in the folder.
    """
    for one in formats().values():
        if (Path(folder) / one.marker).exists():
            return one
    markers = ", ".join(f"{one.marker} ({one.name})" for one in formats().values())
    raise UserError(
        f"{folder}: holds no exported model: none of {markers} is there; name the folder of a version, as "
        "saved_models/<name>/1, or that of another export"
    )


def check_inputs(folder: Path, model: Any, inputs: Sequence[str]) -> None:
    """Refuses an exported model that takes other inputs than a predictor's source has.

    Raises:
        UserError: the inputs have other names.
    """
    expected = model.source.config()["inputs"]
    if list(inputs) not in (expected, [spec.name for spec in model.signature]):
        raise UserError(
            f"{folder}: takes {' and '.join(inputs)}, and the run's model {' and '.join(expected)}: it was "
            "exported from another kind of model"
        )
