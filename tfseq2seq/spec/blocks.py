"""What encoders and decoders share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, setting

Cell = Literal["simple", "lstm", "gru"]
Scores = Literal["none", "additive", "dot", "general", "scaled", "location"]
Positions = Literal["sinusoidal", "learned", "rotary", "relative", "none"]


@dataclass(frozen=True)
class TransformerSpec(Spec):
    """What Transformer encoder and decoder share (Vaswani et al. 2017). The width is `model.width`."""

    kind: Literal["transformer"] = setting("transformer", "names this encoder or decoder")
    layers: int = setting(6, "blocks", low=1)
    heads: int = setting(8, "attention heads; the width is divisible by it", low=1)
    kv_heads: int = setting(0, "key and value heads, grouped-query attention (0: as many as heads)", low=0)
    ffn: int = setting(2048, "inner width of the feed-forward part", low=1)
    norm: Literal["pre", "post"] = setting("pre", "layer normalization before or after each part")
    activation: Literal["relu", "gelu", "swiglu"] = setting("relu", "feed-forward activation")
    positions: Positions = setting("sinusoidal", "how positions enter")
    max_positions: int = setting(1024, "longest input learned positions cover", low=1)
    relative_distance: int = setting(16, "relative positions are told apart up to this distance", low=1)
    dropout: float = setting(0.1, "dropout on embeddings and on each part's output", low=0, high=0.99)
    attention_dropout: float = setting(0.0, "dropout on attention weights", low=0, high=0.99)
    ffn_dropout: float = setting(0.0, "dropout inside the feed-forward part", low=0, high=0.99)

    def check(self) -> None:
        check_kv_heads(self.heads, self.kv_heads)

    def check_width(self, width: int) -> None:
        """Raises `SpecError` where a model of this width cannot have these heads."""
        check_heads(self.heads, self.kv_heads, width, self.positions)


def check_kv_heads(heads: int, kv_heads: int) -> None:
    """Raises `SpecError` where key and value heads do not divide the heads."""
    if kv_heads and heads % kv_heads:
        raise SpecError("kv_heads", f"must divide heads ({heads}), got {kv_heads}")


def check_heads(heads: int, kv_heads: int, width: int, positions: str) -> None:
    """Raises `SpecError` where a width does not divide among attention heads; names the nearest number that works."""
    rotary = positions == "rotary"
    fits = [
        number
        for number in range(1, width + 1)
        if width % number == 0 and not (kv_heads and number % kv_heads) and not (rotary and (width // number) % 2)
    ]
    if heads in fits:
        return
    advice = f"try {min(fits, key=lambda number: abs(number - heads))}" if fits else "change the width"
    if width % heads:
        raise SpecError("heads", f"must divide model.width ({width}), got {heads}; {advice}")
    raise SpecError(
        "heads", f"rotary positions need an even width per head, got {width // heads} (model.width {width}); {advice}"
    )
