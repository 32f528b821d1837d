"""What a user can ask for: one tree of frozen dataclasses.

Model, data pipeline, search and export all follow from a `Recipe`. Every field carries its help text, and a value that
cannot work raises `UserError` with the dotted name of the key. Reading and writing recipes is in `recipe.py`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from tfseq2seq.errors import UserError

PAD, UNK, BOS, EOS = 0, 1, 2, 3
# What CTC and transducers say where they say no token; no transcript holds <pad>.
BLANK = PAD
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>")

Scheme = Literal["unigram", "bpe", "wordpiece", "words", "characters", "bytes"]
Cell = Literal["simple", "lstm", "gru"]
Scores = Literal["none", "additive", "dot", "general", "scaled", "location"]
Positions = Literal["sinusoidal", "learned", "rotary", "relative", "none"]
Initializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"]


def setting(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field with its line of help and, for numbers, the closed range of what is accepted."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


def group(kind: type, help: str) -> Any:
    """A dataclass field holding a nested spec, `kind()` by default."""
    return dataclasses.field(default_factory=kind, metadata={"help": help})


class SpecError(UserError):
    """A recipe value that cannot work. `key` is relative to the spec that raised it; readers prefix their own path."""

    def __init__(self, key: str, reason: str):
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


class Spec:
    """Base of all specs: checks that numbers are finite and within the ranges given in `setting`."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, low, high = getattr(self, field.name), field.metadata.get("low"), field.metadata.get("high")
            if isinstance(value, float) and not math.isfinite(value):
                raise SpecError(field.name, f"{value} is no number to work with")
            if low is not None and value < low:
                raise SpecError(field.name, f"{value} is too small, the least is {low}")
            if high is not None and value > high:
                raise SpecError(field.name, f"{value} is too large, the most is {high}")
        self.check()

    def check(self) -> None:
        """Checks between fields; overridden where there are any."""


# ---- data -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CorpusSpec(Spec):
    """Where pairs come from: two line files, or a table with a column each, or TFRecord files; of speech a manifest.

    A language model takes a target file alone.
    """

    source: str = setting("", "line file with one source sentence a line, plain or .gz")
    target: str = setting("", "line file with one target sentence a line, plain or .gz")
    table: str = setting("", "TSV file, instead of source and target: source, tab, target on each line")
    records: str = setting("", "TFRecord file or glob with features 'source' and 'target', instead of the others")
    manifest: str = setting(
        "",
        "of speech: TSV with the columns path and text, JSON lines with audio_filepath and text, or a Kaldi folder "
        "with wav.scp and text",
    )
    split: str = setting("", "rows of a TSV manifest whose column split says so (empty: all rows)")

    def check(self) -> None:
        ways = [bool(self.source or self.target), bool(self.table), bool(self.records), bool(self.manifest)]
        if sum(ways) > 1:
            raise SpecError("source", "give one of: source and target, table, records, manifest")
        if self.split and not self.manifest:
            raise SpecError("split", "is for a manifest, and none is given")

    @property
    def given(self) -> bool:
        return bool(self.source or self.target or self.table or self.records or self.manifest)


