"""Decoders: one spec for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tfseq2seq.spec.base import Spec, SpecError, setting
from tfseq2seq.spec.blocks import Cell, Scores, TransformerSpec


class DecoderBase(Spec):
    """What all decoders answer."""

    def check_width(self, width: int) -> None:
        """Raises `SpecError` where a model of this width cannot have this decoder."""

    def check_memory(self, memory_width: int) -> None:
        """Raises `SpecError` where the decoder cannot read an encoder's output of this width."""

    def check_without_memory(self) -> None:
        """Raises `SpecError` where the decoder cannot do without an encoder's output."""


class AutoregressiveDecoderBase(DecoderBase):
    """Decoders that write token by token, each given the ones before, until they write <eos>."""

    provides: ClassVar[Any] = frozenset({"autoregressive"})


@dataclass(frozen=True)
class TransformerDecoderSpec(TransformerSpec, AutoregressiveDecoderBase):
    """Transformer decoder."""

    provides: ClassVar[frozenset[str]] = frozenset({"autoregressive", "attention"})


@dataclass(frozen=True)
class RecurrentDecoderSpec(AutoregressiveDecoderBase):
    """A stack of recurrent layers with attention, or with a fixed context vector (Sutskever et al. 2014)."""

    kind: Literal["recurrent"] = setting("recurrent", "names this decoder")
    cell: Cell = setting("lstm", "recurrent cell")
    layers: int = setting(2, "layers", low=1)
    units: int = setting(256, "units of each layer", low=1)
    attention: Scores = setting(
        "additive",
        "none: fixed context vector; additive: Bahdanau et al. 2015; dot, general, scaled: Luong et al. 2015; "
        "location: Chorowski et al. 2015",
    )
    attention_units: int = setting(256, "inner width of additive and location attention", low=1)
    location_filters: int = setting(10, "filters over the last alignment, for location attention", low=1)
    location_kernel: int = setting(15, "positions under each of those filters; odd", low=1)
    input_feeding: bool = setting(True, "the attentional vector joins the next input (Luong et al. 2015)")
    bridge: Literal["tanh", "zero"] = setting("tanh", "first state: tanh layer over the encoder's summary, or zeros")
    coverage: bool = setting(False, "sum of past attention enters the score (See et al. 2017); additive or location")
    coverage_loss: float = setting(1.0, "weight of the coverage loss, where coverage is on", low=0)
    dropout: float = setting(0.2, "dropout on embeddings, between layers and before the output", low=0, high=0.99)

    def check(self) -> None:
        if self.coverage and self.attention not in ("additive", "location"):
            raise SpecError("coverage", f"needs attention additive or location, not {self.attention}")
        if self.location_kernel % 2 == 0:
            raise SpecError(
                "location_kernel", f"must be odd, got {self.location_kernel}; try {self.location_kernel + 1}"
            )

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        attends = {"attention"} if self.attention != "none" else set()
        return frozenset({"autoregressive", *attends})

    def check_memory(self, memory_width: int) -> None:
        if self.attention in ("dot", "scaled") and self.units != memory_width:
            raise SpecError(
                "units",
                f"{self.attention} attention needs as many units as the encoder's output is wide ({memory_width}), got "
                f"{self.units}; attention general takes any number",
            )

    def check_without_memory(self) -> None:
        if self.attention != "none":
            raise SpecError("attention", f"must be none, as there is no source to attend to, got {self.attention}")


@dataclass(frozen=True)
class CTCDecoderSpec(DecoderBase):
    """A layer over the encoder alone: a token or blank for each of its positions (Graves et al. 2006)."""

    provides: ClassVar[frozenset[str]] = frozenset({"ctc"})
    kind_needs: ClassVar[tuple[str, ...]] = ("audio",)

    kind: Literal["ctc"] = setting("ctc", "names this decoder")
    dropout: float = setting(0.1, "dropout before the output layer", low=0, high=0.99)


@dataclass(frozen=True)
class TransducerDecoderSpec(DecoderBase):
    """RNN transducer (Graves 2012): a recurrent network over past tokens, joined with each encoder position."""

    kind_needs: ClassVar[tuple[str, ...]] = ("audio",)

    kind: Literal["transducer"] = setting("transducer", "names this decoder")
    cell: Cell = setting("lstm", "recurrent cell of the prediction network")
    layers: int = setting(1, "layers of the prediction network", low=1)
    units: int = setting(256, "units of each of them", low=1)
    joint: int = setting(256, "width in which both networks are joined", low=1)
    dropout: float = setting(0.2, "dropout on embeddings and on the prediction network's output", low=0, high=0.99)


DecoderSpec = TransformerDecoderSpec | RecurrentDecoderSpec | CTCDecoderSpec | TransducerDecoderSpec
