"""What all specs are made of: fields with help, range and needs, and the error of a value that cannot work."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from tfseq2seq.errors import UserError

T = TypeVar("T")

PAD, UNK, BOS, EOS = 0, 1, 2, 3
# CTC and transducers emit it where they emit no token; no transcript holds <pad>.
BLANK = PAD
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>")

# What a setting or a kind can need. The kinds of a recipe provide them (`Spec.provides`).
NEEDS = {
    "source": "a source; source.kind is none",
    "vocabulary": "source text (source.kind text)",
    "audio": "recordings (source.kind audio)",
    "manifest": "a source that a manifest lists (source.kind audio)",
    "token batches": "examples measured in tokens (source.kind text or none)",
    "autoregressive": "a decoder that writes token by token (model.decoder.kind transformer or recurrent)",
    "attention": "a decoder that attends to the source",
    "two outputs": "a CTC output beside an attention decoder (model.ctc_weight above 0)",
}


def setting(
    default: Any, help: str, low: float | None = None, high: float | None = None, needs: str | tuple[str, ...] = ()
) -> Any:
    """A dataclass field of a spec.

    Args:
        default: its value where a recipe does not give one.
        help: one line for people.
        low, high: the closed range of numbers that are accepted.
        needs: keys of `NEEDS` without which any value but the default is refused, as it would have no effect.
    """
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high, "needs": _names(needs)})


def group(kind: type, help: str, needs: str | tuple[str, ...] = ()) -> Any:
    """A dataclass field that holds a nested spec, `kind()` by default; `needs` as in `setting`."""
    return dataclasses.field(default_factory=kind, metadata={"help": help, "needs": _names(needs)})


def _names(needs: str | tuple[str, ...]) -> tuple[str, ...]:
    return (needs,) if isinstance(needs, str) else needs


class SpecError(UserError):
    """A recipe value that cannot work. `key` is relative to the spec that raised it; readers prefix their own path."""

    def __init__(self, key: str, reason: str):
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


@contextlib.contextmanager
def prefixed(path: str) -> Iterator[None]:
    """Puts `path` before the key of a `SpecError` raised inside."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{path}.{error.key}", error.reason) from None


class Spec:
    """Base of all specs: checks that numbers are finite and within the ranges given in `setting`.

    Attributes:
        provides: keys of `NEEDS` that a recipe with this spec fulfills.
        kind_needs: keys of `NEEDS` that this kind as a whole has.
    """

    provides: ClassVar[Any] = frozenset()
    kind_needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, low, high = getattr(self, field.name), field.metadata.get("low"), field.metadata.get("high")
            # A list is checked entry by entry.
            for index, entry in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
                key = field.name if index is None else f"{field.name}[{index}]"
                if isinstance(entry, float) and not math.isfinite(entry):
                    raise SpecError(key, f"must be a finite number, got {entry}")
                if low is not None and entry < low:
                    raise SpecError(key, f"must be at least {low:g}, got {entry}")
                if high is not None and entry > high:
                    raise SpecError(key, f"must be at most {high:g}, got {entry}")
        self.check()

    def check(self) -> None:
        """Checks between fields; overridden where there are any."""


def register_kind(kind: type) -> type:
    """Adds a kind of source, encoder or decoder of another package, so that recipes can name it.

    The class derives from `SourceBase`, `EncoderBase` or a decoder family; `kind: Literal["name"]` is its first field.
    """
    if kind not in REGISTERED:
        REGISTERED.append(kind)
    return kind


REGISTERED: list[type] = []


def lookup(registry: Mapping[type, T], spec: Any) -> T:
    """What a registry holds for a spec: of its class, or of the nearest class above it, such as its family.

    Raises:
        KeyError: there is nothing.
    """
    for kind in type(spec).__mro__:
        if kind in registry:
            return registry[kind]
    raise KeyError(f"nothing is registered for {type(spec).__name__}")


def check_needs(spec: Spec, provided: frozenset[str]) -> None:
    """Refuses settings that would have no effect.

    Raises:
        SpecError: a value differs from its default, and what it needs is not provided.
    """
    for need in spec.kind_needs:
        if need not in provided:
            raise SpecError("kind", f"{spec.kind} needs {NEEDS[need]}")  # type: ignore[attr-defined]
    for field in dataclasses.fields(spec):  # type: ignore[arg-type]
        value = getattr(spec, field.name)
        missing = [need for need in field.metadata.get("needs", ()) if need not in provided]
        if missing and value != default_of(field):
            raise SpecError(field.name, f"needs {NEEDS[missing[0]]}")
        if isinstance(value, Spec) and not missing:
            with prefixed(field.name):
                check_needs(value, provided)


def default_of(field: dataclasses.Field) -> Any:
    """The default value of a dataclass field, made anew where it is a nested spec."""
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc, operator]
