"""What a recipe says of series."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tfseq2seq.spec import SourceBase, register_kind, setting


@register_kind
@dataclass(frozen=True)
class SeriesSpec(SourceBase):
    """Series of numbers: a manifest is a CSV file with a label, a comma and the numbers with spaces between them."""

    provides: ClassVar[Any] = frozenset({"source", "manifest"})

    kind: Literal["series"] = setting("series", "names this kind of source")
    scale: float = setting(1.0, "numbers are divided by this", low=1e-6)