@dataclass(frozen=True)
class DataSpec(Spec):
    """Corpora, length filter and batching."""

    train: CorpusSpec = group(CorpusSpec, "training pairs")
    validation: CorpusSpec = group(CorpusSpec, "validation pairs")
    holdout: int = setting(
        0, "without validation pairs: so many training pairs drawn by the seed to serve as them", low=0
    )
    max_source_length: int = setting(128, "longest source kept in training, in tokens with <eos>", low=1)
    max_target_length: int = setting(128, "longest target kept in training, in tokens with <eos>", low=1)
    batch_tokens: int = setting(4096, "padded tokens in a batch: pairs times the longer side", low=1)
    batch_pairs: int = setting(0, "at most so many pairs in a batch (0: no limit but batch_tokens)", low=0)
    bucket_width: int = setting(2, "lengths within so many tokens share a batch", low=1)
    shuffle_pairs: int = setting(0, "pairs held for shuffling (0: the whole corpus)", low=0)
    cache: bool = setting(True, "keep the tokenized corpus in memory after the first pass")
    min_seconds: float = setting(0.05, "of speech: shortest recording kept in training", low=0)
    max_seconds: float = setting(30.0, "of speech: longest recording kept in training", low=0.01)
    batch_seconds: float = setting(160.0, "of speech: padded seconds in a batch, in place of batch_tokens", low=0.01)

    def check(self) -> None:
        if self.holdout and self.validation.given:
            raise SpecError("holdout", "data.validation is given too; leave one of them out")
        if self.min_seconds > self.max_seconds:
            raise SpecError("min_seconds", f"{self.min_seconds} is above max_seconds ({self.max_seconds})")


@dataclass(frozen=True)
class TextSpec(Spec):
    """How text becomes ids and ids become text."""

    kind: Literal["text"] = setting("text", "names this kind of source")
    scheme: Scheme = setting("unigram", "unigram and bpe by SentencePiece, wordpiece, words, characters or bytes")
    vocabulary_size: int = setting(8000, "entries in the vocabulary, the four special ones included", low=5)
    min_count: int = setting(1, "words and characters seen less often become <unk>", low=1)
    normalization: Literal["none", "nfc", "nfkc"] = setting("nfkc", "Unicode normalisation of the input")
    lowercase: bool = setting(False, "fold case, after Unicode normalisation")
    vocabulary: str = setting("", "an existing vocabulary file to use instead of learning one")


@dataclass(frozen=True)
class AugmentationSpec(Spec):
    """What happens to recordings in training only, anew each time one is used."""

    speed: float = setting(0.0, "speed changes by at most this share (Ko et al. 2015 use 0.1)", low=0, high=0.5)
    gain: float = setting(0.0, "level changes by at most so many dB", low=0)
    noise: float = setting(0.0, "share of recordings to which white noise is added", low=0, high=1)
    noise_low: float = setting(5.0, "least signal-to-noise ratio of that noise, in dB")
    noise_high: float = setting(30.0, "greatest signal-to-noise ratio of that noise, in dB")
    frequency_masks: int = setting(2, "bands blanked in each recording (SpecAugment, Park et al. 2019)", low=0)
    frequency_width: int = setting(20, "most bins in such a band", low=0)
    time_masks: int = setting(2, "stretches blanked in each recording", low=0)
    time_share: float = setting(0.05, "most of a recording's frames in such a stretch", low=0, high=1)

    def check(self) -> None:
        if self.noise_low > self.noise_high:
            raise SpecError("noise_low", f"{self.noise_low} is above noise_high ({self.noise_high})")


