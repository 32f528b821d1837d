"""Settings of the model: an encoder, a decoder and how they are trained together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import NEEDS, Spec, SpecError, group, prefixed, setting
from tfseq2seq.spec.decoders import DecoderSpec, TransformerDecoderSpec
from tfseq2seq.spec.encoders import EncoderSpec, TransformerEncoderSpec

Initializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"]


@dataclass(frozen=True)
class ScheduledSamplingSpec(Spec):
    """Scheduled sampling: in training, some decoder inputs are predictions of the model (Bengio et al. 2015).

    A Transformer runs twice per batch: the first pass makes the predictions (Mihaylova & Martins 2019).
    """

    schedule: Literal["none", "constant", "linear", "exponential", "inverse_sigmoid"] = setting(
        "none", "growth of the share of predicted decoder inputs during training"
    )
    share: float = setting(0.25, "share of predicted decoder inputs at the end of the schedule", low=0, high=1)
    start: int = setting(0, "training step at which the schedule starts", low=0)
    steps: int = setting(10000, "length of the schedule in training steps", low=1)


@dataclass(frozen=True)
class GuidedAttentionSpec(Spec):
    """A loss that penalizes attention far from the diagonal (Tachibana et al. 2018).

    It is for speech, where the text has the order of the recording. A model without a CTC loss learns its attention
    only slowly, or not at all, without this loss.
    """

    weight: float = setting(0.0, "weight of the guided attention loss (0: off)", low=0)
    width: float = setting(
        0.2, "standard deviation of the penalty, as a share of the source and target length", low=0.01
    )
    steps: int = setting(0, "number of training steps until the loss has faded to zero (0: no fading)", low=0)


@dataclass(frozen=True)
class ModelSpec(Spec):
    """Any encoder combined with any decoder."""

    width: int = setting(256, "width of embeddings and of Transformer and Conformer blocks", low=1)
    encoder: EncoderSpec = group(
        TransformerEncoderSpec,
        "encoder of kind transformer, recurrent, convolution, conformer, pyramid or keras_hub (pretrained)",
        needs="source",
    )
    decoder: DecoderSpec = group(TransformerDecoderSpec, "decoder of kind transformer, recurrent, ctc or transducer")
    ctc_weight: float = setting(
        0.0,
        "weight of a CTC loss; the loss of the attention decoder has the rest (Watanabe et al. 2017; 0: no CTC)",
        low=0,
        high=0.99,
        needs=("audio", "autoregressive"),
    )
    tie_output: bool = setting(True, "use the weights of the target embedding in the output layer")
    output_bias: bool = setting(
        False,
        "add a bias to the logits of a tied output layer; an output layer of its own always has one",
        needs="autoregressive",
    )
    share_embeddings: bool = setting(
        False, "use one embedding for source and target; needs share_vocabulary", needs="vocabulary"
    )
    initializer: Initializer = setting("glorot_uniform", "initializer of the weight matrices")
    source_vectors: str = setting(
        "", "word2vec or GloVe text file with initial vectors for the source embedding", needs="vocabulary"
    )
    target_vectors: str = setting(
        "", "word2vec or GloVe text file with initial vectors for the target embedding", needs="autoregressive"
    )
    scheduled_sampling: ScheduledSamplingSpec = group(
        ScheduledSamplingSpec,
        "predictions of the model as decoder inputs in training",
        needs=("source", "autoregressive"),
    )
    guided_attention: GuidedAttentionSpec = group(
        GuidedAttentionSpec, "training loss that keeps attention near the diagonal", needs="attention"
    )

    def check(self) -> None:
        if self.output_bias and not self.tie_output:
            raise SpecError(
                "output_bias", "must be false unless tie_output is true, as the bias is there anyway, got true"
            )
        for name in ("encoder", "decoder"):
            with prefixed(name):
                getattr(self, name).check_width(self.width)
        if "attention" not in self.decoder.provides and self.guided_attention.weight:
            raise SpecError("guided_attention.weight", f"needs {NEEDS['attention']}")
        if "attention" not in self.decoder.provides and self.decoder.copies:
            raise SpecError("decoder.copy", f"needs {NEEDS['attention']}")
        if self.decoder.copies and self.encoder.stride > 1:
            raise SpecError(
                "decoder.copy",
                f"must be false with an encoder that joins {self.encoder.stride} positions into one, as attention then "
                "points at no single word, got true",
            )

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        outputs = {"two outputs", "ctc"} if self.ctc_weight else set()
        return frozenset(self.decoder.provides | outputs)

    @property
    def autoregressive(self) -> bool:
        """Whether the decoder generates one token at a time from the previous tokens, until <eos>."""
        return "autoregressive" in self.provides
