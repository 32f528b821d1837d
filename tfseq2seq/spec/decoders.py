"""Decoders: one spec for each kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tfseq2seq.spec.base import Spec, SpecError, setting
from tfseq2seq.spec.blocks import Cell, Scores, TransformerSpec


def copy_setting(attention: str) -> Any:
    """Returns the field for copying by an attention of this description."""
    return setting(
        False,
        "let outputs copy words of the source, also those that the vocabulary lacks (pointer-generator, See et al. "
        f"2017), by {attention}",
        needs=("vocabulary", "attention"),
    )


class DecoderBase(Spec):
    """Base class of all decoder specs."""

    @property
    def position_limit(self) -> int:
        """The number of output positions that it can tell apart; 0 for any number."""
        return 0

    @property
    def copies(self) -> bool:
        """Whether outputs can be tokens of the source (`copy`)."""
        return False

    def check_width(self, width: int) -> None:
        """Raises `SpecError` if a model of this width cannot have this decoder."""

    def check_memory(self, memory_width: int) -> None:
        """Raises `SpecError` if the decoder cannot read an encoder output of this width."""

    def check_without_memory(self) -> None:
        """Raises `SpecError` if the decoder needs the output of an encoder."""


class AutoregressiveDecoderBase(DecoderBase):
    """Base class of decoders that generate one token at a time from the previous tokens, until <eos>."""

    provides: ClassVar[Any] = frozenset({"autoregressive"})


@dataclass(frozen=True)
class TransformerDecoderSpec(TransformerSpec, AutoregressiveDecoderBase):
    """Transformer decoder."""

    provides: ClassVar[frozenset[str]] = frozenset({"autoregressive", "attention", "blocks"})

    copy: bool = copy_setting("the first head of the cross-attention in the last block (Gehrmann et al. 2018)")
    alignment_heads: tuple[str, ...] = setting(
        (),
        "heads whose mean is the attention that is shown and that words get their times from, such as 2.0 for the "
        "first head of the third block; empty for all heads of the last block",
    )

    def check(self) -> None:
        super().check()
        for number, name in enumerate(self.alignment_heads):
            found = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", name)
            if not found or int(found[1]) >= self.layers or int(found[2]) >= self.heads:
                raise SpecError(
                    f"alignment_heads[{number}]",
                    f"must be a block below {self.layers} and a head below {self.heads} with a point between them, got "
                    f"{name!r}",
                )
        if self.alignment_heads and self.copy:
            raise SpecError("alignment_heads", "must be empty with copy, whose attention is that of one head")

    @property
    def aligned(self) -> tuple[tuple[int, int], ...]:
        """The block and the head of each of `alignment_heads`."""
        pairs = (name.split(".") for name in self.alignment_heads)
        return tuple((int(block), int(head)) for block, head in pairs)

    @property
    def copies(self) -> bool:
        return self.copy


@dataclass(frozen=True)
class RecurrentDecoderSpec(AutoregressiveDecoderBase):
    """A stack of recurrent layers with attention, or with a fixed context vector (Sutskever et al. 2014)."""

    kind: Literal["recurrent"] = setting("recurrent", "kind of decoder")
    cell: Cell = setting("lstm", "recurrent cell")
    layers: int = setting(2, "number of layers", low=1)
    units: int = setting(256, "number of units in each layer", low=1)
    attention: Scores = setting(
        "additive",
        "attention score: additive as in Bahdanau et al. 2015; dot, general and scaled as in Luong et al. 2015; "
        "location as in Chorowski et al. 2015; none for a fixed context vector",
    )
    attention_units: int = setting(256, "inner width of additive and location attention", low=1)
    location_filters: int = setting(
        10, "number of filters over the previous attention weights, for location attention", low=1
    )
    location_kernel: int = setting(15, "size of these filters in source positions; must be odd", low=1)
    input_feeding: bool = setting(True, "feed the attentional vector into the next step (Luong et al. 2015)")
    bridge: Literal["tanh", "zero"] = setting("tanh", "initial state: tanh layer over the encoder summary, or zeros")
    coverage: bool = setting(
        False, "add the sum of past attention weights to additive or location scores (See et al. 2017)"
    )
    coverage_loss: float = setting(1.0, "weight of the coverage loss; used only with coverage", low=0)
    dropout: float = setting(
        0.2, "dropout rate on embeddings, between layers and before the output layer", low=0, high=0.99
    )
    copy: bool = copy_setting("the attention")

    def check(self) -> None:
        if self.coverage and self.attention not in ("additive", "location"):
            raise SpecError(
                "coverage", f"must be false unless attention is additive or location, got attention {self.attention}"
            )
        if self.location_kernel % 2 == 0:
            raise SpecError(
                "location_kernel", f"must be odd, got {self.location_kernel}; try {self.location_kernel + 1}"
            )

    @property
    def copies(self) -> bool:
        return self.copy

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        attends = {"attention"} if self.attention != "none" else set()
        return frozenset({"autoregressive", *attends})

    def check_memory(self, memory_width: int) -> None:
        if self.attention in ("dot", "scaled") and self.units != memory_width:
            raise SpecError(
                "units",
                f"must be the width of the encoder output ({memory_width}) for {self.attention} attention, got "
                f"{self.units}; attention general takes any number",
            )

    def check_without_memory(self) -> None:
        if self.attention != "none":
            raise SpecError("attention", f"must be none, as there is no source to attend to, got {self.attention}")


@dataclass(frozen=True)
class CTCDecoderSpec(DecoderBase):
    """CTC: an output layer that predicts a token or the blank for each encoder position (Graves et al. 2006)."""

    provides: ClassVar[frozenset[str]] = frozenset({"ctc"})
    kind_needs: ClassVar[tuple[str, ...]] = ("audio",)

    kind: Literal["ctc"] = setting("ctc", "kind of decoder")
    dropout: float = setting(0.1, "dropout rate before the output layer", low=0, high=0.99)


@dataclass(frozen=True)
class TransducerDecoderSpec(DecoderBase):
    """RNN transducer (Graves 2012): a prediction network over past tokens, and a joint network with the encoder."""

    kind_needs: ClassVar[tuple[str, ...]] = ("audio",)

    kind: Literal["transducer"] = setting("transducer", "kind of decoder")
    cell: Cell = setting("lstm", "recurrent cell of the prediction network")
    layers: int = setting(1, "number of layers in the prediction network", low=1)
    units: int = setting(256, "number of units in each layer of the prediction network", low=1)
    joint: int = setting(256, "inner width of the joint network", low=1)
    dropout: float = setting(
        0.2, "dropout rate on embeddings and on the output of the prediction network", low=0, high=0.99
    )


DecoderSpec = TransformerDecoderSpec | RecurrentDecoderSpec | CTCDecoderSpec | TransducerDecoderSpec