@dataclass(frozen=True)
class AudioSpec(Spec):
    """How recordings become frames of features, on device inside the model.

    The convention fixes mel scale, window, framing, logarithm and scale of values: htk and slaney as librosa computes
    them, whisper as in Radford et al. 2022, kaldi as in Kaldi's fbank without dither.
    """

    kind: Literal["audio"] = setting("audio", "names this kind of source")
    sample_rate: int = setting(16000, "samples a second inside the model; recordings are resampled to it", low=1000)
    features: Literal["log_mel", "mfcc"] = setting("log_mel", "what a frame is described by")
    convention: Literal["htk", "slaney", "whisper", "kaldi"] = setting("slaney", "how log-mel energies are computed")
    bins: int = setting(80, "mel bins", low=1)
    window: float = setting(0.025, "seconds in a frame", low=0.001)
    hop: float = setting(0.010, "seconds from frame to frame", low=0.001)
    low_frequency: float = setting(0.0, "lower edge of the first bin, in Hz", low=0)
    high_frequency: float = setting(0.0, "upper edge of the last bin, in Hz (0: half the sample rate)", low=0)
    coefficients: int = setting(13, "for mfcc: cepstral coefficients", low=1)
    deltas: bool = setting(False, "add first and second differences over time")
    normalization: Literal["none", "utterance", "global"] = setting(
        "utterance", "mean and variance of each bin made 0 and 1: over each recording, or over the training corpus"
    )
    denoise: float = setting(0.0, "spectral subtraction: times the noise floor taken off (Boll 1979; 0: off)", low=0)
    trim: float = setting(0.0, "cut silence at both ends this many dB below the loudest frame (0: off)", low=0)
    subsampling: int = setting(4, "frames that strided convolutions join into one: 1, 2, 4 or 8", low=1, high=8)
    augmentation: AugmentationSpec = group(AugmentationSpec, "in training only")

    def check(self) -> None:
        nyquist = self.sample_rate / 2
        if self.high_frequency > nyquist:
            raise SpecError("high_frequency", f"{self.high_frequency} is above half the sample rate ({nyquist:g})")
        if self.low_frequency >= (self.high_frequency or nyquist):
            raise SpecError("low_frequency", f"{self.low_frequency} is not below high_frequency")
        if self.hop > self.window:
            raise SpecError("hop", f"{self.hop} is longer than the window ({self.window}): samples would be skipped")
        if self.subsampling not in (1, 2, 4, 8):
            raise SpecError("subsampling", f"{self.subsampling} is not 1, 2, 4 or 8")
        if self.features == "mfcc" and self.coefficients > self.bins:
            raise SpecError("coefficients", f"{self.coefficients} cannot come from {self.bins} mel bins")
        if self.convention == "whisper" and (self.denoise or self.features == "mfcc"):
            raise SpecError("convention", "whisper's features are log-mel without denoising; take slaney")

    @property
    def frame_width(self) -> int:
        """Numbers that describe a frame."""
        width = self.coefficients if self.features == "mfcc" else self.bins
        return 3 * width if self.deltas else width


SourceSpec = TextSpec | AudioSpec


# ---- encoders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecurrentEncoderSpec(Spec):
    """A stack of recurrent layers (Hochreiter & Schmidhuber 1997, Cho et al. 2014)."""

    kind: Literal["recurrent"] = setting("recurrent", "names this encoder")
    cell: Cell = setting("lstm", "recurrent cell")
    layers: int = setting(2, "layers", low=1)
    units: int = setting(256, "units of each direction", low=1)
    bidirectional: bool = setting(True, "read in both directions")
    dropout: float = setting(0.2, "dropout on embeddings and between layers", low=0, high=0.99)

    def memory_width(self, width: int) -> int:
        """Width of what decoders attend to, in a model of the given width."""
        return self.units * (2 if self.bidirectional else 1)


@dataclass(frozen=True)
class ConvolutionEncoderSpec(Spec):
    """Residual gated convolutions with learned positions (Gehring et al. 2017), and average pooling at the end."""

    kind: Literal["convolution"] = setting("convolution", "names this encoder")
    layers: int = setting(6, "gated convolutions", low=1)
    filters: int = setting(256, "channels of each convolution", low=1)
    kernel: int = setting(3, "positions under each convolution; odd", low=1)
    pooling: int = setting(1, "neighbouring positions averaged into one at the end (1: none)", low=1)
    max_positions: int = setting(1024, "longest input the learned positions cover", low=1)
    dropout: float = setting(0.2, "dropout before each convolution", low=0, high=0.99)

    def check(self) -> None:
        if self.kernel % 2 == 0:
            raise SpecError(
                "kernel", f"{self.kernel} is even; an odd kernel keeps positions aligned, try {self.kernel + 1}"
            )

    def memory_width(self, width: int) -> int:
        """Width of what decoders attend to, in a model of the given width."""
        return self.filters


