"""Clips to the pixels that an exported model reads, by Pillow, without TensorFlow.

The steps are those of the graph in `features/video_files.py`. Frames differ from it by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.features.clips import GIF_BEGINNINGS, frame_files, gif_blocks, sampled_frames
from tfseq2seq.runtime.plain_images import PlainImages, content_of, fitted, opened, resized
from tfseq2seq.spec import VideoSpec
from tfseq2seq.spec.limits import (
    DAMAGED_CLIP,
    LEAST_SIDE,
    NO_CLIP,
    NO_CLIP_BYTES,
    NO_FRAMES,
    too_few_pixels,
    too_large_clip,
)


class PlainVideos(PlainImages):
    """Clips: the bytes of GIF files, their paths or those of folders of frames as `Path`, or pixels [N, H, W, 3] uint8.

    Args:
        spec: of the source.
    """

    spec: VideoSpec

    def row(self, value: Any) -> np.ndarray:
        """Pixels [F, S, S, 3] uint8 of a clip."""
        if isinstance(value, np.ndarray):
            return np.stack([super(PlainVideos, self).row(value[index]) for index in self._sampled(len(value))])
        if isinstance(value, Path) and value.is_dir():
            files = frame_files(value)
            return np.stack([super(PlainVideos, self).row(files[index]) for index in self._sampled(len(files))])
        clip = opened(content_of(value))
        frames = []
        for index in self._sampled(getattr(clip, "n_frames", 1)):
            clip.seek(index)
            frames.append(resized(fitted(np.asarray(clip.convert("RGB")), self.spec.fit), self.spec.size))
        return np.stack(frames)

    def fault(self, most: int, value: Any) -> str:
        """What is wrong with a clip, or ""; `most` is the largest number of megapixels, 0 for no limit."""
        if isinstance(value, np.ndarray):
            return ""
        if isinstance(value, Path) and value.is_dir():
            return self._fault_of_folder(most, value)
        content = content_of(value)
        if not content.startswith(GIF_BEGINNINGS):
            return NO_CLIP if content else NO_CLIP_BYTES
        height, width, frames, whole = gif_blocks(content)
        if min(height, width) < LEAST_SIDE:
            return _told(too_few_pixels(), width, height)
        if most and height * width * frames > most * 1_000_000:
            return _told(too_large_clip(most), frames, width, height)
        if not (whole and frames):
            return DAMAGED_CLIP
        clip = opened(content)
        try:
            for index in range(frames):
                clip.seek(index)
                clip.load()
        except Exception:  # Pillow has many kinds for damaged files
            return DAMAGED_CLIP
        return ""

    def _fault_of_folder(self, most: int, folder: Path) -> str:
        try:
            files = frame_files(folder)
            for path in dict.fromkeys(files[index] for index in self._sampled(len(files))):
                if fault := super().fault(most, path):
                    return f"{path.name}: {fault}"
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"
        return "" if files else NO_FRAMES

    def _sampled(self, count: int) -> list[int]:
        return sampled_frames(count, self.spec.frames) if count else []


def _told(parts: Sequence[str], *numbers: int) -> str:
    return parts[0] + "".join(f"{number}{after}" for number, after in zip(numbers, parts[1:], strict=True))
