"""Settings of pictures: backbones, which map pixels to a grid of vectors, and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, setting
from tfseq2seq.spec.blocks import Tuning

GridPositions = Literal["sinusoidal", "learned", "none"]


class BackboneBase(Spec):
    """Base class of all backbone specs."""

    @property
    def precomputed(self) -> bool:
        """Whether the backbone never changes, so that what it computes of a picture is kept and read again."""
        return False

    @property
    def scales_pixels(self) -> bool:
        """Whether the backbone itself scales pixels from 0 to 255."""
        return False

    def check_size(self, size: int) -> None:
        """Raises `SpecError` if pictures of `size` x `size` pixels do not fit."""

    def grid(self, size: int) -> int:
        """Returns the number of vectors for a picture of `size` x `size` pixels."""
        raise NotImplementedError


@dataclass(frozen=True)
class ConvolutionBackboneSpec(BackboneBase):
    """Residual convolutions in stages (He et al. 2016). Each stage halves the sides of the grid."""

    kind: Literal["convolution"] = setting("convolution", "kind of backbone")
    stages: int = setting(4, "number of stages; each halves height and width", low=1, high=8)
    blocks: int = setting(1, "number of residual blocks in each stage", low=1)
    filters: int = setting(32, "number of channels in the first stage; each later stage has twice as many", low=1)
    positions: GridPositions = setting("sinusoidal", "encoding of the row and the column of a vector")

    def grid(self, size: int) -> int:
        for _ in range(self.stages):
            size = (size + 1) // 2
        return size * size


@dataclass(frozen=True)
class PatchBackboneSpec(BackboneBase):
    """Square patches, each projected to a vector, as in the Vision Transformer (Dosovitskiy et al. 2021)."""

    kind: Literal["patches"] = setting("patches", "kind of backbone")
    patch: int = setting(16, "side of a patch in pixels; must divide source.size", low=1)
    positions: GridPositions = setting("learned", "encoding of the row and the column of a patch")

    def check_size(self, size: int) -> None:
        if size % self.patch:
            fits = [patch for patch in range(1, size + 1) if size % patch == 0]
            nearest = min(fits, key=lambda patch: abs(patch - self.patch))
            raise SpecError("patch", f"must divide source.size ({size}), got {self.patch}; try {nearest}")

    def grid(self, size: int) -> int:
        return (size // self.patch) ** 2


@dataclass(frozen=True)
class KerasHubBackboneSpec(BackboneBase):
    """A pretrained image backbone of keras-hub. Pixels are scaled as the preset says.

    If it is not trained, its vectors of a picture are computed once. Those of training pictures are kept on disk, see
    `data/picture_features.py`, and a run keeps a copy of the preset.
    """

    kind: Literal["keras_hub"] = setting("keras_hub", "kind of backbone")
    preset: str = setting("", "preset folder of keras-hub, or the name of a preset that it downloads")
    stride: int = setting(
        32, "height and width in pixels that one vector is for; of a Vision Transformer, the side of a patch", low=1
    )
    positions: GridPositions = setting("sinusoidal", "encoding of the row and the column of a vector")
    trainable: Tuning = setting(
        "false", "what of the preset is trained: false for nothing, true for all, lora for low-rank adapters"
    )
    rank: int = setting(8, "rank of the adapters, for lora (Hu et al. 2022)", low=1)
    learning_rate_scale: float = setting(
        0.1, "learning rate of what is trained of the preset, as a multiple of that of the model", low=0, high=1
    )
    cache: str = setting("~/.cache/tfseq2seq/pictures", "folder that keeps the vectors of training pictures")

    def check(self) -> None:
        if self.rank != 8 and self.trainable != "lora":
            raise SpecError("rank", f"needs trainable lora, got trainable {self.trainable}")
        if self.learning_rate_scale != 0.1 and self.precomputed:
            raise SpecError("learning_rate_scale", f"needs trainable true or lora, got trainable {self.trainable}")

    @property
    def precomputed(self) -> bool:
        return self.trainable == "false"

    @property
    def scales_pixels(self) -> bool:
        return True

    def check_size(self, size: int) -> None:
        if not self.preset:
            raise SpecError("preset", "must be given: a preset folder of keras-hub, or the name of a preset")

    def grid(self, size: int) -> int:
        return (-(-size // self.stride)) ** 2


# Those that are trained with the model from the beginning.
NewBackboneSpec = ConvolutionBackboneSpec | PatchBackboneSpec
BackboneSpec = ConvolutionBackboneSpec | PatchBackboneSpec | KerasHubBackboneSpec


@dataclass(frozen=True)
class ImageAugmentationSpec(Spec):
    """Augmentation of pictures in training. Random numbers are drawn anew each time a picture is used."""

    crop: float = setting(
        0.0, "maximum share of the height and of the width that is cut off (0: off; 0.2 is usual)", low=0, high=0.9
    )
    flip: float = setting(
        0.0,
        "probability that left and right are exchanged (0: off, as captions that name left and right become wrong)",
        low=0,
        high=1,
    )
    brightness: float = setting(
        0.0, "maximum change of the brightness, as a share of the whole range (0: off)", low=0, high=1
    )
    contrast: float = setting(0.0, "maximum change of the contrast, as a share of it (0: off)", low=0, high=0.99)

    @property
    def active(self) -> bool:
        return bool(self.crop or self.flip or self.brightness or self.contrast)