@dataclass(frozen=True)
class TransformerSpec(Spec):
    """What Transformer encoder and decoder share (Vaswani et al. 2017). The width is `model.width`."""

    kind: Literal["transformer"] = setting("transformer", "names this encoder or decoder")
    layers: int = setting(6, "blocks", low=1)
    heads: int = setting(8, "attention heads; the width is divisible by it", low=1)
    kv_heads: int = setting(0, "key and value heads, grouped-query attention (0: as many as heads)", low=0)
    ffn: int = setting(2048, "inner width of the feed-forward part", low=1)
    norm: Literal["pre", "post"] = setting("pre", "layer normalisation before or after each part")
    activation: Literal["relu", "gelu", "swiglu"] = setting("relu", "feed-forward activation")
    positions: Positions = setting("sinusoidal", "how positions enter")
    max_positions: int = setting(1024, "longest input learned positions cover", low=1)
    relative_distance: int = setting(16, "relative positions are told apart up to this distance", low=1)
    dropout: float = setting(0.1, "dropout on embeddings and on each part's output", low=0, high=0.99)
    attention_dropout: float = setting(0.0, "dropout on attention weights", low=0, high=0.99)
    ffn_dropout: float = setting(0.0, "dropout inside the feed-forward part", low=0, high=0.99)

    def check(self) -> None:
        if self.kv_heads and self.heads % self.kv_heads:
            raise SpecError("kv_heads", f"{self.kv_heads} does not divide heads ({self.heads})")


@dataclass(frozen=True)
class TransformerEncoderSpec(TransformerSpec):
    """Transformer encoder."""

    def memory_width(self, width: int) -> int:
        """Width of what decoders attend to, in a model of the given width."""
        return width


@dataclass(frozen=True)
class ConformerEncoderSpec(Spec):
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
        if self.kv_heads and self.heads % self.kv_heads:
            raise SpecError("kv_heads", f"{self.kv_heads} does not divide heads ({self.heads})")
        if self.chunk and self.positions in ("sinusoidal", "learned"):
            raise SpecError("positions", f"{self.positions} positions end somewhere and a stream does not; try rotary")

    def memory_width(self, width: int) -> int:
        """Width of what decoders attend to, in a model of the given width."""
        return width


@dataclass(frozen=True)
class PyramidEncoderSpec(Spec):
    """Pyramidal bidirectional recurrent layers, the listener of Listen, Attend and Spell (Chan et al. 2016)."""

    kind: Literal["pyramid"] = setting("pyramid", "names this encoder")
    cell: Cell = setting("lstm", "recurrent cell")
    layers: int = setting(3, "recurrent layers", low=1)
    joins: int = setting(2, "so many of the upper layers read two neighbouring positions as one", low=0)
    units: int = setting(256, "units of each direction", low=1)
    dropout: float = setting(0.2, "dropout on the input and between layers", low=0, high=0.99)

    def check(self) -> None:
        if self.joins >= self.layers:
            raise SpecError("joins", f"{self.joins} is not below layers ({self.layers}); the first layer joins nothing")

    def memory_width(self, width: int) -> int:
        """Width of what decoders attend to, in a model of the given width."""
        return 2 * self.units


@dataclass(frozen=True)
class NoEncoderSpec(Spec):
    """No encoder: the decoder alone is a language model of the target."""

    kind: Literal["none"] = setting("none", "names this encoder")

    def memory_width(self, width: int) -> int:
        """There is no memory."""
        return 0


EncoderSpec = (
    TransformerEncoderSpec
    | RecurrentEncoderSpec
    | ConvolutionEncoderSpec
    | ConformerEncoderSpec
    | PyramidEncoderSpec
    | NoEncoderSpec
)


# ---- decoders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TransformerDecoderSpec(TransformerSpec):
    """Transformer decoder."""


@dataclass(frozen=True)
class RecurrentDecoderSpec(Spec):
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
            raise SpecError("location_kernel", f"{self.location_kernel} is even, try {self.location_kernel + 1}")


