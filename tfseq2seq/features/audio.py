"""Recordings to frames of features, as a layer: the same numbers in training, in serving and on every backend.

    samples [B, N] -> frames -> power spectrum -> mel -> denoise -> trim -> logarithm -> cepstrum -> differences
                                                                                     -> normalization -> [B, F, W]

The Fourier transform is a product with a constant matrix. TFLite's own transform takes powers of two only and a window
of 25 ms is 400 samples; the product runs everywhere and takes in window, offset and pre-emphasis at no cost. It also
leaves out what no filter looks at.
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

# Least power that the logarithm sees; Kaldi's is the step of float32 at 1, of samples at the scale of 16 bits.
_FLOOR = {"htk": 1e-10, "slaney": 1e-10, "whisper": 1e-10, "kaldi": float(np.finfo("float32").eps)}
# What spectral subtraction leaves at least: 20 dB below what was there.
_LEFT_OVER = 0.01
# Below this variance a bin is taken to be constant, and is left as wide as it is.
_LEAST_VARIANCE = 1e-5


class AudioFeatures(keras.layers.Layer):
    """Samples [B, N] and lengths [B] to frames [B, F, W] and frame lengths [B].

    Everything is computed in float32 whatever the dtype policy, and cast to it at the end; the spectrum in float64
    where there is such a type: in float32 the rounding errors of a loud frequency are heard in the quiet ones. What
    lies beyond a recording's length is taken as silence, whatever it holds, and more of it changes nothing.

    - Windows and hops are rounded to samples (kaldi cuts the window down, as Kaldi does). The transform has as many
      points as the window has samples: `n_fft = win_length` for librosa; kaldi takes the next power of two.
    - htk, slaney: frames are centered and the recording continued by zeros, as librosa has it; ln(power), floor 1e-10.
    - whisper (Radford et al. 2022): centered, the recording mirrored at its own ends, the last frame dropped;
      log10(power), floor 1e-10, cut 8 below its greatest value, (x + 4) / 4. `normalization: none` leaves Whisper's
      own numbers.
    - kaldi: whole windows within the recording only; ln(power) of samples at the scale of 16 bits, floor 2^-23.
    - A recording of one sample or more has one frame or more, zeros being added; a recording of none has none.
    - denoise (Boll 1979, Berouti et al. 1979): in each mel bin, `denoise` times the mean power of the quietest tenth of
      the frames is taken off, and a hundredth of the power kept. Frames of digital silence tell nothing of the noise.
    - trim: frames at both ends are cut that are `trim` dB or more below the loudest; a frame remains at least.
    - mfcc: orthonormal cosine transform of the logarithm, without lifter.
    - deltas: the slope of a regression over two frames either side, ends repeated (HTK book, eq. 5.16); second
      differences are differences of the first.
    - utterance: each bin has mean 0 and variance 1 over the recording's frames. global: over the corpus, by
      `adapt_statistics`; before that, frames pass unchanged.

    Args:
        spec: what to compute.

    Raises:
        UserError: some mel filter would be too narrow to hold any frequency.
    """

    def __init__(self, spec: AudioSpec, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.spec = spec
        whole = (lambda x: int(x + 1e-6)) if spec.convention == "kaldi" else round
        self.window = max(whole(spec.window * spec.sample_rate), 2)
        self.hop = min(max(round(spec.hop * spec.sample_rate), 1), self.window)
        self._centered = spec.convention != "kaldi"
        filters = _filters(spec, self.window)
        heard = filters.any(axis=1)
        fourier = fourier_matrix(spec.convention, self.window)[:, heard]
        self._filters = filters[heard].astype("float32")
        # Undoes the area of the filters: overlapping triangles then add up to the power of the frame.
        self._loudness = (1 / filters.max(axis=0)).astype("float32")
        if self._centered:
            fourier = fourier[1 : self.window // 2 + 1]
            if self.window % 2 == 0:
                fourier[-1] /= 2  # the sample in the middle is its own mirror image
        self._fourier = fourier.real, fourier.imag
        # JAX has no float64 unless told to, and TFLite no product of it: its converter sets this for the time being.
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
        """Frames of a recording of so many samples, an int or an int32 tensor of any shape, before trimming."""
        offset = self.window % 2 if self._centered else self.window
        more = 0 if self.spec.convention == "whisper" else 1
        if isinstance(samples, int):
            return min(samples, 1) * max((samples - offset) // self.hop + more, 1)
        return ops.minimum(samples, 1) * ops.maximum((samples - offset) // self.hop + more, 1)

    @property
    def adapted(self) -> bool:
        """Whether global normalization has been given its statistics; True where none are needed."""
        return self.spec.normalization != "global" or float(self._count) > 0

    def adapt_statistics(self, count: float, total: Any, squares: Any) -> None:
        """Sets the mean and variance of global normalization.

        Args:
            count: frames that were added up.
            total: [W], the sum of `unnormalized` frames, in float64 for a corpus of any size.
            squares: [W], the sum of their squares.

        Raises:
            UserError: no frames, numbers that are not finite, or another normalization.
        """
        total, squares = np.asarray(total, "float64"), np.asarray(squares, "float64")
        if self.spec.normalization != "global":
            raise UserError(f"normalization: {self.spec.normalization} takes no statistics; set it to global")
        if count < 1 or not (np.isfinite(total).all() and np.isfinite(squares).all()):
            raise UserError(f"normalization: statistics of {count:g} frames cannot be used; check the recordings")
        mean = total / count
        variance = squares / count - mean**2
        self._mean.assign(mean.astype("float32"))
        self._variance.assign(np.where(variance < _LEAST_VARIANCE, 1, variance).astype("float32"))
        self._count.assign(np.float32(count))

    def unnormalized(self, samples: Any, lengths: Any) -> tuple[Any, Any]:
        """As `call`, in float32 and without normalization over the recording or the corpus."""
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
        """
        Args:
            samples: [B, N] float in [-1, 1], `spec.sample_rate` a second.
            lengths: [B] int, samples of each recording.
            training: changes nothing here; augmentation has its own layers.

        Returns:
            frames [B, F, W], zero beyond a recording's frames, where F is `frames_of(N)` and 1 at least;
            frame lengths [B] int32.
        """
        frames, frame_lengths = self.unnormalized(samples, lengths)
        real = _within(frames, frame_lengths)
        if self.spec.normalization == "utterance":
            count = ops.maximum(ops.cast(frame_lengths, "float32"), 1.0)
            count = ops.reshape(count, (-1, 1, 1))
            frames = ops.where(real, frames - ops.sum(frames, axis=1, keepdims=True) / count, 0.0)
            variance = ops.sum(ops.square(frames), axis=1, keepdims=True) / count
            frames = frames / ops.sqrt(variance + _LEAST_VARIANCE)
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
        kept = {key: value for key, value in config.items() if key != "spec"}
        return cls(from_dict(AudioSpec, config["spec"]), **kept)

    def _mel_power(self, samples: Any, lengths: Any, width: Any) -> Any:
        """[B, N] to [B, F, bins]."""
        overlap = -(-self.window // self.hop)
        # One frame more than `width` has: there is room for the mirror image, and a batch of no samples has a frame.
        ahead = self.window // 2 if self._centered else 0
        if self.spec.convention == "whisper":
            samples = _mirrored(samples, lengths, width, ahead)
            ahead = 0
        samples = ops.pad(samples, [[0, 0], [ahead, overlap * self.hop]])
        count = self.frames_of(width)
        count = max(count, 1) if isinstance(count, int) else ops.maximum(count, 1)
        hops = samples[:, : (count + overlap - 1) * self.hop]
        hops = ops.reshape(hops, (ops.shape(hops)[0], -1, self.hop))
        cosine, sine = self._fourier
        if not self._centered:
            spectrum = self._spectrum(_stretch(hops, count, 0, self.window), np.concatenate([cosine, sine], 1))
            return self.multiply(spectrum, np.concatenate([self._filters] * 2))
        # The window is symmetric about its middle and zero at its first sample. Cosines then see the sum of a sample
        # and its mirror image, sines the difference: half the work of the full product.
        half = self.window // 2
        forward = _stretch(hops, count, 1, half + 1)
        backward = _stretch(ops.flip(hops, axis=2), count, self.window - half, self.window, flipped=True)
        real, imaginary = self._spectrum(forward + backward, cosine), self._spectrum(forward - backward, sine)
        return self.multiply(real, self._filters) + self.multiply(imaginary, self._filters)

    def _spectrum(self, frames: Any, matrix: np.ndarray) -> Any:
        """Squares of the product of frames [B, F, I] with [I, O] float64, in float32."""
        if not self.double:
            return ops.square(self.multiply(frames, matrix.astype("float32")))
        return ops.cast(ops.square(ops.matmul(ops.cast(frames, "float64"), matrix)), "float32")

    def multiply(self, inputs: Any, matrix: np.ndarray) -> Any:
        """`product`; TFLite's converter sets another where it would round the matrix."""
        return product(inputs, matrix)

    def _level(self, power: Any) -> Any:
        """[B, F, bins] to [B, F]: power of each frame between the lowest and the highest frequency."""
        return ops.sum(power * self._loudness, axis=-1)

    def _denoised(self, power: Any, lengths: Any) -> Any:
        level = self._level(power)
        sounding = ops.logical_and(ops.squeeze(_within(power, lengths), -1), level > 0)
        tenth = (ops.sum(ops.cast(sounding, "int32"), axis=1, keepdims=True) + 9) // 10
        ordered = ops.sort(ops.where(sounding, level, 3e38), axis=1)
        indices = ops.expand_dims(ops.arange(ops.shape(level)[1], dtype="int32"), 0)
        loudest = ops.sum(ops.where(ops.equal(indices, tenth - 1), ordered, 0.0), axis=1, keepdims=True)
        quiet = ops.expand_dims(ops.cast(ops.logical_and(sounding, level <= loudest), "float32"), -1)
        noise = ops.sum(power * quiet, axis=1, keepdims=True) / ops.maximum(ops.sum(quiet, axis=1, keepdims=True), 1.0)
        return ops.maximum(power - self.spec.denoise * noise, _LEFT_OVER * power)

    def _trimmed(self, power: Any, lengths: Any) -> tuple[Any, Any]:
        real = ops.squeeze(_within(power, lengths), -1)
        level = ops.where(real, self._level(power), 0.0)
        share = 10 ** (-self.spec.trim / 10)
        loud = ops.logical_and(real, level >= share * ops.max(level, axis=1, keepdims=True))
        count = ops.shape(power)[1]
        indices = ops.expand_dims(ops.arange(count, dtype="int32"), 0)
        first = ops.min(ops.where(loud, indices, count), axis=1, keepdims=True)
        last = ops.max(ops.where(loud, indices, -1), axis=1, keepdims=True)
        kept = ops.maximum(ops.squeeze(last - first, 1) + 1, 0)
        return _rows(power, ops.minimum(indices + first, count - 1)), kept

    def _logarithm(self, power: Any, real: Any) -> Any:
        logarithm = ops.log(ops.maximum(power, _FLOOR[self.spec.convention]))
        if self.spec.convention != "whisper":
            return logarithm
        logarithm = logarithm / math.log(10)
        peak = ops.max(ops.where(real, logarithm, -10.0), axis=(1, 2), keepdims=True)
        return (ops.maximum(logarithm, peak - 8.0) + 4.0) / 4.0


