"""Pretrained backbones of keras-hub, which compute the vectors of pictures before the model that is trained."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.errors import UserError, first_line
from tfseq2seq.models.pretrained import import_keras_hub, load_backbone, preset_folder
from tfseq2seq.spec import ImageSpec, KerasHubBackboneSpec

_KEY = "source.backbone.preset"


class HubBackbone(keras.layers.Layer):
    """Maps pictures [B, S, S, 3] uint8 to vectors [B, N, C] float32 by a backbone of keras-hub, which never changes.

    Pixels are scaled as the image converter of the preset says. A map of features [B, H, W, C] becomes H * W vectors.
    Of a Vision Transformer, tokens that stand before those of the patches are left out.

    Args:
        preset: a preset folder, or a name that keras-hub downloads.
        spec: the settings of the source.

    Raises:
        UserError: keras-hub is not installed, the preset cannot be loaded, or its vectors are not as many as the
            settings say.

    Attributes:
        channels: C.
    """

    def __init__(self, preset: str, spec: ImageSpec, **kwargs: Any):
        assert isinstance(spec.backbone, KerasHubBackboneSpec)
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.spec = spec
        self.network, self.scale, self.offset = _loaded(preset)
        self.network.trainable = False
        shape = (spec.size, spec.size, 3)
        try:
            output = self.network(keras.Input(shape, dtype="float32"), training=False)
        except Exception as error:  # a backbone has many ways not to take a size
            raise UserError(
                f"{_KEY}: {preset!r} does not take pictures of source.size {spec.size}: {first_line(error)}"
            ) from None
        count = output.shape[1] * output.shape[2] if len(output.shape) == 4 else output.shape[1]
        self.channels, self.grid = output.shape[-1], spec.backbone.grid(spec.size)
        if len(output.shape) not in (3, 4) or count < self.grid or (len(output.shape) == 4 and count != self.grid):
            raise UserError(
                f"source.backbone.stride: must give the {count} vectors that {preset} has for source.size {spec.size}, "
                f"got {spec.backbone.stride}, which gives {self.grid}"
            )
        self.built = True

    def call(self, pixels: Any) -> Any:
        x = ops.cast(pixels, "float32") * self.scale + self.offset
        output = self.network(x, training=False)
        if len(output.shape) == 3:
            return output[:, output.shape[1] - self.grid :]
        return ops.reshape(output, (-1, self.grid, self.channels))


def _loaded(preset: str) -> tuple[Any, Any, Any]:
    """The backbone of a preset, and the scale and the offset of its pixels."""
    network = load_backbone(preset, _KEY)
    try:
        converter = import_keras_hub(_KEY).layers.ImageConverter.from_preset(str(preset_folder(preset) or preset))
    except Exception as error:  # keras-hub, its readers of files and its downloads raise many different errors
        raise UserError(f"{_KEY}: {preset!r} has no image converter that can be loaded: {first_line(error)}") from None
    scale, offset = (
        ops.convert_to_tensor(default if value is None else value, "float32")
        for value, default in ((converter.scale, 1.0), (converter.offset, 0.0))
    )
    return network, scale, offset
