"""Encoders: one spec for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tfseq2seq.spec.base import Spec, SpecError, setting
from tfseq2seq.spec.blocks import Cell, Positions, TransformerSpec, Tuning, check_heads, check_kv_heads


class EncoderBase(Spec):
    """Base class of all encoder specs.

    Attributes:
        embeds_tokens: whether the encoder reads token ids and has embeddings of its own.
    """

    embeds_tokens: ClassVar[bool] = False

    def check_recipe(self, recipe: Any) -> None:
        """Raises `SpecError` if other settings of the recipe do not fit this encoder. Its key starts at the recipe."""

    @property
    def streams(self) -> bool:
        """Whether the encoder can stream: its output at a position needs only a limited number of later positions."""
        return False

    @property
    def position_limit(self) -> int:
        """The number of positions that it can tell apart; 0 for any number."""
        return 0

    @property
    def stride(self) -> int:
        """The number of neighboring positions that become one in the output."""
        return 1

    def memory_width(self, width: int) -> int:
        """Returns the width of the encoder output in a model of the given width."""
        raise NotImplementedError

    def check_width(self, width: int) -> None:
        """Raises `SpecError` if a model of this width cannot have this encoder."""


@dataclass(frozen=True)
class TransformerEncoderSpec(TransformerSpec, EncoderBase):
    """Transformer encoder.

    With `attention_window` memory and time grow with the length of the input, and not with its square (Beltagy et al.
    2020).
    """

    provides: ClassVar[frozenset[str]] = frozenset({"blocks"})

    attention_window: int = setting(
        0, "number of positions on each side that a position attends to, for long inputs (0: all positions)", low=0
    )
    global_positions: int = setting(
        0, "with attention_window: number of first positions that attend to all and that all attend to", low=0
    )

    def check(self) -> None:
        super().check()
        if self.global_positions and not self.attention_window:
            raise SpecError(
                "global_positions",
                f"must be 0 without attention_window, as all positions attend to all, got {self.global_positions}",
            )
        if self.attention_window and self.positions in ("relative", "bucketed"):
            raise SpecError(
                "positions",
                f"must be sinusoidal, learned, rotary or none with attention_window, got {self.positions}",
            )

    def memory_width(self, width: int) -> int:
        return width


@dataclass(frozen=True)
class RecurrentEncoderSpec(EncoderBase):
    """A stack of recurrent layers (Hochreiter & Schmidhuber 1997, Cho et al. 2014)."""

    kind: Literal["recurrent"] = setting("recurrent", "kind of encoder")
    cell: Cell = setting("lstm", "recurrent cell")
    layers: int = setting(2, "number of layers", low=1)
    units: int = setting(256, "number of units per layer and direction", low=1)
    bidirectional: bool = setting(True, "read the source in both directions")
    dropout: float = setting(0.2, "dropout rate on embeddings and between layers", low=0, high=0.99)

    def memory_width(self, width: int) -> int:
        return self.units * (2 if self.bidirectional else 1)


@dataclass(frozen=True)
class ConvolutionEncoderSpec(EncoderBase):
    """Residual gated convolutions with learned positions (Gehring et al. 2017), and average pooling at the end."""

    provides: ClassVar[frozenset[str]] = frozenset({"blocks"})

    kind: Literal["convolution"] = setting("convolution", "kind of encoder")
    layers: int = setting(6, "number of gated convolutions", low=1)
    filters: int = setting(256, "number of channels in each convolution", low=1)
    kernel: int = setting(3, "kernel size of each convolution in positions; must be odd", low=1)
    pooling: int = setting(1, "number of neighboring output positions to average into one (1: no pooling)", low=1)
    max_positions: int = setting(1024, "number of learned positions; inputs have no more", low=1)
    dropout: float = setting(0.2, "dropout rate before each convolution", low=0, high=0.99)

    def check(self) -> None:
        if self.kernel % 2 == 0:
            raise SpecError("kernel", f"must be odd, got {self.kernel}; try {self.kernel + 1}")

    @property
    def position_limit(self) -> int:
        return self.max_positions

    @property
    def stride(self) -> int:
        return self.pooling

    def memory_width(self, width: int) -> int:
        return self.filters


@dataclass(frozen=True)
class ConformerEncoderSpec(EncoderBase):
    """Convolution-augmented Transformer (Gulati et al. 2020). The width is `model.width`.

    With `chunk` the encoder can stream: a frame attends to its own chunk and to `left_chunks` chunks before it, and
    the convolutions are causal.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"blocks"})

    kind: Literal["conformer"] = setting("conformer", "kind of encoder")
    layers: int = setting(8, "number of blocks", low=1)
    heads: int = setting(4, "number of attention heads; must divide model.width", low=1)
    kv_heads: int = setting(
        0, "number of key and value heads in grouped-query attention; must divide heads (0: same as heads)", low=0
    )
    ffn: int = setting(1024, "inner width of the two feed-forward layers in each block", low=1)
    kernel: int = setting(15, "kernel size of the convolution in frames; must be odd", low=1)
    positions: Positions = setting("relative", "position encoding")
    max_positions: int = setting(1024, "number of learned positions; inputs have no more", low=1)
    relative_distance: int = setting(64, "largest distance of relative positions; larger ones are clipped", low=1)
    dropout: float = setting(0.1, "dropout rate on the input and on sublayer outputs", low=0, high=0.99)
    attention_dropout: float = setting(0.0, "dropout rate on attention weights", low=0, high=0.99)
    ffn_dropout: float = setting(0.1, "dropout rate inside the feed-forward layers", low=0, high=0.99)
    chunk: int = setting(
        0, "chunk size for streaming, in frames after subsampling (0: no streaming; attend to all frames)", low=0
    )
    left_chunks: int = setting(4, "number of earlier chunks that a frame attends to, for streaming", low=0)

    def check(self) -> None:
        if self.kernel % 2 == 0:
            raise SpecError("kernel", f"must be odd, got {self.kernel}; try {self.kernel + 1}")
        check_kv_heads(self.heads, self.kv_heads)
        if self.chunk and self.positions in ("sinusoidal", "learned"):
            raise SpecError(
                "positions",
                f"must be rotary, relative or none with chunk, as a stream has no maximum length, got {self.positions}",
            )

    @property
    def streams(self) -> bool:
        return self.chunk > 0

    @property
    def position_limit(self) -> int:
        return self.max_positions if self.positions == "learned" else 0

    def check_width(self, width: int) -> None:
        check_heads(self.heads, self.kv_heads, width, self.positions)

    def memory_width(self, width: int) -> int:
        return width


