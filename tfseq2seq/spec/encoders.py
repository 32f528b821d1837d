"""Encoders: one spec for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, setting
from tfseq2seq.spec.blocks import Cell, Positions, TransformerSpec, check_heads, check_kv_heads


class EncoderBase(Spec):
    """What all encoders answer."""

    @property
    def streams(self) -> bool:
        """Whether its output for a position depends on a bounded part of the positions after it."""
        return False

    def memory_width(self, width: int) -> int:
        """Width of the encoder's output in a model of the given width."""
        raise NotImplementedError

    def check_width(self, width: int) -> None:
        """Raises `SpecError` where a model of this width cannot have this encoder."""


@dataclass(frozen=True)
class TransformerEncoderSpec(TransformerSpec, EncoderBase):
    """Transformer encoder."""

    def memory_width(self, width: int) -> int:
        return width


@dataclass(frozen=True)
class RecurrentEncoderSpec(EncoderBase):
    """A stack of recurrent layers (Hochreiter & Schmidhuber 1997, Cho et al. 2014)."""

    kind: Literal["recurrent"] = setting("recurrent", "names this encoder")
    cell: Cell = setting("lstm", "recurrent cell")
    layers: int = setting(2, "layers", low=1)
    units: int = setting(256, "units of each direction", low=1)
    bidirectional: bool = setting(True, "read in both directions")
    dropout: float = setting(0.2, "dropout on embeddings and between layers", low=0, high=0.99)

    def memory_width(self, width: int) -> int:
        return self.units * (2 if self.bidirectional else 1)


@dataclass(frozen=True)
class ConvolutionEncoderSpec(EncoderBase):
    """Residual gated convolutions with learned positions (Gehring et al. 2017), and average pooling at the end."""

    kind: Literal["convolution"] = setting("convolution", "names this encoder")
    layers: int = setting(6, "gated convolutions", low=1)
    filters: int = setting(256, "channels of each convolution", low=1)
    kernel: int = setting(3, "positions under each convolution; odd", low=1)
    pooling: int = setting(1, "neighboring positions averaged into one at the end (1: none)", low=1)
    max_positions: int = setting(1024, "longest input the learned positions cover", low=1)
    dropout: float = setting(0.2, "dropout before each convolution", low=0, high=0.99)

    def check(self) -> None:
        if self.kernel % 2 == 0:
            raise SpecError(
                "kernel", f"{self.kernel} is even; an odd kernel keeps positions aligned, try {self.kernel + 1}"
            )

    def memory_width(self, width: int) -> int:
        return self.filters


@dataclass(frozen=True)
class ConformerEncoderSpec(EncoderBase):
    """Convolution-augmented Transformer (Gulati et al. 2020). The width is `model.width`.

    With `chunk` it can stream: a frame sees its own chunk and `left_chunks` before it, and convolutions look back only.
    """

    kind: Literal["conformer"] = setting("conformer", "names this encoder")
    layers: int = setting(8, "blocks", low=1)
    heads: int = setting(4, "attention heads; the width is divisible by it", low=1)
    kv_heads: int = setting(0, "key and value heads, grouped-query attention (0: as many as heads)", low=0)
    ffn: int = setting(1024, "inner width of each of the two feed-forward parts", low=1)
    kernel: int = setting(15, "frames under the convolution of each block; odd", low=1)
    positions: Positions = setting("relative", "how positions enter")
    max_positions: int = setting(1024, "longest input learned positions cover", low=1)
    relative_distance: int = setting(64, "relative positions are told apart up to this distance", low=1)
    dropout: float = setting(0.1, "dropout on the input and on each part's output", low=0, high=0.99)
    attention_dropout: float = setting(0.0, "dropout on attention weights", low=0, high=0.99)
    ffn_dropout: float = setting(0.1, "dropout inside the feed-forward parts", low=0, high=0.99)
    chunk: int = setting(0, "for streaming: frames that are heard together, after subsampling (0: all)", low=0)
    left_chunks: int = setting(4, "for streaming: earlier chunks a frame sees", low=0)

    def check(self) -> None:
        if self.kernel % 2 == 0:
            raise SpecError("kernel", f"{self.kernel} is even, try {self.kernel + 1}")
        check_kv_heads(self.heads, self.kv_heads)
        if self.chunk and self.positions in ("sinusoidal", "learned"):
            raise SpecError(
                "positions",
                f"a stream has no end, and {self.positions} positions have; choose rotary, relative or none",
            )

    @property
    def streams(self) -> bool:
        return self.chunk > 0

    def check_width(self, width: int) -> None:
        check_heads(self.heads, self.kv_heads, width, self.positions)

    def memory_width(self, width: int) -> int:
        return width


@dataclass(frozen=True)
class PyramidEncoderSpec(EncoderBase):
    """Pyramidal bidirectional recurrent layers, the listener of Listen, Attend and Spell (Chan et al. 2016)."""

    kind: Literal["pyramid"] = setting("pyramid", "names this encoder")
    cell: Cell = setting("lstm", "recurrent cell")
    layers: int = setting(3, "recurrent layers", low=1)
    joins: int = setting(2, "so many of the upper layers read two neighboring positions as one", low=0)
    units: int = setting(256, "units of each direction", low=1)
    dropout: float = setting(0.2, "dropout on the input and between layers", low=0, high=0.99)

    def check(self) -> None:
        if self.joins >= self.layers:
            raise SpecError("joins", f"{self.joins} is not below layers ({self.layers}); the first layer joins nothing")

    def memory_width(self, width: int) -> int:
        return 2 * self.units


EncoderSpec = (
    TransformerEncoderSpec | RecurrentEncoderSpec | ConvolutionEncoderSpec | ConformerEncoderSpec | PyramidEncoderSpec
)
