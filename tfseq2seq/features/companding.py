"""The 8-bit codes of telephone recordings, mu-law and A-law (ITU-T G.711, 1988), as the samples they stand for."""

from __future__ import annotations

import numpy as np

# Added to magnitudes before mu-law takes their logarithm.
_BIAS = 0x84


def mu_law_samples() -> np.ndarray:
    """Returns the sample of each mu-law byte, [256] float32 in (-1, 1): 14 bits, left-aligned in 16."""
    codes = ~np.arange(256) & 0xFF
    exponent, mantissa = codes >> 4 & 7, codes & 0xF
    magnitude = ((mantissa << 3) + _BIAS << exponent) - _BIAS
    return _scaled(np.where(codes & 0x80, -magnitude, magnitude))


def a_law_samples() -> np.ndarray:
    """Returns the sample of each A-law byte, [256] float32 in (-1, 1): 13 bits, left-aligned in 16."""
    codes = np.arange(256) ^ 0x55
    exponent, mantissa = codes >> 4 & 7, codes & 0xF
    # The lowest two segments have the same step; each one above doubles it.
    magnitude = ((mantissa << 4) + 8 + np.where(exponent > 0, 0x100, 0)) << np.maximum(exponent - 1, 0)
    return _scaled(np.where(codes & 0x80, magnitude, -magnitude))


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values / 32768).astype(np.float32)