def product(inputs: Any, matrix: Any) -> Any:
    """[..., I] float32 times a constant [I, O] float32, exact to float32 on accelerators too.

    GPUs and TPUs round what enters a matrix product, to 11 bits or to 8: noise that buries the quiet half of it.
    There, a number enters as the sum of two such numbers (Ootomo & Yokota 2022), three products instead of one.
    """
    if not _rounds_products():
        return ops.matmul(inputs, matrix)
    high, first = _leading_bits(inputs), _leading_bits(matrix)
    return ops.matmul(
        ops.concatenate([high, high, inputs - high], -1), ops.concatenate([first, matrix - first, first], 0)
    )


def _leading_bits(x: Any) -> Any:
    """The 11 leading bits of float32 numbers (Dekker 1971)."""
    scaled = x * np.float32(2**13 + 1)
    return scaled - (scaled - x)


def _rounds_products() -> bool:
    # PyTorch rounds only where it is told to. Asked in calls, as listing devices settles which there are.
    if keras.backend.backend() not in ("tensorflow", "jax"):
        return False
    return not all(device.startswith("cpu") for device in keras.distribution.list_devices())


def _filters(spec: AudioSpec, window: int) -> np.ndarray:
    """[frequencies, bins], with something in every bin."""
    length, high = fourier_length(spec.convention, window), spec.high_frequency or spec.sample_rate / 2

    def made(bins: int) -> np.ndarray:
        return mel_filters(spec.convention, spec.sample_rate, length, bins, spec.low_frequency, high)

    filters = made(spec.bins)
    empty = int((filters.max(axis=0) < 1e-9).sum())
    if empty:
        fits = next((bins for bins in range(spec.bins - 1, 0, -1) if (made(bins).max(axis=0) >= 1e-9).all()), 0)
        advice = f"take {fits} bins or a longer window" if fits else "take a longer window"
        raise UserError(
            f"bins: with {spec.bins} bins and a window of {window} samples, no frequency falls into {empty} of the mel "
            f"filters; {advice}"
        )
    return filters


