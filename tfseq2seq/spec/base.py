"""What all specs are made of: fields with help and range, and the error of a value that cannot work."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tfseq2seq.errors import UserError

PAD, UNK, BOS, EOS = 0, 1, 2, 3
# What CTC and transducers say where they say no token; no transcript holds <pad>.
BLANK = PAD
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>")


def setting(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field with its line of help and, for numbers, the closed range of what is accepted."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


def group(kind: type, help: str) -> Any:
    """A dataclass field holding a nested spec, `kind()` by default."""
    return dataclasses.field(default_factory=kind, metadata={"help": help})


class SpecError(UserError):
    """A recipe value that cannot work. `key` is relative to the spec that raised it; readers prefix their own path."""

    def __init__(self, key: str, reason: str):
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


class Spec:
    """Base of all specs: checks that numbers are finite and within the ranges given in `setting`."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, low, high = getattr(self, field.name), field.metadata.get("low"), field.metadata.get("high")
            if isinstance(value, float) and not math.isfinite(value):
                raise SpecError(field.name, f"{value} is no number to work with")
            if low is not None and value < low:
                raise SpecError(field.name, f"{value} is too small, the least is {low}")
            if high is not None and value > high:
                raise SpecError(field.name, f"{value} is too large, the most is {high}")
        self.check()

    def check(self) -> None:
        """Checks between fields; overridden where there are any."""
