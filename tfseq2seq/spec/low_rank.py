"""Settings of low-rank adapters."""

from __future__ import annotations

from dataclasses import dataclass

from tfseq2seq.spec.base import Spec, SpecError, setting


@dataclass(frozen=True)
class LoraSpec(Spec):
    """Low-rank adaptation (Hu et al. 2022): a product of two small matrices is learned for each weight matrix.

    A matrix W [D, N] becomes W + alpha / rank * A B, with A [D, rank] and B [rank, N]. W stays as it is. Where a matrix
    packs several projections, such as those of queries, keys and values, each of these has an A of its own.
    """

    rank: int = setting(0, "rank of the adapters (0: no adapters)", low=0)
    alpha: float = setting(0.0, "the product of the two matrices is multiplied by alpha / rank (0: by 1)", low=0)
    layers: tuple[str, ...] = setting(
        ("*attention*",),
        "patterns of the paths of the layers that have adapters, as for freeze",
    )

    def check(self) -> None:
        for name in ("alpha", "layers"):
            if not self.rank and getattr(self, name) != getattr(type(self), name):
                raise SpecError(name, "needs a rank of at least 1")
        if not self.layers:
            raise SpecError("layers", "must have a pattern, got none")

    @property
    def scale(self) -> float:
        """What the product of the two matrices is multiplied by."""
        return self.alpha / self.rank if self.alpha else 1.0
