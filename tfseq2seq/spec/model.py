"""Any encoder with any decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, group, setting
from tfseq2seq.spec.blocks import TransformerSpec
from tfseq2seq.spec.decoders import CTCDecoderSpec, DecoderSpec, RecurrentDecoderSpec, TransformerDecoderSpec
from tfseq2seq.spec.encoders import ConformerEncoderSpec, EncoderSpec, NoEncoderSpec, TransformerEncoderSpec

Initializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"]


@dataclass(frozen=True)
class ScheduledSamplingSpec(Spec):
    """Own predictions as decoder input in training (Bengio et al. 2015).

    The Transformer goes through the target twice for them (Mihaylova & Martins 2019).
    """

    schedule: Literal["none", "constant", "linear", "exponential", "inverse_sigmoid"] = setting(
        "none", "how the share of own predictions grows over training"
    )
    share: float = setting(0.25, "share of own predictions at the end of the schedule", low=0, high=1)
    start: int = setting(0, "step at which it begins", low=0)
    steps: int = setting(10000, "steps from the beginning to the full share", low=1)


@dataclass(frozen=True)
class GuidedAttentionSpec(Spec):
    """A loss for attention far from the diagonal (Tachibana et al. 2018), for speech: text follows the recording.

    Attention without a CTC loss beside it hardly begins to learn where to listen without it.
    """

    weight: float = setting(0.0, "weight of the loss (0: off)", low=0)
    width: float = setting(0.2, "how far off the diagonal is still cheap, as a share of the whole", low=0.01)
    steps: int = setting(0, "updates over which it fades away (0: it stays)", low=0)


@dataclass(frozen=True)
class ModelSpec(Spec):
    """Any encoder with any decoder."""

    width: int = setting(256, "width of embeddings, and of Transformer blocks", low=1)
    encoder: EncoderSpec = group(
        TransformerEncoderSpec, "transformer, recurrent, convolution, conformer or pyramid; none: a language model"
    )
    decoder: DecoderSpec = group(TransformerDecoderSpec, "transformer, recurrent, ctc or transducer")
    ctc_weight: float = setting(
        0.0, "share of a CTC loss beside that of an attention decoder (Watanabe et al. 2017)", low=0, high=0.99
    )
    tie_output: bool = setting(True, "the output layer uses the target embedding's weights")
    share_embeddings: bool = setting(False, "source and target use one embedding; needs share_vocabulary")
    initializer: Initializer = setting("glorot_uniform", "how weight matrices begin")
    source_vectors: str = setting("", "word2vec or GloVe text file to start the source embedding from")
    target_vectors: str = setting("", "word2vec or GloVe text file to start the target embedding from")
    scheduled_sampling: ScheduledSamplingSpec = group(ScheduledSamplingSpec, "own predictions as input in training")
    guided_attention: GuidedAttentionSpec = group(GuidedAttentionSpec, "attention kept near the diagonal in training")

    def check(self) -> None:
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            if isinstance(part, TransformerSpec | ConformerEncoderSpec):
                self._check_heads(name, part)
        if self.guided_attention.weight and not self.has_attention:
            raise SpecError("guided_attention.weight", "is for a decoder with attention")
        if self.is_language_model:
            self._check_language_model()
            return
        if not self.attends:
            if self.ctc_weight:
                raise SpecError("ctc_weight", f"is for a decoder with attention, not for {self.decoder.kind}")
            if self.scheduled_sampling.schedule != "none":
                raise SpecError("scheduled_sampling.schedule", f"{self.decoder.kind} reads no past output to sample")
        if isinstance(self.decoder, RecurrentDecoderSpec) and self.decoder.attention in ("dot", "scaled"):
            needed = self.encoder.memory_width(self.width)
            if self.decoder.units != needed:
                raise SpecError(
                    "decoder.units",
                    f"{self.decoder.units} cannot be compared with the encoder's output by {self.decoder.attention} "
                    f"attention, which needs {needed}; attention general takes any",
                )

    @property
    def is_language_model(self) -> bool:
        """Whether there is a decoder only."""
        return isinstance(self.encoder, NoEncoderSpec)

    def _check_language_model(self) -> None:
        if not self.attends:
            raise SpecError("decoder.kind", f"{self.decoder.kind} needs an encoder; take transformer or recurrent")
        if isinstance(self.decoder, RecurrentDecoderSpec) and self.decoder.attention != "none":
            raise SpecError("decoder.attention", "there is no encoder to attend to; set it to none")
        for name in ("ctc_weight", "share_embeddings", "source_vectors", "target_vectors"):
            if getattr(self, name):
                raise SpecError(name, "is not for a language model (encoder.kind none)")
        if self.scheduled_sampling.schedule != "none":
            raise SpecError("scheduled_sampling.schedule", "is not for a language model (encoder.kind none)")

    @property
    def attends(self) -> bool:
        """Whether the decoder writes token after token given the encoder's output, until it writes <eos>."""
        return isinstance(self.decoder, TransformerDecoderSpec | RecurrentDecoderSpec)

    @property
    def has_attention(self) -> bool:
        """Whether the decoder attends to the encoder's output, position by position."""
        fixed = isinstance(self.decoder, RecurrentDecoderSpec) and self.decoder.attention == "none"
        return self.attends and not self.is_language_model and not fixed

    @property
    def has_ctc(self) -> bool:
        """Whether there is a CTC output, alone or beside attention."""
        return self.ctc_weight > 0 or isinstance(self.decoder, CTCDecoderSpec)

    def _check_heads(self, name: str, part: TransformerSpec | ConformerEncoderSpec) -> None:
        rotary = part.positions == "rotary"
        fits = [heads for heads in range(1, self.width + 1) if self.width % heads == 0]
        fits = [heads for heads in fits if not (part.kv_heads and heads % part.kv_heads)]
        fits = [heads for heads in fits if not (rotary and (self.width // heads) % 2)]
        if part.heads in fits:
            return
        advice = f"try {min(fits, key=lambda heads: abs(heads - part.heads))}" if fits else "change the width"
        if self.width % part.heads:
            raise SpecError(f"{name}.heads", f"{part.heads} does not divide the width ({self.width}), {advice}")
        each = self.width // part.heads
        raise SpecError(f"{name}.heads", f"rotary positions need an even width per head, {each} is odd; {advice}")
