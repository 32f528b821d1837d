"""Settings of the source and of the target text: one spec for each kind of source."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tfseq2seq.errors import UserError
from tfseq2seq.spec.backbones import (
    BackboneSpec,
    ConvolutionBackboneSpec,
    GridPositions,
    ImageAugmentationSpec,
    NewBackboneSpec,
)
from tfseq2seq.spec.base import SPECIAL_TOKENS, Spec, SpecError, group, prefixed, setting
from tfseq2seq.spec.data import INFILLING_TOKENS

# By default a model answers inputs that are so many times as long as the longest ones of its training.
_TIMES_OF_TRAINING = 4

Scheme = Literal["unigram", "bpe", "byte_bpe", "wordpiece", "words", "characters", "bytes"]


class SourceBase(Spec):
    """Base class of all source specs.

    Attributes:
        least_max_input: the smallest value that `default_max_input` gives; 0 for a kind without a limit.
        input_unit: what `search.max_input` counts.
        manifest_metrics: the usual metrics for outputs of inputs that a manifest lists.
    """

    least_max_input: ClassVar[int] = 0
    input_unit: ClassVar[str] = "tokens with <eos>"
    manifest_metrics: ClassVar[tuple[str, ...]] = ("wer", "cer")

    def training_positions(self, recipe: Any) -> tuple[int, str]:
        """Returns the most positions that an example of training has in the encoder, and the key that limits them."""
        return 0, ""

    def input_of(self, positions: int) -> int:
        """Returns the longest input that so many positions are enough for, in the unit of `search.max_input`."""
        return positions

    def default_max_input(self, recipe: Any) -> int:
        """Returns `search.max_input` of a recipe that leaves it at 0; 0 for no limit."""
        return 0

    def check_recipe(self, recipe: Any) -> None:
        """Raises `SpecError` if other settings of the recipe do not fit this source. Its key starts at the recipe."""
        for name, corpus in (("train", recipe.data.train), ("validation", recipe.data.validation)):
            if bool(corpus.source) != bool(corpus.target):
                given, missing = ("source", "target") if corpus.source else ("target", "source")
                raise SpecError(
                    f"data.{name}.{missing}", f"must be given, as source and target come together, got {given} alone"
                )
        recipe.model.encoder.check_recipe(recipe)
        with prefixed("model.decoder"):
            recipe.model.decoder.check_memory(recipe.model.encoder.memory_width(recipe.model.width))
        limit = recipe.model.encoder.position_limit
        needed, key = self.training_positions(recipe)
        if limit and needed > limit:
            raise SpecError(
                "model.encoder.max_positions",
                f"must be at least {needed} for {key}, as later positions would share a row, got {limit}",
            )
        if limit and recipe.search.max_input > self.input_of(limit):
            raise SpecError(
                "search.max_input",
                f"must be at most {self.input_of(limit)} with model.encoder.max_positions {limit}, got "
                f"{recipe.search.max_input}",
            )

    def _usual_max_input(self, recipe: Any, longest: float) -> int:
        """Returns the default for a recipe whose longest examples of training are given."""
        usual = max(self.least_max_input, math.ceil(_TIMES_OF_TRAINING * longest))
        limit = recipe.model.encoder.position_limit
        return min(usual, self.input_of(limit)) if limit else usual


@dataclass(frozen=True)
class NoSourceSpec(SourceBase):
    """No source. The decoder alone is a language model of the target text, and continues prompts."""

    provides: ClassVar[frozenset[str]] = frozenset({"token batches", "prompts"})
    least_max_input: ClassVar[int] = 1024

    kind: Literal["none"] = setting("none", "kind of source")

    def default_max_input(self, recipe: Any) -> int:
        usual = max(self.least_max_input, _TIMES_OF_TRAINING * recipe.data.max_target_length)
        limit = recipe.model.decoder.position_limit
        return min(usual, limit) if limit else usual

    def check_recipe(self, recipe: Any) -> None:
        with prefixed("model.decoder"):
            recipe.model.decoder.check_without_memory()
        limit = recipe.model.decoder.position_limit
        if limit and recipe.search.max_input > limit:
            raise SpecError(
                "search.max_input",
                f"must be at most model.decoder.max_positions ({limit}), got {recipe.search.max_input}",
            )
        missing = [token for token in INFILLING_TOKENS if token not in recipe.target.reserved]
        if recipe.data.infilling and missing:
            raise SpecError(
                "target.reserved",
                f"must have {', '.join(INFILLING_TOKENS)} for data.infilling, and {', '.join(missing)} is missing",
            )
        if recipe.data.infilling and recipe.target.begin:
            raise SpecError("target.begin", f"must be empty with data.infilling, got {recipe.target.begin!r}")
        if recipe.training.monitor != "loss":
            raise SpecError(
                "training.monitor", f"must be loss, as there are no references, got {recipe.training.monitor}"
            )


@dataclass(frozen=True)
class TextSpec(SourceBase):
    """Conversion of text to token ids, and of token ids to text."""

    provides: ClassVar[frozenset[str]] = frozenset({"source", "vocabulary", "token batches", "pairs", "records"})
    least_max_input: ClassVar[int] = 1024

    kind: Literal["text"] = setting("text", "kind of source or target")
    scheme: Scheme = setting(
        "unigram",
        "tokenization scheme; SentencePiece learns unigram and bpe vocabularies; byte_bpe, of GPT-2, is not learned",
    )
    vocabulary_size: int = setting(8000, "maximum vocabulary size, with special and reserved tokens", low=5)
    min_count: int = setting(1, "minimum count of a word or character in the corpus; rarer ones become <unk>", low=1)
    normalization: Literal["none", "nfc", "nfd", "nfkc", "nfkd"] = setting(
        "nfc",
        "Unicode normalization of the text; nfkc and nfkd also change characters, such as full-width punctuation, and "
        "nfd and nfkd split letters from accents and Korean syllables into jamo",
    )
    compose: bool = setting(False, "compose output text again (NFC), after normalization by nfd or nfkd")
    lowercase: bool = setting(False, "convert text to lowercase after Unicode normalization")
    vocabulary: str = setting("", "existing vocabulary file (empty: learn the vocabulary from the training corpus)")
    reserved: tuple[str, ...] = setting((), "additional special tokens, such as language or task tags")
    join: Literal["space", "none"] = setting(
        "space", "what is between the words of output text, for words; none writes Chinese as it is written"
    )
    begin: str = setting(
        "",
        "reserved tokens, with spaces between them, that every text begins with, such as a language or task tag; that "
        "of the target begins every output",
    )
    prefix_space: bool = setting(
        False, "put a space before every text, for byte_bpe: as tokenizers do that have add_prefix_space"
    )
    pretokenization: Literal["space", "bert"] = setting(
        "space",
        "words that wordpiece splits: those between spaces, or those of BERT (Devlin et al. 2019), which also splits "
        "at punctuation and Chinese characters, and with lowercase removes accents",
    )

    def check(self) -> None:
        if self.pretokenization != "space" and self.scheme != "wordpiece":
            raise SpecError("pretokenization", f"must be space unless scheme is wordpiece, got {self.pretokenization}")
        if self.prefix_space and self.scheme != "byte_bpe":
            raise SpecError("prefix_space", f"must be false unless scheme is byte_bpe, got true for {self.scheme}")
        if self.scheme == "byte_bpe" and not self.vocabulary:
            raise SpecError(
                "vocabulary",
                "must be set for scheme byte_bpe, which is not learned: to a tokenizer.json, or to a folder with it or "
                "with vocab.json and merges.txt",
            )
        for index, token in enumerate(self.reserved):
            fault = _reserved_fault(token, self.scheme)
            if not fault and token in self.reserved[:index]:
                fault = "must be unique"
            if fault:
                raise SpecError(f"reserved[{index}]", f"{fault}, got {token!r}")
        if self.compose and self.normalization not in ("nfd", "nfkd"):
            raise SpecError("compose", f"needs normalization nfd or nfkd, got {self.normalization}")
        if self.join != "space" and self.scheme != "words":
            raise SpecError("join", f"must be space unless scheme is words, got {self.join} for scheme {self.scheme}")
        least = self.first_ordinary_id + 1
        if self.vocabulary_size < least:
            raise SpecError(
                "vocabulary_size",
                f"must be at least {least}, one more than {len(SPECIAL_TOKENS)} special and {len(self.reserved)} "
                f"reserved tokens, got {self.vocabulary_size}",
            )
        for token in self.begin_tokens:
            if token not in self.reserved:
                raise SpecError("begin", f"must be one of the tokens in reserved, got {self._unknown(token)}")

    def training_positions(self, recipe: Any) -> tuple[int, str]:
        length = recipe.data.max_source_length
        return length, f"data.max_source_length ({length})"

    def default_max_input(self, recipe: Any) -> int:
        return self._usual_max_input(recipe, recipe.data.max_source_length)

    @property
    def extends_copies(self) -> bool:
        """Whether a decoder that copies can copy words that the vocabulary lacks: those that are one token."""
        return self.scheme in ("words", "characters")

    @property
    def text(self) -> TextSpec:
        """The settings of the texts that a source consists of."""
        return self

    @property
    def leading_tokens(self) -> tuple[str, ...]:
        """The special and reserved tokens, which have the first ids. Tokenization of text never gives them."""
        return (*SPECIAL_TOKENS, *self.reserved)

    @property
    def begin_tokens(self) -> tuple[str, ...]:
        """The reserved tokens that every text begins with."""
        return tuple(self.begin.split())

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """The ids of `begin_tokens`."""
        return tuple(map(self.reserved_id, self.begin_tokens))

    @property
    def first_ordinary_id(self) -> int:
        """The first id that tokenization of text can give."""
        return len(self.leading_tokens)

    def reserved_id(self, token: str) -> int:
        """Returns the id of a reserved token.

        Raises:
            UserError: the token is not reserved.
        """
        if token not in self.reserved:
            raise UserError(f"expected a reserved token, got {self._unknown(token)}")
        return len(SPECIAL_TOKENS) + self.reserved.index(token)

    def _unknown(self, token: str) -> str:
        """Returns the end of a message: a token that is not reserved, and the most similar reserved token."""
        if not self.reserved:
            return f"{token!r}; reserved is empty"
        close = difflib.get_close_matches(token, self.reserved, n=1, cutoff=0.5)
        return f"{token!r}; " + (f"did you mean {close[0]!r}?" if close else f"reserved has {', '.join(self.reserved)}")


@dataclass(frozen=True)
class DialogueSpec(TextSpec):
    """Conversion of dialogues to token ids. The model answers the last turn, and reads turns before it.

    Each turn begins with the reserved token of its speaker. Files that do not name speakers have two, who take turns.
    """

    provides: ClassVar[frozenset[str]] = TextSpec.provides - {"pairs", "records"} | {"dialogue"}

    kind: Literal["dialogue"] = setting("dialogue", "kind of source")  # type: ignore[assignment]
    vocabulary_size: int = setting(8000, "maximum vocabulary size, with special and reserved tokens", low=7)
    reserved: tuple[str, ...] = setting(("<self>", "<other>"), "additional special tokens, with those of speakers")
    speakers: tuple[str, ...] = setting(
        ("<self>", "<other>"),
        "reserved tokens that turns begin with: of the speaker who answers, and of other speakers in the order of "
        "their last turns, from the last one backward; further speakers share the last token",
    )
    separator: str = setting("__eou__", "text between two turns of a line that is no JSON list")

    @property
    def extends_copies(self) -> bool:
        """False: of turns, a decoder copies only words that the target vocabulary has."""
        return False

    def check(self) -> None:
        super().check()
        if self.begin:
            raise SpecError("begin", f"must be empty, as turns begin with tokens of speakers, got {self.begin!r}")
        if not 2 <= len(self.speakers) <= 10 or len(set(self.speakers)) < len(self.speakers):
            raise SpecError("speakers", f"must be 2 to 10 different reserved tokens, got {', '.join(self.speakers)!r}")
        for index, token in enumerate(self.speakers):
            if token not in self.reserved:
                raise SpecError(
                    f"speakers[{index}]", f"must be one of the tokens in reserved, got {self._unknown(token)}"
                )
        if not self.separator or self.separator != self.separator.strip():
            raise SpecError("separator", f"must be text without white space at its ends, got {self.separator!r}")

    @property
    def text(self) -> TextSpec:
        fields = (field.name for field in dataclasses.fields(TextSpec) if field.name != "kind")
        return TextSpec(**{name: getattr(self, name) for name in fields})

    def check_recipe(self, recipe: Any) -> None:
        for name, corpus in (("train", recipe.data.train), ("validation", recipe.data.validation)):
            if corpus.target:
                raise SpecError(
                    f"data.{name}.target",
                    f"must be empty with source.kind dialogue; give data.{name}.dialogues, got {corpus.target!r}",
                )
        super().check_recipe(recipe)


def _reserved_fault(token: str, scheme: Scheme) -> str:
    """Returns the first condition that a reserved token does not meet, or an empty string if it meets all."""
    # SentencePiece writes spaces as U+2581, so this character counts as white space.
    if not token.isprintable() or " " in token or "\u2581" in token:
        return "must be of printable characters without white space"
    if len(token) < 2:
        # In most schemes single characters are ordinary tokens. If one is reserved, text cannot contain it.
        return "must have at least two characters"
    if token in SPECIAL_TOKENS:
        return f"must not be one of {', '.join(SPECIAL_TOKENS)}"
    if re.fullmatch("<0x[0-9A-F]{2}>", token):
        return "must not be the name of a byte"
    if scheme == "wordpiece" and token.startswith("##"):
        return "must not begin with ##, the mark of pieces inside words"
    return ""


@dataclass(frozen=True)
class AugmentationSpec(Spec):
    """Augmentation of recordings in training. Random numbers are drawn anew each time a recording is used."""

    speed: float = setting(
        0.0, "maximum change of the speed, as a share of it (0: off; Ko et al. 2015 use 0.1)", low=0, high=0.5
    )
    gain: float = setting(0.0, "maximum change of the level, in dB (0: off)", low=0)
    noise: float = setting(0.0, "probability that white noise is added to a recording (0: off)", low=0, high=1)
    noise_low: float = setting(5.0, "minimum signal-to-noise ratio of the added noise, in dB")
    noise_high: float = setting(30.0, "maximum signal-to-noise ratio of the added noise, in dB")
    frequency_masks: int = setting(
        2, "number of frequency masks per recording (SpecAugment, Park et al. 2019; 0: off)", low=0
    )
    frequency_width: int = setting(20, "maximum width of a frequency mask, in bins", low=0)
    time_masks: int = setting(2, "number of time masks per recording (0: off)", low=0)
    time_share: float = setting(0.05, "maximum width of a time mask, as a share of the recording", low=0, high=1)

    def check(self) -> None:
        if self.noise_low > self.noise_high:
            raise SpecError("noise_low", f"must be at most noise_high ({self.noise_high}), got {self.noise_low}")


@dataclass(frozen=True)
class AudioSpec(SourceBase):
    """Conversion of recordings to frames of features. The model contains it, so it runs on the device.

    The convention determines the mel scale, the window, the framing, the logarithm and the scale of the values. htk and
    slaney are as in librosa, whisper is as in Radford et al. 2022, and kaldi is Kaldi's fbank without dither.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"source", "audio", "manifest", "records"})
    least_max_input: ClassVar[int] = 60
    input_unit: ClassVar[str] = "seconds"

    kind: Literal["audio"] = setting("audio", "kind of source")
    sample_rate: int = setting(16000, "sample rate of the model in Hz; recordings are resampled to it", low=1000)
    features: Literal["log_mel", "mfcc"] = setting("log_mel", "features of a frame")
    convention: Literal["htk", "slaney", "whisper", "kaldi"] = setting("slaney", "definition of the log-mel energies")
    bins: int = setting(80, "number of mel bins", low=1)
    window: float = setting(0.025, "length of a frame, in seconds", low=0.001)
    hop: float = setting(0.010, "time between the starts of neighboring frames, in seconds", low=0.001)
    low_frequency: float = setting(0.0, "lower edge of the first bin, in Hz", low=0)
    high_frequency: float = setting(0.0, "upper edge of the last bin, in Hz (0: half the sample rate)", low=0)
    coefficients: int = setting(13, "number of cepstral coefficients, for mfcc", low=1)
    deltas: bool = setting(False, "add first and second differences over time")
    normalization: Literal["none", "utterance", "global"] = setting(
        "utterance",
        "normalization of each bin to mean 0 and variance 1: utterance over each recording, global over the training "
        "corpus",
    )
    denoise: float = setting(
        0.0, "multiple of the noise floor to subtract from the spectrum (Boll 1979; 0: off)", low=0
    )
    trim: float = setting(0.0, "cut frames at both ends that are this many dB below the loudest frame (0: off)", low=0)
    subsampling: int = setting(
        4, "number of frames that strided convolutions join into one: 1, 2, 4 or 8", low=1, high=8
    )
    input_layer: Literal["conv2d", "conv1d"] = setting(
        "conv2d",
        "convolutions of the subsampling: conv2d over time and frequency, conv1d over time alone, with GELU (Radford "
        "et al. 2022)",
    )
    pad_seconds: int = setting(
        0, "length in seconds that recordings are padded to with silence; longer ones are not answered (0: off)", low=0
    )
    augmentation: AugmentationSpec = group(AugmentationSpec, "augmentation of recordings in training")

    def check(self) -> None:
        nyquist = self.sample_rate / 2
        high = self.high_frequency or nyquist
        if self.high_frequency > nyquist:
            raise SpecError(
                "high_frequency", f"must be at most half the sample rate ({nyquist:g}), got {self.high_frequency}"
            )
        if self.low_frequency >= high:
            raise SpecError("low_frequency", f"must be below high_frequency ({high:g}), got {self.low_frequency}")
        if self.hop > self.window:
            raise SpecError(
                "hop", f"must be at most window ({self.window}), so that no sample is skipped, got {self.hop}"
            )
        if self.subsampling not in (1, 2, 4, 8):
            raise SpecError("subsampling", f"must be 1, 2, 4 or 8, got {self.subsampling}")
        if self.features == "mfcc" and self.coefficients > self.bins:
            raise SpecError("coefficients", f"must be at most bins ({self.bins}), got {self.coefficients}")
        if self.pad_seconds and self.trim:
            raise SpecError("trim", f"must be 0 with pad_seconds, as the padding is silence, got {self.trim:g}")
        if self.convention == "whisper" and (self.denoise or self.features == "mfcc"):
            raise SpecError("convention", "must not be whisper with mfcc features or denoise, got whisper; try slaney")

    def training_positions(self, recipe: Any) -> tuple[int, str]:
        if self.pad_seconds:
            return self._positions(self.pad_seconds), f"source.pad_seconds ({self.pad_seconds})"
        seconds = recipe.data.max_seconds
        return self._positions(seconds), f"data.max_seconds ({seconds:g})"

    def _positions(self, seconds: float) -> int:
        """The number of positions of a recording, rounded up but for errors of the last digit."""
        return math.ceil(seconds / (self.hop * self.subsampling) - 1e-6)

    def input_of(self, positions: int) -> int:
        return int(positions * self.hop * self.subsampling)

    def default_max_input(self, recipe: Any) -> int:
        if self.pad_seconds:
            return self.pad_seconds
        return self._usual_max_input(recipe, recipe.data.max_seconds)

    def check_recipe(self, recipe: Any) -> None:
        super().check_recipe(recipe)
        if self.pad_seconds:
            self._check_padding(recipe)
        if not recipe.model.encoder.streams:
            return
        if self.normalization == "utterance" or self.convention == "whisper" or self.trim or self.denoise:
            raise SpecError(
                "model.encoder.chunk",
                "must be 0 unless source.normalization is global or none, source.convention is not whisper, and "
                "source.trim and source.denoise are 0, as a stream is read before its end, got an encoder that "
                "streams",
            )
        if self.deltas:
            raise SpecError(
                "source.deltas", "must be false with model.encoder.chunk, as deltas need later frames, got true"
            )

    def _check_padding(self, recipe: Any) -> None:
        """Raises `SpecError` if recordings can be longer than what they are padded to, or are read before their end."""
        most = f"must be at most source.pad_seconds ({self.pad_seconds})"
        if recipe.data.max_seconds > self.pad_seconds:
            raise SpecError("data.max_seconds", f"{most}, got {recipe.data.max_seconds:g}")
        if recipe.search.max_input > self.pad_seconds:
            raise SpecError("search.max_input", f"{most}, got {recipe.search.max_input}")
        if recipe.model.encoder.streams:
            raise SpecError("source.pad_seconds", f"must be 0 with an encoder that streams, got {self.pad_seconds}")

    @property
    def frame_width(self) -> int:
        """The number of values in a frame."""
        width = self.coefficients if self.features == "mfcc" else self.bins
        return 3 * width if self.deltas else width


