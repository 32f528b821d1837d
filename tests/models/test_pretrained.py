"""Backbones of keras-hub: found, loaded, and trained as far as asked for."""

import sys

import keras
import numpy as np
import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.models.pretrained import adapter_weights, load_backbone, preset_folder, set_trainable
from tfseq2seq.run import load_weights, save_weights

keras_hub = pytest.importorskip("keras_hub")
KEY = "model.encoder.preset"


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder with a tiny BERT of random weights."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=30, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=16
    )
    backbone.save_to_preset(folder)
    return str(folder)


def test_a_backbone_has_the_weights_of_its_folder(preset, monkeypatch):
    monkeypatch.setenv("PRESETS", preset.removesuffix("/tiny"))
    first, second = (load_backbone(name, KEY).get_weights() for name in (preset, "$PRESETS/tiny"))
    random = keras_hub.models.Backbone.from_preset(preset, load_weights=False).get_weights()
    assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
    assert any(not np.array_equal(one, two) for one, two in zip(first, random, strict=True))
    assert str(preset_folder(preset)) == preset and preset_folder("bert_tiny_en_uncased") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/folder", "must be a folder that exists or the name of a preset, got '/no/folder'"),
        ("presets/mine", "must be a folder that exists or the name of a preset"),
        ("bert_of_nobody", "'bert_of_nobody' cannot be loaded: Unknown preset identifier"),
    ],
)
def test_a_preset_that_is_not_there_is_named(name, message):
    with pytest.raises(UserError) as error:
        load_backbone(name, KEY)
    assert str(error.value).startswith(f"{KEY}: {message}")


def test_a_damaged_folder_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=f"{KEY}: .* cannot be loaded"):
        load_backbone(str(tmp_path), KEY)


def test_without_keras_hub_the_message_tells_how_to_install_it(preset, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(UserError, match=r"keras-hub cannot be imported.*pip install 'tfseq2seq\[hub\]'"):
        load_backbone(preset, KEY)


def test_all_nothing_or_adapters_of_a_backbone_are_trained(preset):
    counts = {}
    for tuning in ("false", "true", "lora"):
        backbone = load_backbone(preset, KEY)
        set_trainable(backbone, tuning, 2, "model.encoder.trainable")
        counts[tuning] = len(backbone.trainable_weights)
        assert len(adapter_weights(backbone)) == (4 if tuning == "lora" else 0)
    assert counts["false"] == 0 < counts["lora"] == 6 < counts["true"]


def test_weights_with_adapters_are_kept_as_one_matrix(preset, tmp_path):
    backbone = load_backbone(preset, KEY)
    set_trainable(backbone, "lora", 2, "model.encoder.trainable")
    for number, weight in enumerate(adapter_weights(backbone)):
        weight.assign(np.full(weight.shape, 0.1 * (number + 1)))
    inputs = {
        "token_ids": np.array([[2, 5, 6]]),
        "segment_ids": np.zeros((1, 3), "int32"),
        "padding_mask": np.ones((1, 3), "int32"),
    }
    expected = np.asarray(backbone(inputs)["sequence_output"])
    save_weights(backbone, tmp_path / "saved.weights.h5")
    other = keras_hub.models.Backbone.from_preset(preset, load_weights=False)
    set_trainable(other, "lora", 2, "model.encoder.trainable")
    load_weights(other, tmp_path / "saved.weights.h5")
    np.testing.assert_allclose(np.asarray(other(inputs)["sequence_output"]), expected, atol=1e-5)


def test_a_backbone_without_such_projections_has_no_adapters():
    backbone = keras_hub.models.VGGBackbone(stackwise_num_repeats=[1], stackwise_num_filters=[2], image_shape=(8, 8, 3))
    with pytest.raises(UserError, match="model.encoder.trainable: must be false or true for VGGBackbone, got lora"):
        set_trainable(backbone, "lora", 2, "model.encoder.trainable")