@dataclass(frozen=True)
class CTCDecoderSpec(Spec):
    """A layer over the encoder alone: a token or blank for each of its positions (Graves et al. 2006)."""

    kind: Literal["ctc"] = setting("ctc", "names this decoder")
    dropout: float = setting(0.1, "dropout before the output layer", low=0, high=0.99)


@dataclass(frozen=True)
class TransducerDecoderSpec(Spec):
    """RNN transducer (Graves 2012): a recurrent network over past tokens, joined with each encoder position."""

    kind: Literal["transducer"] = setting("transducer", "names this decoder")
    cell: Cell = setting("lstm", "recurrent cell of the prediction network")
    layers: int = setting(1, "layers of the prediction network", low=1)
    units: int = setting(256, "units of each of them", low=1)
    joint: int = setting(256, "width in which both networks are joined", low=1)
    dropout: float = setting(0.2, "dropout on embeddings and on the prediction network's output", low=0, high=0.99)


DecoderSpec = TransformerDecoderSpec | RecurrentDecoderSpec | CTCDecoderSpec | TransducerDecoderSpec


# ---- model ----------------------------------------------------------------------------------------------------------


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


# ---- training -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OptimizerSpec(Spec):
    """Keras optimizer."""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = setting("adam", "optimizer")
    learning_rate: float = setting(1e-3, "peak learning rate; for noam, the factor before width^-0.5", low=0)
    beta_1: float = setting(0.9, "Adam's first decay", low=0, high=1)
    beta_2: float = setting(0.98, "Adam's second decay", low=0, high=1)
    epsilon: float = setting(1e-9, "added to the denominator", low=0)
    momentum: float = setting(0.0, "for sgd and rmsprop", low=0, high=1)
    weight_decay: float = setting(0.0, "decoupled weight decay, for adamw", low=0)
    clip_norm: float = setting(0.0, "scale gradients down to this global norm (0: off)", low=0)
    clip_value: float = setting(0.0, "cut each gradient at this size (0: off)", low=0)
    accumulate: int = setting(1, "batches whose gradients make one update", low=1)
    ema: float = setting(
        0.0, "decay of the moving average of weights used for evaluation (0: off)", low=0, high=0.99999
    )

    def check(self) -> None:
        if self.clip_norm and self.clip_value:
            raise SpecError("clip_value", "clip_norm is on too; Keras clips by one of them, set the other to 0")
        if self.weight_decay and self.name != "adamw":
            raise SpecError("weight_decay", f"is for adamw, not {self.name}")


@dataclass(frozen=True)
class ScheduleSpec(Spec):
    """How the learning rate moves."""

    name: Literal["constant", "noam", "inverse_sqrt", "cosine", "plateau"] = setting(
        "inverse_sqrt", "noam and inverse_sqrt decay with the root of the step; plateau when the score stops improving"
    )
    warmup: int = setting(1000, "steps of linear growth at the beginning", low=0)
    floor: float = setting(0.0, "least learning rate, for cosine and plateau", low=0)
    patience: int = setting(2, "for plateau: evaluations without progress before a cut", low=1)
    factor: float = setting(0.5, "for plateau: the cut", low=0.01, high=0.99)


@dataclass(frozen=True)
class DistillationSpec(Spec):
    """A larger model's probabilities of each token teach beside the labels (Hinton et al. 2015, Kim & Rush 2016)."""

    teacher: str = setting("", "run of text with the same vocabularies, whose probabilities are learned (empty: none)")
    weight: float = setting(0.5, "share of the loss that is the cross entropy with the teacher's", low=0, high=1)
    temperature: float = setting(1.0, "both sides' logits are divided by it; above 1 flatter", low=0.1)


@dataclass(frozen=True)
class PruningSpec(Spec):
    """The smallest numbers of each weight matrix become zero while the model trains (Zhu & Gupta 2017)."""

    sparsity: float = setting(0.0, "share of each weight matrix that is zero in the end (0: off)", low=0, high=0.99)
    start: int = setting(0, "updates before the first numbers go", low=0)
    steps: int = setting(1000, "updates over which the share grows", low=1)
    every: int = setting(100, "updates between one pruning and the next meanwhile", low=1)

    @property
    def end(self) -> int:
        """Updates after which nothing more is pruned."""
        return self.start + self.steps if self.sparsity else 0