@dataclass(frozen=True)
class PyramidEncoderSpec(EncoderBase):
    """Pyramid of bidirectional recurrent layers: the encoder of Listen, Attend and Spell (Chan et al. 2016)."""

    kind: Literal["pyramid"] = setting("pyramid", "kind of encoder")
    cell: Cell = setting("lstm", "recurrent cell")
    layers: int = setting(3, "number of recurrent layers", low=1)
    joins: int = setting(2, "number of upper layers that join two neighboring positions into one", low=0)
    units: int = setting(256, "number of units per layer and direction", low=1)
    dropout: float = setting(0.2, "dropout rate on the input and between layers", low=0, high=0.99)

    def check(self) -> None:
        if self.joins >= self.layers:
            raise SpecError(
                "joins",
                f"must be below layers ({self.layers}), as the first layer joins no positions, got {self.joins}",
            )

    @property
    def stride(self) -> int:
        return int(2**self.joins)

    def memory_width(self, width: int) -> int:
        return 2 * self.units


@dataclass(frozen=True)
class KerasHubEncoderSpec(EncoderBase):
    """A pretrained BERT (Devlin et al. 2019) of keras-hub, and a projection of its outputs to `model.width`.

    The source must be split as the preset's own tokenizer splits it: `source` has the scheme wordpiece, pretokenization
    bert, and the preset's vocabulary.
    """

    embeds_tokens: ClassVar[bool] = True
    # The preset has dropout of its own.
    dropout: ClassVar[float] = 0.0
    kind_needs: ClassVar[tuple[str, ...]] = ("vocabulary",)

    kind: Literal["keras_hub"] = setting("keras_hub", "kind of encoder")
    preset: str = setting("", "folder of keras-hub or Hugging Face with a BERT, or the name of a preset of keras-hub")
    layers: Literal["last", "all"] = setting(
        "last", "outputs to use: those of the last layer, or of all layers with learned weights (Peters et al. 2018)"
    )
    trainable: Tuning = setting(
        "false", "what of the preset is trained: false for nothing, true for all, lora for low-rank adapters"
    )
    rank: int = setting(8, "rank of the adapters, for lora (Hu et al. 2022)", low=1)
    max_positions: int = setting(512, "number of positions of the preset, with its [CLS]; inputs have no more", low=2)

    def check_recipe(self, recipe: Any) -> None:
        if self.rank != 8 and self.trainable != "lora":
            raise SpecError("model.encoder.rank", f"needs trainable lora, got trainable {self.trainable}")
        if not self.preset:
            # A recipe is complete with its data and its preset; the model cannot be built before.
            return
        if recipe.source.pretokenization != "bert" or not recipe.source.vocabulary:
            raise SpecError(
                "source.vocabulary",
                "must be that of model.encoder.preset, with source.scheme wordpiece and source.pretokenization bert, "
                f"got {recipe.source.vocabulary!r}, {recipe.source.scheme} and {recipe.source.pretokenization}",
            )
        if recipe.source.begin:
            raise SpecError("source.begin", f"must be empty with a preset, got {recipe.source.begin!r}")
        if recipe.model.decoder.copies:
            raise SpecError(
                "model.decoder.copy",
                "must be false with a preset, whose positions are not those of the source, got true",
            )
        for name, unset in (("share_embeddings", False), ("source_vectors", "")):
            if (value := getattr(recipe.model, name)) != unset:
                shown = repr(value) if isinstance(value, str) else "true"
                raise SpecError(
                    f"model.{name}", f"needs embeddings of the source, which a preset replaces, got {shown}"
                )

    @property
    def position_limit(self) -> int:
        return self.max_positions - 1

    def memory_width(self, width: int) -> int:
        return width


EncoderSpec = (
    TransformerEncoderSpec
    | RecurrentEncoderSpec
    | ConvolutionEncoderSpec
    | ConformerEncoderSpec
    | PyramidEncoderSpec
    | KerasHubEncoderSpec
)