@dataclass(frozen=True)
class ImageSpec(SourceBase):
    """Conversion of pictures (JPEG, PNG, GIF, BMP) to a grid of vectors.

    A picture is turned as its EXIF data says, laid over the background where it is transparent, and resized to a square
    of `size` pixels. The model contains the rest: normalization, augmentation and backbone.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"source", "image", "manifest"})
    least_max_input: ClassVar[int] = 50
    input_unit: ClassVar[str] = "megapixels"
    manifest_metrics: ClassVar[tuple[str, ...]] = ("bleu", "rougeL", "cider")
    # What an input is, for messages.
    noun: ClassVar[str] = "pictures"

    kind: Literal["image"] = setting("image", "kind of source")
    size: int = setting(224, "height and width of the pictures that the model reads, in pixels", low=8, high=4096)
    fit: Literal["stretch", "crop", "pad"] = setting(
        "stretch",
        "how a picture becomes a square: stretch changes its proportions, crop cuts its longer side, pad adds black",
    )
    background: tuple[int, ...] = setting(
        (255, 255, 255), "red, green and blue behind transparent pictures, from 0 to 255", low=0, high=255
    )
    normalization: Literal["symmetric", "unit", "imagenet"] = setting(
        "symmetric",
        "values of pixels in the model: symmetric from -1 to 1, unit from 0 to 1, imagenet with the mean 0 and the "
        "variance 1 of each color in ImageNet",
    )
    backbone: BackboneSpec = group(
        ConvolutionBackboneSpec, "pixels to vectors: of kind convolution, patches or keras_hub"
    )
    augmentation: ImageAugmentationSpec = group(ImageAugmentationSpec, "augmentation of pictures in training")

    def check(self) -> None:
        if len(self.background) != 3:
            raise SpecError("background", f"must be three numbers, red, green and blue, got {len(self.background)}")
        with prefixed("backbone"):
            self.backbone.check_size(self.size)
        if self.backbone.precomputed and self.augmentation.active:
            raise SpecError(
                "augmentation",
                f"must be off with backbone.kind {self.backbone.kind} and backbone.trainable false, as the vectors of "
                "a picture are computed once",
            )
        if self.backbone.scales_pixels and self.normalization != "symmetric":
            raise SpecError(
                "normalization",
                f"must be left out with backbone.kind {self.backbone.kind}, which scales pixels as its preset says, "
                f"got {self.normalization}",
            )

    def training_positions(self, recipe: Any) -> tuple[int, str]:
        return self.backbone.grid(self.size), f"source.size ({self.size})"

    def input_of(self, positions: int) -> int:
        # A picture of any size has the same positions.
        return 2**31 - 1

    def default_max_input(self, recipe: Any) -> int:
        return self.least_max_input


@dataclass(frozen=True)
class VideoSpec(ImageSpec):
    """Conversion of clips (animated GIF, or folders of frames) to vectors in the order of time.

    Frames are sampled evenly and become squares as pictures do. The model contains the rest: normalization,
    augmentation (drawn once for all frames of a clip), the backbone over each frame, and positions in time.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"source", "manifest"})
    noun: ClassVar[str] = "clips"

    kind: Literal["video"] = setting("video", "kind of source")  # type: ignore[assignment]
    frames: int = setting(
        12, "number of frames that the model reads, sampled evenly; a shorter clip repeats frames", low=1, high=512
    )
    size: int = setting(64, "height and width of the frames that the model reads, in pixels", low=8, high=4096)
    vectors: Literal["frame", "grid"] = setting(
        "frame",
        "vectors that the encoder reads: frame joins the grid of each frame to one vector, which keeps what is where; "
        "grid gives all vectors of all frames",
    )
    backbone: NewBackboneSpec = group(  # type: ignore[assignment]
        ConvolutionBackboneSpec, "backbone of kind convolution or patches, over each frame"
    )
    time_positions: GridPositions = setting("sinusoidal", "encoding of the place of a frame in the clip")

    @property
    def positions(self) -> int:
        """The number of vectors of a clip."""
        return self.frames * (1 if self.vectors == "frame" else self.backbone.grid(self.size))

    def training_positions(self, recipe: Any) -> tuple[int, str]:
        return self.positions, f"source.frames ({self.frames})"


SourceSpec = TextSpec | AudioSpec | NoSourceSpec | DialogueSpec | ImageSpec | VideoSpec
