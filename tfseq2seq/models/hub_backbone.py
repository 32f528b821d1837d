"""Pretrained image backbones of keras-hub: frozen ones before the model that is trained, and trained ones in it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.errors import UserError, first_line
from tfseq2seq.layers.backbones import BACKBONES, GridEmbedding
from tfseq2seq.models.pretrained import import_keras_hub, load_backbone, preset_folder, set_trainable
from tfseq2seq.spec import KerasHubBackboneSpec, lookup

_KEY = "source.backbone.preset"


class HubBackbone(keras.layers.Layer):
    """Maps pictures [B, S, S, 3] with values from 0 to 255 to vectors [B, N, C] float32 by a backbone of keras-hub.

    Pixels are scaled as the image converter of the preset says. A map of features [B, H, W, C] becomes H * W vectors.
    Of a Vision Transformer, tokens that stand before those of the patches are left out. The statistics of batch
    normalization do not change in training.

    Args:
        preset: a preset folder, or a name that keras-hub downloads.
        backbone: the settings of the backbone.
        size: S.

    Raises:
        UserError: keras-hub is not installed, the preset cannot be loaded or trained so, or its vectors are not as many
            as the settings say.

    Attributes:
        channels, grid: C and N.
    """

    def __init__(self, preset: str, backbone: KerasHubBackboneSpec, size: int, **kwargs: Any):
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.network, self.scale, self.offset = _loaded(preset)
        set_trainable(self.network, backbone.trainable, backbone.rank, "source.backbone.trainable")
        for variable in self.network.trainable_variables:
            variable.learning_rate_scale = backbone.learning_rate_scale
        shape = (size, size, 3)
        try:
            output = self.network(keras.Input(shape, dtype="float32"), training=False)
        except Exception as error:  # a backbone has many ways not to take a size
            raise UserError(
                f"{_KEY}: {preset!r} does not take pictures of source.size {size}: {first_line(error)}"
            ) from None
        count = output.shape[1] * output.shape[2] if len(output.shape) == 4 else output.shape[1]
        self.channels, self.grid = output.shape[-1], backbone.grid(size)
        if len(output.shape) not in (3, 4) or count < self.grid or (len(output.shape) == 4 and count != self.grid):
            raise UserError(
                f"source.backbone.stride: must give the {count} vectors that {preset} has for source.size {size}, "
                f"got {backbone.stride}, which gives {self.grid}"
            )
        self.built = True

    def call(self, pixels: Any) -> Any:
        x = ops.cast(pixels, "float32") * self.scale + self.offset
        output = self.network(x, training=False)
        if len(output.shape) == 3:
            return output[:, output.shape[1] - self.grid :]
        return ops.reshape(output, (-1, self.grid, self.channels))


class TunedBackbone(keras.layers.Layer):
    """A backbone of keras-hub that is trained with the model, and the projection of its vectors to [B, N, D].

    Args:
        spec: the settings of the backbone.
        size: the height and the width of pictures in pixels.
        width: D.
        initializer: the initializer of the projection.
    """

    def __init__(self, spec: KerasHubBackboneSpec, size: int, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.hub = HubBackbone(spec.preset, spec, size, name="hub")
        self.embedding = GridEmbedding(width, self.hub.grid, spec.positions, initializer, name="embedding")

    def build(self, input_shape: Any) -> None:
        self.embedding.build((None, self.hub.grid, self.hub.channels))

    def call(self, pixels: Any, training: bool | None = None) -> Any:
        return self.embedding(ops.cast(self.hub(pixels), self.compute_dtype))


_ALL = {**BACKBONES, KerasHubBackboneSpec: TunedBackbone}


def build_backbone(spec: Any, size: int, width: int, initializer: str, **kwargs: Any) -> Any:
    """Returns the backbone of a spec, for pictures of `size` x `size` pixels and vectors of the given width."""
    return lookup(_ALL, spec)(spec, size, width, initializer, **kwargs)


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
