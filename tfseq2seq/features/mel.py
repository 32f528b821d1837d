"""The constant matrices of speech features, in numpy: windowed Fourier transform, mel filters, cosine transform.

    convention  mel scale                      area of a filter   window          before the window
    htk         2595 log10(1 + f / 700)        1 (Slaney)         periodic Hann   -
    slaney      linear to 1 kHz, then log      1 (Slaney)         periodic Hann   -
    whisper     as slaney                      1 (Slaney)         periodic Hann   -
    kaldi       1127 ln(1 + f / 700)           peak of 1          Povey           16-bit scale, no mean, pre-emphasis

htk and slaney are `librosa.filters.mel(htk=True)` and `(htk=False)` with the default norm. The name htk refers only to
the mel scale; the filters of HTK itself have a peak of 1. The triangles are linear in Hz, but linear in mel for kaldi.
"""

from __future__ import annotations

import numpy as np

# Slaney's Auditory Toolbox (1998): 3 mel per 200 Hz up to 1 kHz, then 27 mel per factor of 6.4.
_LINEAR, _KNEE, _RATE = 200 / 3, 1000.0, np.log(6.4) / 27
_PRE_EMPHASIS = 0.97
_KALDI_SCALE = 32768.0


def hertz_to_mel(hertz: np.ndarray, convention: str) -> np.ndarray:
    """Converts frequencies in Hz to the mel scale of a convention (htk, slaney, whisper or kaldi), in float64."""
    hertz = np.asarray(hertz, "float64")
    if convention in ("htk", "kaldi"):
        return _factor(convention) * np.log1p(hertz / 700)
    log_part = _KNEE / _LINEAR + np.log(np.maximum(hertz, _KNEE) / _KNEE) / _RATE
    return np.where(hertz < _KNEE, hertz / _LINEAR, log_part)


def mel_to_hertz(mel: np.ndarray, convention: str) -> np.ndarray:
    """Converts mel to frequencies in Hz, the inverse of `hertz_to_mel`."""
    mel = np.asarray(mel, "float64")
    if convention in ("htk", "kaldi"):
        return 700 * np.expm1(mel / _factor(convention))
    return np.where(mel < _KNEE / _LINEAR, mel * _LINEAR, _KNEE * np.exp(_RATE * (mel - _KNEE / _LINEAR)))


def _factor(convention: str) -> float:
    # Kaldi rounds HTK's 2595 / ln(10) = 1126.99.
    return 1127.0 if convention == "kaldi" else 2595 / np.log(10)


def mel_filters(convention: str, sample_rate: int, fft_length: int, bins: int, low: float, high: float) -> np.ndarray:
    """Returns triangular filters over a power spectrum, with equidistant centers on the mel scale.

    See Davis & Mermelstein 1980.

    Args:
        convention: htk, slaney, whisper or kaldi.
        sample_rate: the sample rate in Hz.
        fft_length: the number of points of the Fourier transform.
        bins: the number of filters.
        low, high: the lower edge of the first filter and the upper edge of the last filter, in Hz.

    Returns:
        [fft_length // 2 + 1, bins] float64. A filter that is narrower than the resolution of the spectrum may be zero.
    """
    spectrum = np.arange(fft_length // 2 + 1) * sample_rate / fft_length
    first, last = hertz_to_mel(np.array([low, high]), convention)
    edges = np.linspace(float(first), float(last), bins + 2)
    if convention == "kaldi":
        return _triangles(hertz_to_mel(spectrum, convention), edges)
    edges = mel_to_hertz(edges, convention)
    return _triangles(spectrum, edges) * 2 / (edges[2:] - edges[:-2])


def _triangles(indices: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns triangles [P, bins] at indices [P], given edges [bins + 2].

    Filter i rises from 0 at edge i to 1 at edge i + 1, and falls to 0 at edge i + 2.
    """
    indices, widths = indices[:, None], np.diff(edges)
    rising = (indices - edges[:-2]) / widths[:-1]
    falling = (edges[2:] - indices) / widths[1:]
    return np.maximum(0, np.minimum(rising, falling))


def dct_matrix(coefficients: int, bins: int) -> np.ndarray:
    """Returns the orthonormal cosine transform of type II (Ahmed et al. 1974), [bins, coefficients] float64."""
    angles = np.pi * np.outer(np.arange(bins) + 0.5, np.arange(coefficients)) / bins
    scales = np.where(np.arange(coefficients) == 0, np.sqrt(1 / bins), np.sqrt(2 / bins))
    return np.cos(angles) * scales


def fourier_length(convention: str, window: int) -> int:
    """Returns the number of points of the Fourier transform: `window`, or for kaldi the next power of two."""
    return 1 << (window - 1).bit_length() if convention == "kaldi" else window


def fourier_matrix(convention: str, window: int) -> np.ndarray:
    """Returns the Fourier transform of a frame and all preceding steps of a convention as one matrix.

    Args:
        convention: htk, slaney, whisper or kaldi.
        window: the number of samples of a frame.

    Returns:
        A matrix [window, fourier_length // 2 + 1] complex128. The spectrum is frame @ matrix, for samples in [-1, 1].
    """
    length = fourier_length(convention, window)
    phases = np.outer(np.arange(window), np.arange(length // 2 + 1)) % length
    transform = np.exp(-2j * np.pi * phases / length)
    if convention != "kaldi":
        return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window))[:, None] * transform
    # Povey's window is a symmetric Hann window to the power of 0.85. The matrices below multiply a frame as a row.
    povey_window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / max(window - 1, 1))) ** 0.85
    remove_mean = np.eye(window) - 1 / window
    pre_emphasis = np.eye(window) - _PRE_EMPHASIS * np.eye(window, k=1)
    pre_emphasis[0, 0] -= _PRE_EMPHASIS  # the first sample is used in place of its missing predecessor
    return _KALDI_SCALE * (remove_mean @ pre_emphasis @ (povey_window[:, None] * transform))
