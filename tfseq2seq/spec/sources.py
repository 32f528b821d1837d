"""What a model reads, and how text becomes ids: one spec for each modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, group, setting

Scheme = Literal["unigram", "bpe", "wordpiece", "words", "characters", "bytes"]


@dataclass(frozen=True)
class TextSpec(Spec):
    """How text becomes ids and ids become text."""

    kind: Literal["text"] = setting("text", "names this kind of source")
    scheme: Scheme = setting("unigram", "unigram and bpe by SentencePiece, wordpiece, words, characters or bytes")
    vocabulary_size: int = setting(8000, "entries in the vocabulary, the four special ones included", low=5)
    min_count: int = setting(1, "words and characters seen less often become <unk>", low=1)
    normalization: Literal["none", "nfc", "nfkc"] = setting("nfkc", "Unicode normalization of the input")
    lowercase: bool = setting(False, "fold case, after Unicode normalization")
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
