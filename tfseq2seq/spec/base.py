"""The base of all specs: fields with a help text, a range and needs, and the error for an invalid value."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from tfseq2seq.errors import UserError

T = TypeVar("T")

PAD, UNK, BOS, EOS = 0, 1, 2, 3
# CTC and transducers emit the blank where they emit no token. It can have the id of <pad>, as no transcript has <pad>.
BLANK = PAD
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>")

# TensorFlow has no larger integers.
_TOO_LARGE = 2**63
# Models compute in float32, where larger numbers are infinite.
_LARGEST_FLOAT = 3.4e38

# The needs that a setting or a kind can have. The kinds in a recipe fulfill them (`Spec.provides`).
NEEDS = {
    "source": "a source; source.kind is none",
    "vocabulary": "source text (source.kind text)",
    "pairs": "pairs of texts (source.kind text)",
    "records": "a source that records hold (source.kind text or audio)",
    "audio": "recordings (source.kind audio)",
    "image": "pictures (source.kind image)",
    "dialogue": "dialogues (source.kind dialogue)",
    "manifest": "a source that a manifest lists (source.kind audio or image)",
    "prompts": "a language model (source.kind none)",
    "token batches": "examples measured in tokens (source.kind text or none)",
    "autoregressive": "a decoder that writes token by token (model.decoder.kind transformer or recurrent)",
    "blocks": "an encoder or decoder made of blocks (of kind transformer, conformer or convolution)",
    "attention": "a decoder that attends to the source",
    "two outputs": "a CTC output beside an attention decoder (model.ctc_weight above 0)",
}


def setting(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    needs: str | tuple[str, ...] = (),
    refused: Mapping[str, str] | None = None,
) -> Any:
    """Returns a dataclass field for a spec.

    Args:
        default: the value if a recipe does not set the field.
        help: one line of help for users.
        low, high: the closed range of valid numbers.
        needs: keys of `NEEDS`. If one of them is missing, the field has no effect, and only the default is valid.
        refused: choices that users may expect, with the reason why there is no such choice.
    """
    return dataclasses.field(
        default=default,
        metadata={"help": help, "low": low, "high": high, "needs": _names(needs), "refused": refused or {}},
    )


def group(kind: type, help: str, needs: str | tuple[str, ...] = ()) -> Any:
    """Returns a dataclass field for a nested spec. The default is `kind()`; `needs` is as in `setting`."""
    return dataclasses.field(default_factory=kind, metadata={"help": help, "needs": _names(needs)})


def _names(needs: str | tuple[str, ...]) -> tuple[str, ...]:
    return (needs,) if isinstance(needs, str) else needs


class SpecError(UserError):
    """A recipe has an invalid value. `key` is relative to the spec that raises the error; callers prefix their path."""

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
    """Base class of all specs. It checks that numbers are finite and within the ranges given in `setting`.

    Attributes:
        provides: keys of `NEEDS` that a recipe with this spec fulfills.
        kind_needs: keys of `NEEDS` without which this kind cannot be used at all.
    """

    provides: ClassVar[Any] = frozenset()
    kind_needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, low, high = getattr(self, field.name), field.metadata.get("low"), field.metadata.get("high")
            # The range of a list applies to each of its entries.
            for index, entry in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
                key = field.name if index is None else f"{field.name}[{index}]"
                if isinstance(entry, float) and not math.isfinite(entry):
                    raise SpecError(key, f"must be a finite number, got {entry}")
                if isinstance(entry, float) and abs(entry) > _LARGEST_FLOAT:
                    raise SpecError(key, f"must be at most {_LARGEST_FLOAT:g} in size, as a float32, got {entry:g}")
                if isinstance(entry, int) and abs(entry) >= _TOO_LARGE:
                    raise SpecError(key, f"must be below 2^63, got a number of {entry.bit_length()} bits")
                if low is not None and entry < low:
                    raise SpecError(key, f"must be at least {low:g}, got {entry}")
                if high is not None and entry > high:
                    raise SpecError(key, f"must be at most {high:g}, got {entry}")
        self.check()
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            for entry in value if isinstance(value, tuple) else [value]:
                if isinstance(entry, str):
                    _check_text(field.name, entry)

    def check(self) -> None:
        """Checks values of several fields together. Subclasses override it.

        Raises:
            SpecError: the values do not go together.
        """


def _check_text(key: str, text: str) -> None:
    """Raises `SpecError` for text that no file name, token or message can have."""
    odd = next((letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs")), "")
    if odd:
        kind = "lone surrogates" if "\ud800" <= odd <= "\udfff" else "control characters"
        raise SpecError(key, f"must not have {kind}, got {ascii(text)[:100]}")


def register_kind(kind: type) -> type:
    """Registers a kind of source, encoder or decoder from another package, so that recipes can use it.

    The class must derive from `SourceBase`, `EncoderBase` or the base class of a decoder family. Its first field must
    be `kind: Literal["name"]`.
    """
    if kind not in REGISTERED:
        REGISTERED.append(kind)
    return kind


REGISTERED: list[type] = []


def lookup(registry: Mapping[type, T], spec: Any) -> T:
    """Returns the entry of a registry for the class of a spec, or for its nearest base class, such as its family.

    Raises:
        KeyError: the registry has no entry for any of these classes.
    """
    for kind in type(spec).__mro__:
        if kind in registry:
            return registry[kind]
    raise KeyError(f"nothing is registered for {type(spec).__name__}")


def check_needs(spec: Spec, provided: frozenset[str]) -> None:
    """Checks that each setting that differs from its default has an effect.

    Args:
        spec: the spec to check, with its nested specs.
        provided: keys of `NEEDS` that the recipe fulfills.

    Raises:
        SpecError: a kind or a setting has a need that the recipe does not fulfill.
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
    """Returns the default value of a dataclass field. A nested spec is created anew."""
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc, operator]
