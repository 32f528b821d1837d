"""Settings that encoders and decoders share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, setting

Cell = Literal["simple", "lstm", "gru"]
Scores = Literal["none", "additive", "dot", "general", "scaled", "location"]
Positions = Literal["sinusoidal", "learned", "rotary", "relative", "none"]
TransformerPositions = Literal["sinusoidal", "learned", "rotary", "relative", "bucketed", "none"]
# How much of a pretrained part is trained: nothing, all, or low-rank adapters alone.
Tuning = Literal["false", "true", "lora"]


@dataclass(frozen=True)
class TransformerSpec(Spec):
    """Settings that the Transformer encoder and decoder share (Vaswani et al. 2017). The width is `model.width`."""

    kind: Literal["transformer"] = setting("transformer", "kind of encoder or decoder")
    layers: int = setting(6, "number of blocks", low=1)
    heads: int = setting(8, "number of attention heads; must divide model.width unless head_width is set", low=1)
    head_width: int = setting(0, "width of an attention head (0: model.width / heads)", low=0)
    kv_heads: int = setting(
        0, "number of key and value heads in grouped-query attention; must divide heads (0: same as heads)", low=0
    )
    ffn: int = setting(2048, "inner width of the feed-forward layers", low=1)
    norm: Literal["pre", "post"] = setting("pre", "layer normalization before or after each sublayer")
    norm_epsilon: float = setting(
        1e-6, "number that layer normalization adds to variances; other toolkits have 1e-5", low=1e-12, high=0.1
    )
    norm_kind: Literal["layer", "rms"] = setting(
        "layer", "layer normalization, or rms: division by the root mean square alone (Zhang & Sennrich 2019)"
    )
    embedding_scale: bool = setting(True, "multiply embeddings by the square root of model.width")
    embedding_norm: bool = setting(False, "layer normalization of embeddings with positions, as in BART")
    activation: Literal["relu", "gelu", "silu", "swiglu", "geglu"] = setting(
        "relu",
        "activation of the feed-forward layers; swiglu and geglu are gated (Shazeer 2020), geglu with the tanh "
        "approximation of GELU, as in T5",
    )
    positions: TransformerPositions = setting(
        "sinusoidal",
        "position encoding; bucketed is T5's bias of attention scores by distance (Raffel et al. 2020)",
    )
    max_positions: int = setting(1024, "number of learned positions; inputs and outputs have no more", low=1)
    relative_distance: int = setting(
        16, "largest distance of relative and bucketed positions; larger ones are clipped", low=1
    )
    position_buckets: int = setting(32, "number of buckets of distances, for bucketed positions", low=4)
    dropout: float = setting(0.1, "dropout rate on embeddings and sublayer outputs", low=0, high=0.99)
    attention_dropout: float = setting(0.0, "dropout rate on attention weights", low=0, high=0.99)
    ffn_dropout: float = setting(0.0, "dropout rate inside the feed-forward layers", low=0, high=0.99)

    def check(self) -> None:
        check_kv_heads(self.heads, self.kv_heads)
        if self.positions != "bucketed":
            return
        if self.position_buckets % 4:
            raise SpecError("position_buckets", f"must be a multiple of 4, got {self.position_buckets}")
        if self.relative_distance <= self.position_buckets // 2:
            raise SpecError(
                "relative_distance",
                f"must be above half of position_buckets ({self.position_buckets // 2}) with bucketed positions, got "
                f"{self.relative_distance}; T5 has 128",
            )

    @property
    def position_limit(self) -> int:
        """The number of positions that it can tell apart; 0 for any number."""
        return self.max_positions if self.positions == "learned" else 0

    def check_width(self, width: int) -> None:
        """Raises `SpecError` if a model of this width cannot have these heads."""
        if not self.head_width:
            check_heads(self.heads, self.kv_heads, width, self.positions)
        elif self.positions == "rotary" and self.head_width % 2:
            raise SpecError("head_width", f"must be even for rotary positions, got {self.head_width}")


def check_kv_heads(heads: int, kv_heads: int) -> None:
    """Raises `SpecError` if the number of key and value heads does not divide the number of heads."""
    if kv_heads and heads % kv_heads:
        raise SpecError("kv_heads", f"must divide heads ({heads}), got {kv_heads}")


def check_heads(heads: int, kv_heads: int, width: int, positions: str) -> None:
    """Raises `SpecError` if a width cannot be split into attention heads. The message has the nearest valid number."""
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
        "heads",
        f"must give an even width per head for rotary positions, got {width // heads} (model.width {width}, "
        f"{heads} heads); {advice}",
    )