@dataclass(frozen=True)
class TrainingSpec(Spec):
    """How long, how fast, what to keep."""

    steps: int = setting(10000, "updates in all", low=1)
    minutes: float = setting(0.0, "stop after so many minutes of training, evaluations included (0: no limit)", low=0)
    evaluate_every: int = setting(500, "updates between evaluations and checkpoints", low=1)
    optimizer: OptimizerSpec = group(OptimizerSpec, "optimizer")
    schedule: ScheduleSpec = group(ScheduleSpec, "learning rate schedule")
    label_smoothing: float = setting(0.1, "probability mass spread over the vocabulary", low=0, high=0.99)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = setting("float32", "Keras dtype policy")
    jit: bool = setting(False, "compile the training step with XLA")
    monitor: Literal["loss", "bleu", "chrf", "exact_match", "wer", "cer"] = setting(
        "loss", "what chooses the best checkpoint: validation loss, or a score of generated text"
    )
    generate_pairs: int = setting(500, "validation pairs generated for such a score (0: all)", low=0)
    patience: int = setting(0, "stop after so many evaluations without progress (0: never)", low=0)
    keep: int = setting(5, "last checkpoints kept", low=1)
    average: int = setting(
        1, "last checkpoints averaged into the final weights (1: the best checkpoint instead)", low=1
    )
    tensorboard: bool = setting(True, "write TensorBoard logs")
    distillation: DistillationSpec = group(DistillationSpec, "learning from a larger model")
    pruning: PruningSpec = group(PruningSpec, "weights set to zero while training, for a smaller file")

    def check(self) -> None:
        if self.pruning.end > self.steps:
            raise SpecError("pruning.steps", f"pruning ends at update {self.pruning.end}, training at {self.steps}")
        if self.pruning.sparsity and self.schedule.name == "plateau":
            raise SpecError("schedule.name", "plateau takes what pruning costs at first for the end; choose another")
        if self.average > self.keep:
            raise SpecError("average", f"{self.average} checkpoints cannot be averaged when keep is {self.keep}")


# ---- search ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FusionSpec(Spec):
    """What counts beside the model: language models over the same vocabulary, and phrases that are likely to come.

    Each adds its log-probability or bonus, times a weight, to what hypotheses are ranked by (shallow fusion, Gulcehre
    et al. 2015): as they grow, or once they are complete (rescoring of the beam).
    """

    ngram: str = setting("", "ARPA file over the target vocabulary's tokens, as `tfseq2seq ngram train` writes it")
    ngram_weight: float = setting(0.3, "times its log-probability (0: off)", low=0)
    model: str = setting("", "run of a language model (model.encoder.kind none) with the same target vocabulary")
    model_weight: float = setting(0.3, "times its log-probability (0: off)", low=0)
    token_bonus: float = setting(0.0, "added for each token: language models alone prefer short outputs")
    phrases: str = setting("", "file of phrases to listen for, one a line; after a tab a weight of its own, if any")
    phrases_weight: float = setting(1.0, "bonus in nats for each token of such a phrase (0: off)", low=0)
    rescore: bool = setting(False, "language models rank the complete hypotheses of the beam only")


@dataclass(frozen=True)
class RulesSpec(Spec):
    """What is done to the text after search, inside every artefact."""

    patterns: str = setting("", "file of rules, one a line: regular expression (RE2), tab, replacement")
    lexicon: str = setting("", "file of proper spellings, one a line: as found (case aside), tab, as wanted")


