"""Pixels of pictures to inputs of a backbone: the same layers in training and in exported models."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.recipe import source_from_dict, to_dict
from tfseq2seq.spec import ImageSpec

# Scale and offset of each color: a pixel of 0 to 255 becomes scale * pixel + offset.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "symmetric": ((1 / 127.5,) * 3, (-1.0,) * 3),
    "unit": ((1 / 255,) * 3, (0.0,) * 3),
    "imagenet": (
        tuple(1 / (255 * deviation) for deviation in _DEVIATION),
        tuple(-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION)),
    ),
}


class _OfSource(keras.layers.Layer):
    """Base class: a layer without weights that has the settings of the source."""

    def __init__(self, spec: ImageSpec, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.spec = spec
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spec": to_dict(self.spec)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{**config, "spec": source_from_dict(config["spec"])})


class ImageResizing(_OfSource):
    """Resizes one picture [H, W, 3] uint8 to [S, S, 3] uint8, where S is `spec.size`.

    Pixels are averaged by a triangle that is as wide as the picture shrinks (antialiasing), and rounded. The picture is
    stretched, or cut or padded to a square around its center, as `spec.fit` says.
    """

    def call(self, picture: Any) -> Any:
        # Keras cuts the fractions of integers off, and does not pad them.
        resized = ops.image.resize(
            ops.cast(picture, "float32"),
            (self.spec.size, self.spec.size),
            interpolation="bilinear",
            antialias=True,
            crop_to_aspect_ratio=self.spec.fit == "crop",
            pad_to_aspect_ratio=self.spec.fit == "pad",
            fill_value=0.0,
            data_format="channels_last",
        )
        rounded = ops.cast(ops.round(ops.clip(resized, 0.0, 255.0)), "uint8")
        return ops.reshape(rounded, (self.spec.size, self.spec.size, 3))


class ImageNormalization(_OfSource):
    """Scales pixels [B, S, S, 3] from 0 to 255 to float32 as `spec.normalization` says."""

    def call(self, pixels: Any) -> Any:
        scale, offset = (ops.convert_to_tensor(part, "float32") for part in NORMALIZATIONS[self.spec.normalization])
        return ops.cast(pixels, "float32") * scale + offset
