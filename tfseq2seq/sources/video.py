"""Sources of clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.gif_files import gif_bytes
from tfseq2seq.errors import UserError
from tfseq2seq.features.clips import frame_files, sampled_frames
from tfseq2seq.features.image import ImageResizing
from tfseq2seq.features.image_files import decode_images
from tfseq2seq.features.video_files import decode_clips
from tfseq2seq.sources.image import ImageSource, unread
from tfseq2seq.spec import VideoSpec
from tfseq2seq.spec.limits import NO_FRAMES


class VideoSource(ImageSource, reads=VideoSpec):
    """Clips: the bytes of animated GIF files, folders of frames, or pixels.

    A Python value is the bytes of a GIF file, the path of such a file or of a folder of pictures as a `Path`, or pixels
    [N, H, W, 3] uint8 of any number of frames. Frames are sampled evenly, see `sampled_frames`. The pictures of a
    folder are in the order of their names.

    Args:
        spec: number and size of the frames, backbone and augmentation.
    """

    prefetch = 2
    clips = True
    bytes_name, form_name = "video_bytes", "describe"
    spec: VideoSpec

    @property
    def shape(self) -> list[int]:
        return [self.spec.frames, *super().shape]

    # ---- predictor --------------------------------------------------------------------------------------------------

    def decode(self, contents: Any, most: int) -> tuple[tf.Tensor, tf.Tensor]:
        return decode_clips(contents, self.spec, most)

    def _without_bytes(self, value: Any, most: int) -> tuple[np.ndarray, str] | None:
        if isinstance(value, Path) and value.is_dir():
            return self._of_folder(value, most)
        return super()._without_bytes(value, most)

    def _of_folder(self, folder: Path, most: int) -> tuple[np.ndarray, str]:
        """Only the frames that are sampled are read, each of at most so many megapixels."""
        nothing = np.zeros(self.shape, "uint8")
        try:
            files = frame_files(folder)
            chosen = [files[index] for index in sampled_frames(len(files), self.spec.frames)] if files else []
            contents = [path.read_bytes() for path in chosen]
        except OSError as error:
            return nothing, unread(error)
        if not contents:
            return nothing, NO_FRAMES
        pixels, faults = decode_images(tf.constant(contents, tf.string), self.spec, most)
        for path, fault in zip(chosen, faults.numpy(), strict=True):
            if fault:
                return nothing, f"{path.name}: {fault.decode('utf-8')}"
        return pixels.numpy(), ""

    def _resized(self, value: np.ndarray) -> tuple[np.ndarray, str]:
        if value.ndim != 4 or value.shape[3] != 3 or value.dtype != np.uint8 or not len(value):
            shape = ", ".join(map(str, value.shape))
            raise UserError(f"pixels must have the shape [N, H, W, 3] and the dtype uint8, got [{shape}] {value.dtype}")
        frames = value[sampled_frames(len(value), self.spec.frames)]
        if list(frames.shape) == self.shape:
            return frames, ""
        resize = ImageResizing(self.spec)
        return np.stack([np.asarray(resize(frame)) for frame in frames]), ""

    # ---- exported models --------------------------------------------------------------------------------------------

    def client_rows(self, values: Sequence[Any]) -> list[Any]:
        for index, value in enumerate(values):
            if isinstance(value, np.ndarray) or (isinstance(value, Path) and value.is_dir()):
                raise UserError(
                    f"input {index + 1}: must be a GIF file for a SavedModel, got frames; a TFLite file takes frames"
                )
        return super().client_rows(values)

    def examples(self) -> list[Any]:
        places = np.arange(8)[:, np.newaxis, np.newaxis]
        frames = (np.arange(16) >= 2 * places) & (np.arange(16)[:, np.newaxis] >= places)
        palette = ((255, 255, 255), (200, 40, 40))
        return [gif_bytes(clip.astype("uint8"), palette) for clip in (frames, frames[::-1])]
