"""A layer that computes features from recordings, with equal results in training, in serving and on all backends.

    samples [B, N] -> frames -> power spectrum -> mel -> denoise -> trim -> logarithm -> cepstrum -> differences
                                                                                     -> normalization -> [B, F, W]

The Fourier transform is a product with a constant matrix. TFLite's own transform supports only powers of two, and a
window of 25 ms has 400 samples. The product runs on all backends. It includes the window, the removal of the mean and
the pre-emphasis without extra cost, and omits frequencies that no filter uses.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfseq2seq.errors import UserError
from tfseq2seq.features.mel import dct_matrix, fourier_length, fourier_matrix, mel_filters
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import AudioSpec

# The minimum power before the logarithm. Kaldi's is the float32 epsilon, for samples at the scale of 16 bits.
_FLOOR = {"htk": 1e-10, "slaney": 1e-10, "whisper": 1e-10, "kaldi": float(np.finfo("float32").eps)}
# The minimum share of the power after spectral subtraction: -20 dB.
_POWER_FLOOR = 0.01
# A bin with a smaller variance counts as constant and is not scaled.
_MIN_VARIANCE = 1e-5


class AudioFeatures(keras.layers.Layer):
    """Computes frames of features [B, F, W] and frame lengths [B] from samples [B, N] and lengths [B].

    All computations are in float32, independent of the dtype policy; the result is cast to its compute dtype. The
    spectrum is computed in float64 if the backend supports it, because in float32 the rounding errors of loud
    frequencies disturb quiet ones. Samples after the end of a recording count as silence, whatever their values. The
    amount of padding does not change the result.

    - Windows and hops are rounded to samples (for kaldi the window is rounded down, as in Kaldi). The Fourier transform
      has as many points as the window has samples (`n_fft = win_length` in librosa). kaldi uses the next power of two.
    - htk, slaney: frames are centered and the recording is padded with zeros, as in librosa; ln(power), floor 1e-10.
    - whisper (Radford et al. 2022): frames are centered, the recording is padded by reflection at its ends, and the
      last frame is dropped; log10(power), floor 1e-10, clipped at 8 below the maximum, (x + 4) / 4.
      `normalization: none` gives the features of Whisper.
    - kaldi: only complete windows inside the recording; ln(power) of samples at the scale of 16 bits, floor 2^-23.
    - A recording with at least one sample has at least one frame, by padding with zeros. An empty recording has none.
    - denoise (spectral subtraction, Boll 1979, Berouti et al. 1979): in each mel bin, `denoise` times the mean power of
      the quietest tenth of the frames is subtracted. At least a hundredth of the power is kept. Frames of digital
      silence are not used to estimate the noise.
    - trim: frames at both ends that are `trim` dB or more below the loudest frame are cut. At least one frame is kept.
    - mfcc: orthonormal cosine transform of the logarithm, without lifter.
    - deltas: the slope of a regression over two frames on each side, with repeated end frames (HTK book, eq. 5.16).
      Second differences are the differences of the first.
    - normalization utterance: each bin has mean 0 and variance 1 over the frames of the recording. global: over the
      corpus, with the statistics from `adapt_statistics`; before it is called, frames are not changed.

    Args:
        spec: the options of the features.

    Raises:
        UserError: a mel filter is too narrow to contain any frequency of the spectrum.
    """

    def __init__(self, spec: AudioSpec, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.spec = spec
        rounded = (lambda x: int(x + 1e-6)) if spec.convention == "kaldi" else round
        self.window = max(rounded(spec.window * spec.sample_rate), 2)
        self.hop = min(max(round(spec.hop * spec.sample_rate), 1), self.window)
        self._centered = spec.convention != "kaldi"
        filters = _filters(spec, self.window)
        used = filters.any(axis=1)
        fourier = fourier_matrix(spec.convention, self.window)[:, used]
        self._filters = filters[used].astype("float32")
        # Reverts the area normalization of the filters, so that overlapping triangles sum to the power of the frame.
        self._loudness = (1 / filters.max(axis=0)).astype("float32")
        if self._centered:
            fourier = fourier[1 : self.window // 2 + 1]
            if self.window % 2 == 0:
                fourier[-1] /= 2  # the middle sample is its own reflection and would count twice
        self._fourier = fourier.real, fourier.imag
        # JAX has no float64 by default, and TFLite has no float64 product. The TFLite converter changes this attribute
        # during the conversion.
        self.double = keras.backend.backend() != "jax"
        self._cosines = dct_matrix(spec.coefficients, spec.bins).astype("float32")
        if spec.normalization == "global":
            self._count, self._mean, self._variance = (
                self.add_weight(shape, start, "float32", trainable=False, autocast=False, name=name)
                for name, shape, start in (
                    ("count", (), "zeros"),
                    ("mean", (spec.frame_width,), "zeros"),
                    ("variance", (spec.frame_width,), "ones"),
                )
            )
        self.built = True

    def frames_of(self, samples: Any) -> Any:
        """Returns the number of frames before trimming of recordings with `samples` samples.

        Args:
            samples: an int or an int32 tensor of any shape.
        """
        offset = self.window % 2 if self._centered else self.window
        last_frame = 0 if self.spec.convention == "whisper" else 1
        if isinstance(samples, int):
            return min(samples, 1) * max((samples - offset) // self.hop + last_frame, 1)
        return ops.minimum(samples, 1) * ops.maximum((samples - offset) // self.hop + last_frame, 1)

    @property
    def adapted(self) -> bool:
        """Whether global normalization has its statistics; True for other normalizations."""
        return self.spec.normalization != "global" or float(self._count) > 0

    def adapt_statistics(self, count: float, total: Any, squares: Any) -> None:
        """Sets the mean and variance of global normalization.

        Args:
            count: the number of frames in the sums.
            total: [W], the sum of `unnormalized` frames, in float64 for a corpus of any size.
            squares: [W], the sum of the squares of `unnormalized` frames.

        Raises:
            UserError: there are no frames, numbers are not finite, or the normalization is not global.
        """
        total, squares = np.asarray(total, "float64"), np.asarray(squares, "float64")
        if self.spec.normalization != "global":
            raise UserError(f"normalization: must be global to use statistics, got {self.spec.normalization}")
        if count < 1 or not (np.isfinite(total).all() and np.isfinite(squares).all()):
            raise UserError(
                f"normalization: needs finite statistics of at least one frame, got those of {count:g} frames; check "
                "the recordings"
            )
        mean = total / count
        variance = squares / count - mean**2
        self._mean.assign(mean.astype("float32"))
        self._variance.assign(np.where(variance < _MIN_VARIANCE, 1, variance).astype("float32"))
        self._count.assign(np.float32(count))

    def unnormalized(self, samples: Any, lengths: Any) -> tuple[Any, Any]:
        """Computes frames as `call`, but in float32 and without normalization over the recording or the corpus."""
        samples, lengths, width = _silenced(samples, lengths)
        power = self._mel_power(samples, lengths, width)
        frame_lengths = self.frames_of(lengths)
        if self.spec.denoise:
            power = self._denoised(power, frame_lengths)
        if self.spec.trim:
            power, frame_lengths = self._trimmed(power, frame_lengths)
        real = _within(power, frame_lengths)
        frames = self._logarithm(power, real)
        if self.spec.features == "mfcc":
            frames = self.multiply(frames, self._cosines)
        if self.spec.deltas:
            first = _slopes(frames, frame_lengths)
            frames = ops.concatenate([frames, first, _slopes(first, frame_lengths)], -1)
        return ops.where(real, frames, 0.0), frame_lengths

    def call(self, samples: Any, lengths: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Computes the features.

        Args:
            samples: [B, N] float in [-1, 1], with `spec.sample_rate` samples per second.
            lengths: [B] int, the number of samples of each recording.
            training: has no effect; augmentation has separate layers.

        Returns:
            Frames [B, F, W], with zeros after the last frame of each recording, where F is `frames_of(N)` and at least
            1; and frame lengths [B] int32.
        """
        frames, frame_lengths = self.unnormalized(samples, lengths)
        real = _within(frames, frame_lengths)
        if self.spec.normalization == "utterance":
            count = ops.maximum(ops.cast(frame_lengths, "float32"), 1.0)
            count = ops.reshape(count, (-1, 1, 1))
            frames = ops.where(real, frames - ops.sum(frames, axis=1, keepdims=True) / count, 0.0)
            variance = ops.sum(ops.square(frames), axis=1, keepdims=True) / count
            frames = frames / ops.sqrt(variance + _MIN_VARIANCE)
        elif self.spec.normalization == "global":
            mean, variance = (ops.convert_to_tensor(weight) for weight in (self._mean, self._variance))
            frames = ops.where(real, (frames - mean) / ops.sqrt(variance), 0.0)
        return ops.cast(frames, self.compute_dtype), frame_lengths

    def compute_output_spec(self, samples: Any, lengths: Any, training: bool | None = None) -> tuple[Any, Any]:
        batch, width = samples.shape
        frames = None if width is None else max(self.frames_of(width), 1)
        return (
            keras.KerasTensor((batch, frames, self.spec.frame_width), self.compute_dtype),
            keras.KerasTensor((batch,), "int32"),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spec": to_dict(self.spec)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AudioFeatures:
        other = {key: value for key, value in config.items() if key != "spec"}
        return cls(from_dict(AudioSpec, config["spec"]), **other)

    def _mel_power(self, samples: Any, lengths: Any, width: Any) -> Any:
        """Computes the power in the mel bins, [B, F, bins], of samples [B, N]."""
        overlap = -(-self.window // self.hop)
        # The padding at the end is enough for the reflection, and for one frame of a batch without samples.
        padding = self.window // 2 if self._centered else 0
        if self.spec.convention == "whisper":
            samples = _mirrored(samples, lengths, width, padding)
            padding = 0
        samples = ops.pad(samples, [[0, 0], [padding, overlap * self.hop]])
        count = self.frames_of(width)
        count = max(count, 1) if isinstance(count, int) else ops.maximum(count, 1)
        hops = samples[:, : (count + overlap - 1) * self.hop]
        hops = ops.reshape(hops, (ops.shape(hops)[0], -1, self.hop))
        cosine, sine = self._fourier
        if not self._centered:
            spectrum = self._spectrum(_stretch(hops, count, 0, self.window), np.concatenate([cosine, sine], 1))
            return self.multiply(spectrum, np.concatenate([self._filters] * 2))
        # The window is symmetric about its middle and zero at its first sample. The cosines therefore need only the sum
        # of each sample and its reflection, and the sines need only the difference. This halves the full product.
        half = self.window // 2
        forward = _stretch(hops, count, 1, half + 1)
        backward = _stretch(ops.flip(hops, axis=2), count, self.window - half, self.window, flipped=True)
        real, imaginary = self._spectrum(forward + backward, cosine), self._spectrum(forward - backward, sine)
        return self.multiply(real, self._filters) + self.multiply(imaginary, self._filters)

    def _spectrum(self, frames: Any, matrix: np.ndarray) -> Any:
        """Returns the squares, in float32, of the product of frames [B, F, I] with a matrix [I, O] float64."""
        if not self.double:
            return ops.square(self.multiply(frames, matrix.astype("float32")))
        return ops.cast(ops.square(ops.matmul(ops.cast(frames, "float64"), matrix)), "float32")

    def multiply(self, inputs: Any, matrix: np.ndarray) -> Any:
        """Calls `product`. The TFLite converter replaces this method where it would round the matrix."""
        return product(inputs, matrix)

    def _level(self, power: Any) -> Any:
        """Returns the power [B, F] of each frame between the lowest and the highest frequency, given [B, F, bins]."""
        return ops.sum(power * self._loudness, axis=-1)

    def _denoised(self, power: Any, lengths: Any) -> Any:
        level = self._level(power)
        non_silent = ops.logical_and(ops.squeeze(_within(power, lengths), -1), level > 0)
        tenth = (ops.sum(ops.cast(non_silent, "int32"), axis=1, keepdims=True) + 9) // 10
        ordered = ops.sort(ops.where(non_silent, level, 3e38), axis=1)
        indices = ops.expand_dims(ops.arange(ops.shape(level)[1], dtype="int32"), 0)
        threshold = ops.sum(ops.where(ops.equal(indices, tenth - 1), ordered, 0.0), axis=1, keepdims=True)
        is_noise = ops.expand_dims(ops.cast(ops.logical_and(non_silent, level <= threshold), "float32"), -1)
        noise = ops.sum(power * is_noise, axis=1, keepdims=True) / ops.maximum(
            ops.sum(is_noise, axis=1, keepdims=True), 1.0
        )
        return ops.maximum(power - self.spec.denoise * noise, _POWER_FLOOR * power)

    def _trimmed(self, power: Any, lengths: Any) -> tuple[Any, Any]:
        real = ops.squeeze(_within(power, lengths), -1)
        level = ops.where(real, self._level(power), 0.0)
        share = 10 ** (-self.spec.trim / 10)
        loud = ops.logical_and(real, level >= share * ops.max(level, axis=1, keepdims=True))
        count = ops.shape(power)[1]
        indices = ops.expand_dims(ops.arange(count, dtype="int32"), 0)
        first = ops.min(ops.where(loud, indices, count), axis=1, keepdims=True)
        last = ops.max(ops.where(loud, indices, -1), axis=1, keepdims=True)
        trimmed_lengths = ops.maximum(ops.squeeze(last - first, 1) + 1, 0)
        return _rows(power, ops.minimum(indices + first, count - 1)), trimmed_lengths

    def _logarithm(self, power: Any, real: Any) -> Any:
        logarithm = ops.log(ops.maximum(power, _FLOOR[self.spec.convention]))
        if self.spec.convention != "whisper":
            return logarithm
        logarithm = logarithm / math.log(10)
        peak = ops.max(ops.where(real, logarithm, -10.0), axis=(1, 2), keepdims=True)
        return (ops.maximum(logarithm, peak - 8.0) + 4.0) / 4.0


def product(inputs: Any, matrix: Any) -> Any:
    """Multiplies [..., I] float32 by a constant [I, O] float32, with float32 precision on accelerators too.

    GPUs and TPUs round the inputs of a matrix product to 11 or 8 bits, which adds noise to quiet frequencies. There,
    each input is split into a sum of two rounded numbers (Ootomo & Yokota 2022), so three products are computed instead
    of one.
    """
    if not _rounds_products():
        return ops.matmul(inputs, matrix)
    high, first = _leading_bits(inputs), _leading_bits(matrix)
    return ops.matmul(
        ops.concatenate([high, high, inputs - high], -1), ops.concatenate([first, matrix - first, first], 0)
    )


def _leading_bits(x: Any) -> Any:
    """Returns the 11 leading bits of float32 numbers (Dekker 1971)."""
    scaled = x * np.float32(2**13 + 1)
    return scaled - (scaled - x)


def _rounds_products() -> bool:
    # PyTorch does not round by default. This is evaluated in calls and not at import, because listing the devices
    # initializes them.
    if keras.backend.backend() not in ("tensorflow", "jax"):
        return False
    return not all(device.startswith("cpu") for device in keras.distribution.list_devices())


def _filters(spec: AudioSpec, window: int) -> np.ndarray:
    """Returns the mel filters [frequencies, bins]. Raises UserError if a filter is empty."""
    length, high = fourier_length(spec.convention, window), spec.high_frequency or spec.sample_rate / 2

    def make_filters(bins: int) -> np.ndarray:
        return mel_filters(spec.convention, spec.sample_rate, length, bins, spec.low_frequency, high)

    filters = make_filters(spec.bins)
    empty = int((filters.max(axis=0) < 1e-9).sum())
    if empty:
        working_bins = next(
            (bins for bins in range(spec.bins - 1, 0, -1) if (make_filters(bins).max(axis=0) >= 1e-9).all()), 0
        )
        advice = f"take {working_bins} bins or a longer window" if working_bins else "take a longer window"
        raise UserError(
            f"bins: every mel filter must contain a frequency of the spectrum; with {spec.bins} bins and a window of "
            f"{window} samples {empty} are empty; {advice}"
        )
    return filters


def _silenced(samples: Any, lengths: Any) -> tuple[Any, Any, Any]:
    """Returns float32 samples with zeros after their lengths, int32 lengths clipped to [0, N], and N."""
    samples = ops.cast(samples, "float32")
    width = ops.shape(samples)[1]
    lengths = ops.clip(ops.cast(lengths, "int32"), 0, width)
    indices = ops.expand_dims(ops.arange(width, dtype="int32"), 0)
    return ops.where(indices < ops.expand_dims(lengths, 1), samples, 0.0), lengths, width


def _within(frames: Any, lengths: Any) -> Any:
    """Returns a mask [B, F, 1] bool of the real frames, given frames [B, F, ...] and lengths [B]."""
    indices = ops.reshape(ops.arange(ops.shape(frames)[1], dtype="int32"), (1, -1, 1))
    return indices < ops.reshape(lengths, (-1, 1, 1))


def _stretch(hops: Any, count: Any, start: int, stop: int, flipped: bool = False) -> Any:
    """Returns the samples from start to stop of each frame, [B, count, stop - start].

    Args:
        hops: [B, H, hop], the signal split into hops.
        count: the number of frames.
        start: the first sample of the range in each frame.
        stop: the sample after the last one of the range.
        flipped: whether the samples in each hop are in reverse order. The samples of the result then are, too.
    """
    hop = hops.shape[2]
    spans = [
        (index, max(start - index * hop, 0), min(stop - index * hop, hop))
        for index in range(start // hop, -(-stop // hop))
    ]
    if flipped:
        spans = [(index, hop - high, hop - low) for index, low, high in reversed(spans)]
    return ops.concatenate([hops[:, index : index + count, low:high] for index, low, high in spans], -1)


def _mirrored(samples: Any, lengths: Any, width: Any, reach: int) -> Any:
    """Pads samples [B, N] to [B, N + 2 * reach] by reflection at both ends of each recording (numpy's "reflect")."""
    batch = ops.shape(samples)[0]
    samples = ops.pad(samples, [[0, 0], [0, reach]])
    last = ops.expand_dims(ops.maximum(lengths - 1, 0), 1)
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * (width + reach), 1)
    flat = ops.reshape(samples, (-1,))

    def image(indices: Any) -> Any:
        indices = ops.mod(indices, ops.maximum(2 * last, 1))
        return ops.take(flat, first + last - ops.abs(indices - last))

    steps = ops.expand_dims(ops.arange(reach, dtype="int32"), 0)
    beyond = ops.expand_dims(lengths, 1) + steps
    # Only the ends are gathered and written, because gathering complete recordings takes longer than all other steps.
    flat = ops.scatter_update(flat, ops.reshape(first + beyond, (-1, 1)), ops.reshape(image(beyond), (-1,)))
    return ops.concatenate([image(steps - reach), ops.reshape(flat, (batch, -1))], 1)


def _rows(frames: Any, indices: Any) -> Any:
    """Returns the frames [B, P, W] at indices [B, P] int of frames [B, F, W]."""
    batch, count, width = ops.shape(frames)[0], ops.shape(frames)[1], frames.shape[2]
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * count, 1)
    return ops.take(ops.reshape(frames, (-1, width)), first + indices, axis=0)


def _slopes(frames: Any, lengths: Any) -> Any:
    """Returns the slopes [B, F, W] of a regression over two frames on each side, given frames [B, F, W]."""
    count = ops.shape(frames)[1]
    last = _rows(frames, ops.expand_dims(ops.maximum(lengths - 1, 0), 1))
    padded = ops.where(_within(frames, lengths), frames, last)
    padded = ops.concatenate([padded[:, :1], padded[:, :1], padded, last, last], 1)
    near = padded[:, 3 : 3 + count] - padded[:, 1 : 1 + count]
    far = padded[:, 4 : 4 + count] - padded[:, :count]
    return (near + 2.0 * far) / 10.0