def _silenced(samples: Any, lengths: Any) -> tuple[Any, Any, Any]:
    """Samples float32 and zero beyond their length, lengths int32 and within [0, N], N."""
    samples = ops.cast(samples, "float32")
    width = ops.shape(samples)[1]
    lengths = ops.clip(ops.cast(lengths, "int32"), 0, width)
    indices = ops.expand_dims(ops.arange(width, dtype="int32"), 0)
    return ops.where(indices < ops.expand_dims(lengths, 1), samples, 0.0), lengths, width


def _within(frames: Any, lengths: Any) -> Any:
    """[B, F, ...] and [B] to [B, F, 1] bool: real frames."""
    indices = ops.reshape(ops.arange(ops.shape(frames)[1], dtype="int32"), (1, -1, 1))
    return indices < ops.reshape(lengths, (-1, 1, 1))


def _stretch(hops: Any, count: Any, start: int, stop: int, flipped: bool = False) -> Any:
    """Samples from start to stop of each frame, [B, count, stop - start], from the signal cut into hops [B, H, hop].

    flipped: the samples within each hop run backwards, and so does the result.
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
    """[B, N] to [B, N + 2 * reach]: each recording goes on both ways as its mirror image, numpy's "reflect"."""
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
    # Only the ends are gathered and written: gathering whole recordings takes longer than all the rest.
    flat = ops.scatter_update(flat, ops.reshape(first + beyond, (-1, 1)), ops.reshape(image(beyond), (-1,)))
    return ops.concatenate([image(steps - reach), ops.reshape(flat, (batch, -1))], 1)


def _rows(frames: Any, indices: Any) -> Any:
    """[B, F, W] and [B, P] int to [B, P, W]: the frames at these places."""
    batch, count, width = ops.shape(frames)[0], ops.shape(frames)[1], frames.shape[2]
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * count, 1)
    return ops.take(ops.reshape(frames, (-1, width)), first + indices, axis=0)


def _slopes(frames: Any, lengths: Any) -> Any:
    """[B, F, W] to [B, F, W]: slope of the regression over two frames either side."""
    count = ops.shape(frames)[1]
    last = _rows(frames, ops.expand_dims(ops.maximum(lengths - 1, 0), 1))
    held = ops.where(_within(frames, lengths), frames, last)
    held = ops.concatenate([held[:, :1], held[:, :1], held, last, last], 1)
    near = held[:, 3 : 3 + count] - held[:, 1 : 1 + count]
    far = held[:, 4 : 4 + count] - held[:, :count]
    return (near + 2.0 * far) / 10.0
