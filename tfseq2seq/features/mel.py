"""The constant matrices of speech features, in numpy: Fourier transform with its window, mel filters, cosine transform.

    convention  mel scale                      area of a filter   window          before the window
    htk         2595 log10(1 + f / 700)        1 (Slaney)         periodic Hann   -
    slaney      linear to 1 kHz, then log      1 (Slaney)         periodic Hann   -
    whisper     as slaney                      1 (Slaney)         periodic Hann   -
    kaldi       1127 ln(1 + f / 700)           peak of 1          Povey           16-bit scale, no mean, pre-emphasis

htk and slaney are `librosa.filters.mel(htk=True)` and `(htk=False)` with its default norm: htk names the mel scale
alone, HTK itself leaves its filters at a peak of 1. Triangles are straight over Hz, but over mel in kaldi.
"""

from __future__ import annotations

import numpy as np

# Slaney's Auditory Toolbox (1998): 3 mel to 200 Hz up to 1 kHz, from there 27 mel to every factor of 6.4.
_LINEAR, _KNEE, _RATE = 200 / 3, 1000.0, np.log(6.4) / 27
_PRE_EMPHASIS = 0.97
_KALDI_SCALE = 32768.0


def hertz_to_mel(hertz: np.ndarray, convention: str) -> np.ndarray:
    """Frequencies in Hz on the mel scale of a convention (htk, slaney, whisper or kaldi), in float64."""
    hertz = np.asarray(hertz, "float64")
    if convention in ("htk", "kaldi"):
        return _factor(convention) * np.log1p(hertz / 700)
    bent = _KNEE / _LINEAR + np.log(np.maximum(hertz, _KNEE) / _KNEE) / _RATE
    return np.where(hertz < _KNEE, hertz / _LINEAR, bent)


def mel_to_hertz(mel: np.ndarray, convention: str) -> np.ndarray:
    """Inverse of `hertz_to_mel`."""
    mel = np.asarray(mel, "float64")
    if convention in ("htk", "kaldi"):
        return 700 * np.expm1(mel / _factor(convention))
    return np.where(mel < _KNEE / _LINEAR, mel * _LINEAR, _KNEE * np.exp(_RATE * (mel - _KNEE / _LINEAR)))


def _factor(convention: str) -> float:
    # Kaldi rounds HTK's 2595 / ln(10) = 1126.99.
    return 1127.0 if convention == "kaldi" else 2595 / np.log(10)


def mel_filters(convention: str, sample_rate: int, fft_length: int, bins: int, low: float, high: float) -> np.ndarray:
    """Triangular filters over a power spectrum, centers equally far apart on the mel scale (Davis & Mermelstein 1980).

    Args:
        convention: htk, slaney, whisper or kaldi.
        sample_rate: samples a second.
        fft_length: points of the Fourier transform.
        bins: filters.
        low, high: where the first filter begins and the last one ends, in Hz.

    Returns:
        [fft_length // 2 + 1, bins] float64. A filter narrower than the step of the spectrum may be all zero.
    """
    spectrum = np.arange(fft_length // 2 + 1) * sample_rate / fft_length
    first, last = hertz_to_mel(np.array([low, high]), convention)
    edges = np.linspace(float(first), float(last), bins + 2)
    if convention == "kaldi":
        return _triangles(hertz_to_mel(spectrum, convention), edges)
    edges = mel_to_hertz(edges, convention)
    return _triangles(spectrum, edges) * 2 / (edges[2:] - edges[:-2])


def _triangles(indices: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[P] and [bins + 2] to [P, bins]: filter i rises from edge i to a peak of 1 at edge i + 1 and falls to i + 2."""
    indices, widths = indices[:, None], np.diff(edges)
    rising = (indices - edges[:-2]) / widths[:-1]
    falling = (edges[2:] - indices) / widths[1:]
    return np.maximum(0, np.minimum(rising, falling))


def dct_matrix(coefficients: int, bins: int) -> np.ndarray:
    """Orthonormal cosine transform of type II (Ahmed et al. 1974), [bins, coefficients] float64."""
    angles = np.pi * np.outer(np.arange(bins) + 0.5, np.arange(coefficients)) / bins
    scales = np.where(np.arange(coefficients) == 0, np.sqrt(1 / bins), np.sqrt(2 / bins))
    return np.cos(angles) * scales


def fourier_length(convention: str, window: int) -> int:
    """Points of the Fourier transform over `window` samples: as many, or for kaldi the next power of two."""
    return 1 << (window - 1).bit_length() if convention == "kaldi" else window


def fourier_matrix(convention: str, window: int) -> np.ndarray:
    """The spectrum of a frame with all that a convention does before it, as one linear map.

    Returns:
        [window, fourier_length // 2 + 1] complex128: spectrum = frame @ it, of samples in [-1, 1].
    """
    length = fourier_length(convention, window)
    turns = np.outer(np.arange(window), np.arange(length // 2 + 1)) % length
    transform = np.exp(-2j * np.pi * turns / length)
    if convention != "kaldi":
        return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window))[:, None] * transform
    # Povey's window is a symmetric Hann window to the power 0.85. Each map below takes a frame as a row.
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / max(window - 1, 1))) ** 0.85
    centring = np.eye(window) - 1 / window
    emphasis = np.eye(window) - _PRE_EMPHASIS * np.eye(window, k=1)
    emphasis[0, 0] -= _PRE_EMPHASIS  # the sample before the first is taken to be the first
    return _KALDI_SCALE * (centring @ emphasis @ (povey[:, None] * transform))
