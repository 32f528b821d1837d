"""What a model reads, and how text becomes ids: one spec for each modality."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tfseq2seq.errors import UserError
from tfseq2seq.spec.base import SPECIAL_TOKENS, Spec, SpecError, group, prefixed, setting

Scheme = Literal["unigram", "bpe", "wordpiece", "words", "characters", "bytes"]


class SourceBase(Spec):
    """What all kinds of source answer."""

    def check_recipe(self, recipe: Any) -> None:
        """Raises `SpecError` where the rest of a recipe does not suit this source; keys are of the whole recipe."""
        for name, corpus in (("train", recipe.data.train), ("validation", recipe.data.validation)):
            if bool(corpus.source) != bool(corpus.target):
                given, missing = ("source", "target") if corpus.source else ("target", "source")
                raise SpecError(
                    f"data.{name}.{missing}", f"must be given, as source and target come together, got {given} alone"
                )
        with prefixed("model.decoder"):
            recipe.model.decoder.check_memory(recipe.model.encoder.memory_width(recipe.model.width))


@dataclass(frozen=True)
class NoSourceSpec(SourceBase):
    """No source: the decoder alone is a language model of the target, and continues prompts."""

    provides: ClassVar[frozenset[str]] = frozenset({"token batches"})

    kind: Literal["none"] = setting("none", "names this kind of source")

    def check_recipe(self, recipe: Any) -> None:
        with prefixed("model.decoder"):
            recipe.model.decoder.check_without_memory()
        if recipe.training.monitor != "loss":
            raise SpecError(
                "training.monitor", f"must be loss, as there are no references, got {recipe.training.monitor}"
            )


@dataclass(frozen=True)
class TextSpec(SourceBase):
    """How text becomes ids and ids become text."""

    provides: ClassVar[frozenset[str]] = frozenset({"source", "vocabulary", "token batches"})

    kind: Literal["text"] = setting("text", "names this kind of source")
    scheme: Scheme = setting("unigram", "unigram and bpe by SentencePiece, wordpiece, words, characters or bytes")
    vocabulary_size: int = setting(8000, "entries in the vocabulary, special and reserved tokens included", low=5)
    min_count: int = setting(1, "words and characters seen less often become <unk>", low=1)
    normalization: Literal["none", "nfc", "nfkc"] = setting("nfkc", "Unicode normalization of the input")
    lowercase: bool = setting(False, "fold case, after Unicode normalization")
    vocabulary: str = setting("", "an existing vocabulary file to use instead of learning one")
    reserved: tuple[str, ...] = setting((), "further special tokens, such as tags of languages or tasks")
    begin: str = setting("", "reserved token put before every text of this side, such as a language or task tag")

    def check(self) -> None:
        for index, token in enumerate(self.reserved):
            fault = _reserved_fault(token, self.scheme)
            if not fault and token in self.reserved[:index]:
                fault = "must come once"
            if fault:
                raise SpecError(f"reserved[{index}]", f"{fault}, got {token!r}")
        least = self.first_ordinary_id + 1
        if self.vocabulary_size < least:
            raise SpecError(
                "vocabulary_size",
                f"must be at least {least}, one more than {len(SPECIAL_TOKENS)} special and {len(self.reserved)} "
                f"reserved tokens, got {self.vocabulary_size}",
            )
        if self.begin and self.begin not in self.reserved:
            raise SpecError("begin", f"must be one of the tokens in reserved, got {self._unknown(self.begin)}")

    @property
    def leading_tokens(self) -> tuple[str, ...]:
        """The tokens with the first ids, special ones and reserved ones, which no text is tokenized to."""
        return (*SPECIAL_TOKENS, *self.reserved)

    @property
    def first_ordinary_id(self) -> int:
        """The first id of a token that text is tokenized to."""
        return len(self.leading_tokens)

    def reserved_id(self, token: str) -> int:
        """The id of a reserved token.

        Raises:
            UserError: there is no such reserved token.
        """
        if token not in self.reserved:
            raise UserError(f"a reserved token is expected, got {self._unknown(token)}")
        return len(SPECIAL_TOKENS) + self.reserved.index(token)

    def _unknown(self, token: str) -> str:
        """A token that is not reserved, and the nearest one that is."""
        if not self.reserved:
            return f"{token!r}; reserved is empty"
        close = difflib.get_close_matches(token, self.reserved, n=1, cutoff=0.5)
        return f"{token!r}; " + (f"did you mean {close[0]!r}?" if close else f"reserved has {', '.join(self.reserved)}")


def _reserved_fault(token: str, scheme: Scheme) -> str:
    """What must hold of a reserved token and does not; nothing where all does."""
    # The mark of a space in SentencePiece, U+2581, is a space to it.
    if not token.isprintable() or " " in token or "\u2581" in token:
        return "must be of printable characters without white space"
    if len(token) < 2:
        # A character by itself is a token of its own in most schemes, and text that holds it would have none for it.
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
class AudioSpec(SourceBase):
    """How recordings become frames of features, on device inside the model.

    The convention fixes mel scale, window, framing, logarithm and scale of values: htk and slaney as librosa computes
    them, whisper as in Radford et al. 2022, kaldi as in Kaldi's fbank without dither.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"source", "audio", "manifest"})

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

    def check_recipe(self, recipe: Any) -> None:
        super().check_recipe(recipe)
        if not recipe.model.encoder.streams:
            return
        if self.normalization == "utterance" or self.convention == "whisper" or self.trim or self.denoise:
            raise SpecError(
                "model.encoder.chunk",
                "a stream is read before its end: it needs source.normalization global or none, another "
                "source.convention than whisper, and neither source.trim nor source.denoise",
            )
        if self.deltas:
            raise SpecError("source.deltas", "deltas look ahead, which a stream cannot do")

    @property
    def frame_width(self) -> int:
        """Numbers that describe a frame."""
        width = self.coefficients if self.features == "mfcc" else self.bins
        return 3 * width if self.deltas else width


SourceSpec = TextSpec | AudioSpec | NoSourceSpec