@dataclass(frozen=True)
class SearchSpec(Spec):
    """How output is found, given a trained model."""

    beam: int = setting(4, "hypotheses kept; 1 is greedy", low=1)
    n_best: int = setting(1, "hypotheses returned", low=1)
    length_penalty: Literal["none", "average", "gnmt"] = setting(
        "gnmt",
        "of attention decoders: divide the log-probability by nothing, length^alpha, or ((5 + length) / 6)^alpha "
        "(Wu et al. 2016)",
    )
    alpha: float = setting(0.6, "strength of the length penalty", low=0)
    stop: Literal["full", "exact"] = setting(
        "full",
        "full: done when as many hypotheses as the beam is wide are finished; exact: when none can become better",
    )
    coverage_penalty: float = setting(0.0, "strength of the coverage penalty (Wu et al. 2016, eq. 14)", low=0)
    min_length: int = setting(0, "least tokens before <eos>", low=0)
    max_length: int = setting(128, "most tokens, <eos> included", low=1)
    min_ratio: float = setting(0.0, "least tokens as a multiple of the source's", low=0)
    max_ratio: float = setting(
        0.0, "most tokens as a multiple of the source's, ten more allowed (0: max_length alone)", low=0
    )
    no_repeat_ngram: int = setting(0, "no n-gram of this size comes twice (0: off)", low=0)
    max_run: int = setting(0, "no token comes more often than this in a row (0: off)", low=0)
    sample: bool = setting(False, "draw n_best samples instead of searching")
    temperature: float = setting(1.0, "for sampling: below 1 sharper, above 1 flatter", low=0.01)
    top_k: int = setting(0, "for sampling: only the k likeliest tokens (0: all)", low=0)
    top_p: float = setting(1.0, "for sampling: only the likeliest tokens that make up this mass", low=0.0, high=1.0)
    seed: int = setting(1, "for sampling", low=0, high=2**31 - 1)
    ctc_weight: float = setting(
        0.3, "where a model has both: share of CTC beside attention in what hypotheses are ranked by", low=0, high=1
    )
    shortlist: str = setting(
        "",
        "file of the target tokens that may translate each source token, as `tfseq2seq shortlist` writes it; no other "
        "comes, and log-probabilities are among those",
    )
    fusion: FusionSpec = group(FusionSpec, "language models and phrases to listen for")
    rules: RulesSpec = group(RulesSpec, "rules for the text found")

    def check(self) -> None:
        if not self.sample and self.n_best > self.beam:
            raise SpecError("n_best", f"{self.n_best} hypotheses cannot come from a beam of {self.beam}")
        if self.min_length >= self.max_length:
            raise SpecError(
                "min_length", f"{self.min_length} leaves no room for <eos> within max_length ({self.max_length})"
            )
        if self.max_ratio and self.min_ratio > self.max_ratio:
            raise SpecError("min_ratio", f"{self.min_ratio} is above max_ratio ({self.max_ratio})")
        if self.sample and self.shortlist:
            raise SpecError("shortlist", "narrows a beam search, and sample draws from all tokens")
        if self.sample and self.fusion != FusionSpec():
            raise SpecError("fusion", "ranks hypotheses of a beam, and sample draws instead")


