"""Any encoder with any decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import NEEDS, Spec, SpecError, group, prefixed, setting
from tfseq2seq.spec.decoders import DecoderSpec, TransformerDecoderSpec
from tfseq2seq.spec.encoders import EncoderSpec, TransformerEncoderSpec

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
        TransformerEncoderSpec, "transformer, recurrent, convolution, conformer or pyramid", needs="source"
    )
    decoder: DecoderSpec = group(TransformerDecoderSpec, "transformer, recurrent, ctc or transducer")
    ctc_weight: float = setting(
        0.0,
        "share of a CTC loss beside that of an attention decoder (Watanabe et al. 2017)",
        low=0,
        high=0.99,
        needs=("audio", "autoregressive"),
    )
    tie_output: bool = setting(True, "the output layer uses the target embedding's weights")
    share_embeddings: bool = setting(
        False, "source and target use one embedding; needs share_vocabulary", needs="vocabulary"
    )
    initializer: Initializer = setting("glorot_uniform", "how weight matrices begin")
    source_vectors: str = setting(
        "", "word2vec or GloVe text file that the source embedding starts from", needs="vocabulary"
    )
    target_vectors: str = setting(
        "", "word2vec or GloVe text file that the target embedding starts from", needs="autoregressive"
    )
    scheduled_sampling: ScheduledSamplingSpec = group(
        ScheduledSamplingSpec, "own predictions as decoder input in training", needs=("source", "autoregressive")
    )
    guided_attention: GuidedAttentionSpec = group(
        GuidedAttentionSpec, "a loss that keeps attention near the diagonal in training", needs="attention"
    )

    def check(self) -> None:
        for name in ("encoder", "decoder"):
            with prefixed(name):
                getattr(self, name).check_width(self.width)
        if "attention" not in self.decoder.provides and self.guided_attention.weight:
            raise SpecError("guided_attention.weight", f"needs {NEEDS['attention']}")

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        outputs = {"two outputs", "ctc"} if self.ctc_weight else set()
        return frozenset(self.decoder.provides | outputs)

    @property
    def autoregressive(self) -> bool:
        """Whether the decoder writes token by token, each given the ones before, until it writes <eos>."""
        return "autoregressive" in self.provides