@dataclass(frozen=True)
class Recipe(Spec):
    """Everything that makes a model, from data to search."""

    name: str = setting("model", "names the run and its export")
    seed: int = setting(1, "of initial weights, shuffling and dropout", low=0, high=2**32 - 1)
    data: DataSpec = group(DataSpec, "corpora and batching")
    source: SourceSpec = group(TextSpec, "source text, or audio")
    target: TextSpec = group(TextSpec, "target text")
    share_vocabulary: bool = setting(False, "one vocabulary for both sides, described by source")
    model: ModelSpec = group(ModelSpec, "encoder and decoder")
    training: TrainingSpec = group(TrainingSpec, "training")
    search: SearchSpec = group(SearchSpec, "search")

    def check(self) -> None:
        if self.model.is_language_model:
            self._check_language_model()
        else:
            self._check_sides()
        if not self.model.attends:
            self._check_alignment_search()
        if self.search.ctc_weight != SearchSpec().ctc_weight and not self.model.ctc_weight:
            raise SpecError("search.ctc_weight", "needs a model with both outputs; set model.ctc_weight")
        if self.model.share_embeddings and not self.share_vocabulary:
            raise SpecError("model.share_embeddings", "needs share_vocabulary: true")
        if isinstance(self.source, AudioSpec):
            self._check_audio(self.source)
        elif not self.model.is_language_model:
            self._check_text()
        text = isinstance(self.source, TextSpec) and not self.model.is_language_model
        if self.training.distillation.teacher and not (text and self.model.scheduled_sampling.schedule == "none"):
            raise SpecError("training.distillation", "is for models of text to text without scheduled sampling")
        if not self.name.strip() or self.name in (".", "..") or "/" in self.name or not self.name.isprintable():
            raise SpecError("name", f"{self.name!r} cannot name a folder")

    def _check_sides(self) -> None:
        for name, corpus in (("train", self.data.train), ("validation", self.data.validation)):
            if bool(corpus.source) != bool(corpus.target):
                missing = "target" if corpus.source else "source"
                raise SpecError(f"data.{name}.{missing}", "source and target files come together")

    def _check_language_model(self) -> None:
        for name, corpus in (("train", self.data.train), ("validation", self.data.validation)):
            for key in ("source", "table", "records", "manifest"):
                if getattr(corpus, key):
                    raise SpecError(f"data.{name}.{key}", f"a language model learns from data.{name}.target alone")
        if self.source != TextSpec() or self.share_vocabulary:
            raise SpecError("source", "a language model (model.encoder.kind none) has no source; describe target")
        if self.training.monitor != "loss":
            raise SpecError("training.monitor", "a language model generates nothing to score; monitor the loss")
        usual = SearchSpec()
        # Presets, which become language models by model.encoder.kind alone, have a length penalty of their own.
        if dataclasses.replace(self.search, length_penalty=usual.length_penalty, alpha=usual.alpha) != usual:
            raise SpecError("search", "a language model is not searched; its weight is set where it is used")

    def _check_alignment_search(self) -> None:
        """What steers a decoder token by token means nothing where time steers it: better told than ignored."""
        usual = SearchSpec()
        for name in (
            *("length_penalty", "alpha", "stop", "coverage_penalty", "min_length", "min_ratio", "max_ratio"),
            *("no_repeat_ngram", "max_run", "sample", "temperature", "top_k", "top_p"),
        ):
            if getattr(self.search, name) != getattr(usual, name):
                raise SpecError(f"search.{name}", f"is for decoders with attention, not for {self.model.decoder.kind}")

    def _check_audio(self, source: AudioSpec) -> None:
        if self.share_vocabulary:
            raise SpecError("share_vocabulary", "needs source text, and the source is audio")
        if self.model.source_vectors:
            raise SpecError("model.source_vectors", "are of words, and the source is audio")
        if self.search.shortlist:
            raise SpecError("search.shortlist", "is of source tokens, and the source is audio")
        encoder = self.model.encoder
        if isinstance(encoder, ConformerEncoderSpec) and encoder.chunk:
            if source.normalization == "utterance" or source.convention == "whisper" or source.trim or source.denoise:
                raise SpecError(
                    "model.encoder.chunk",
                    "a stream is heard before its end: it needs source.normalization global or none, another "
                    "convention than whisper, and neither trim nor denoise",
                )
            if source.deltas:
                raise SpecError("source.deltas", "look ahead, which a stream cannot")

    def _check_text(self) -> None:
        if not self.model.attends:
            raise SpecError("model.decoder.kind", f"{self.model.decoder.kind} needs source.kind audio")
        if self.model.ctc_weight:
            raise SpecError("model.ctc_weight", "needs source.kind audio")
        for name, corpus in (("train", self.data.train), ("validation", self.data.validation)):
            if corpus.manifest:
                raise SpecError(f"data.{name}.manifest", "is of speech; set source.kind to audio")
