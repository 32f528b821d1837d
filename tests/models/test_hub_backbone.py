"""Frozen backbones of keras-hub: their vectors are computed once, and exported models hold them."""

import os

import keras
import numpy as np
import pytest
from some_pictures import good_files

from tfseq2seq.data.picture_features import FeatureCache
from tfseq2seq.data.synthetic.colored_shapes import write_pictures
from tfseq2seq.errors import UserError
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.export.verify import verify
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.models.hub_backbone import HubBackbone
from tfseq2seq.recipe import from_dict, source_from_dict, to_dict
from tfseq2seq.run import Run
from tfseq2seq.sources.image import ImageSource, preset_digest
from tfseq2seq.spec import Recipe
from tfseq2seq.training.fit import train

keras_hub = pytest.importorskip("keras_hub")
TRANSFORMER = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16}


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A preset folder of a small convolutional backbone with random weights."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("preset")
    backbone = keras_hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0],
        stackwise_depth_coefficients=[1.0],
        stackwise_kernel_sizes=[3],
        stackwise_num_repeats=[1],
        stackwise_input_filters=[8],
        stackwise_output_filters=[8],
        stackwise_expansion_ratios=[2],
        stackwise_squeeze_and_excite_ratios=[0.0],
        stackwise_strides=[2],
        stackwise_block_types=["unfused"],
        dropout=0.0,
    )
    backbone.save_to_preset(str(folder))
    keras_hub.layers.EfficientNetImageConverter(scale=1 / 255).save_to_preset(str(folder))
    return folder


def source(preset, cache, **settings):
    backbone = {"kind": "keras_hub", "preset": str(preset), "stride": 4, "cache": str(cache), **settings}
    return {"kind": "image", "size": 32, "backbone": backbone}


@pytest.fixture(scope="module")
def recipe(preset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    table = write_pictures(folder, train=8, validation=3, test=2, size=32)
    return from_dict(
        Recipe,
        {
            "name": "frozen",
            "data": {split: {"manifest": str(table), "split": split} for split in ("train", "validation")},
            "source": source(preset, folder / "cache"),
            "target": {"scheme": "words"},
            "model": {"width": 16, "encoder": TRANSFORMER, "decoder": TRANSFORMER},
            "training": {"steps": 1, "evaluate_every": 1, "tensorboard": False},
            "search": {"beam": 1, "max_length": 6},
        },
    )


@pytest.mark.usefixtures("one_signature", "forked_clients", "eagerly")
def test_a_run_keeps_its_backbone_and_its_exports_answer_as_it_does(recipe, preset, tmp_path):
    run = train(recipe, tmp_path / "run")
    assert (run.folder / "vocabulary" / "backbone" / "model.weights.h5").exists()
    model = run.load_model()
    assert not [weight.path for weight in model.weights if "efficient" in weight.path]
    assert model.input["source"].shape == (None, 64, 1280)
    # Without the folder of the recipe.
    moved = preset.with_name("moved")
    preset.rename(moved)
    try:
        opened = Run.open(run.folder)
        predictor = Predictor.of_runs([opened])
        inputs = opened.source.usual_inputs(recipe.data, 3)
        for folder in (export_saved_model(predictor, tmp_path / "saved"), export_tflite(predictor, tmp_path / "lite")):
            (verdict,) = verify(folder, predictor, inputs, batches=[2])
            assert verdict.passed, verdict
    finally:
        moved.rename(preset)


@pytest.mark.usefixtures("eagerly")
def test_vectors_are_computed_once_and_are_those_of_serving(recipe, preset, tmp_path, monkeypatch):
    own = ImageSource(source_from_dict(source(preset, tmp_path / "cache")))
    (tmp_path / "a.png").write_bytes(good_files()["png"])
    (tmp_path / "bad.png").write_bytes(good_files()["png"][:200])
    paths = [str(tmp_path / "a.png"), str(tmp_path / "bad.png")]
    rows, faults = own._cached(50)(paths)
    assert faults == ["", "a picture that is damaged or cut off"] and rows[1] is None
    assert (rows[0].shape, rows[0].dtype) == ((64, 1280), "float16")
    served = np.asarray(own.inputs(*own.pack([good_files()["png"]])).inputs["source"])
    np.testing.assert_allclose(rows[0], served[0], atol=2e-3)
    monkeypatch.setattr(ImageSource, "_decoded", lambda *_: pytest.fail("was computed before"))
    again, _ = own._cached(50)(paths[:1])
    np.testing.assert_array_equal(again[0], rows[0])


def test_a_digest_is_that_of_weights_and_preprocessing(preset, tmp_path):
    spec = source_from_dict(source(preset, tmp_path))
    digests = {preset_digest(str(preset), spec)}
    for change in ({"size": 64}, {"fit": "crop"}, {"background": [0, 0, 0]}):
        digests.add(preset_digest(str(preset), source_from_dict({**source(preset, tmp_path), **change})))
    weights = preset / "model.weights.h5"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    digests.add(preset_digest(str(preset), spec))
    weights.write_bytes(content)
    assert len(digests) == 5 and preset_digest(str(preset), spec) in digests
    assert preset_digest(str(preset), source_from_dict(source(preset, tmp_path / "other"))) in digests


def test_a_damaged_file_of_the_cache_is_computed_again(tmp_path):
    asked = []

    def compute(contents):
        asked.append(len(contents))
        return [np.full((2, 3), len(content), "float32") for content in contents], [""] * len(contents)

    cache = FeatureCache(tmp_path, "digest", compute)
    cache([b"a", b"bb"])
    damaged = sorted((tmp_path / "digest").glob("*.npy"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-2])
    rows, _ = cache([b"a", b"bb", b"bb"])
    assert asked == [2, 1] or asked == [2, 2], "one file, for which there may be two inputs"
    assert [float(row[0, 0]) for row in rows] == [1, 2, 2] and cache.computed == sum(asked)


def test_the_cache_keeps_no_file_open(tmp_path):
    cache = FeatureCache(tmp_path, "digest", lambda contents: ([np.ones((2, 3))] * len(contents), [""] * len(contents)))
    before = len(os.listdir("/dev/fd"))
    rows, _ = cache([bytes([index]) for index in range(20)])
    assert len(os.listdir("/dev/fd")) == before
    assert all(row.shape == (2, 3) and np.asarray(row).dtype == np.float16 for row in rows)


def test_a_vision_transformer_gives_the_vectors_of_its_patches(tmp_path):
    keras.utils.set_random_seed(1)
    network = keras_hub.models.ViTBackbone((32, 32, 3), 8, 1, 2, 8, 16)
    network.save_to_preset(str(tmp_path / "vit"))
    keras_hub.layers.ViTImageConverter(image_size=(32, 32)).save_to_preset(str(tmp_path / "vit"))
    spec = source_from_dict(source(tmp_path / "vit", tmp_path, stride=8)).backbone
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    found = np.asarray(HubBackbone(str(tmp_path / "vit"), spec, 32)(pixels))
    whole = np.asarray(network(pixels.astype("float32"), training=False))
    assert whole.shape[1] == 17 and found.shape == (2, 16, 8)
    np.testing.assert_allclose(found, whole[:, 1:], atol=1e-5)


def test_what_does_not_fit_a_backbone_is_refused(preset, tmp_path):
    for changes, message in (
        ({"stride": 8}, "source.backbone.stride: must give the 64 vectors that .* got 8, which gives 16"),
        (
            {"preset": str(tmp_path / "none")},
            "source.backbone.preset: must be a folder that exists or the name of a preset",
        ),
        ({"preset": str(tmp_path)}, "source.backbone.preset: .* cannot be loaded: "),
        ({"preset": ""}, "source.backbone.preset: must be given"),
    ):
        with pytest.raises(UserError, match=message):
            ImageSource(source_from_dict(source(**{"preset": preset, "cache": tmp_path} | changes)))
    for changes, message in (
        ({"augmentation": {"crop": 0.1}}, "source.augmentation: must be off with backbone.kind keras_hub"),
        (
            {"backbone": {**source(preset, tmp_path)["backbone"], "rank": 4}},
            "source.backbone.rank: needs trainable lora, got trainable false",
        ),
        (
            {"backbone": {**source(preset, tmp_path)["backbone"], "learning_rate_scale": 1.0}},
            "source.backbone.learning_rate_scale: needs trainable true or lora, got trainable false",
        ),
        ({"normalization": "unit"}, "source.normalization: must be left out with backbone.kind keras_hub"),
    ):
        with pytest.raises(UserError, match=message):
            source_from_dict({**source(preset, tmp_path), **changes})


@pytest.mark.usefixtures("eagerly")
def test_a_trained_backbone_is_part_of_the_model_and_moves_less(recipe, preset, tmp_path):
    values = to_dict(recipe)
    values["source"]["backbone"] |= {"trainable": True, "learning_rate_scale": 0.01}
    values["source"]["augmentation"] |= {"crop": 0.1}
    values["training"]["optimizer"] |= {"learning_rate": 0.01}
    values["training"]["schedule"] = {"name": "constant"}
    run = train(from_dict(Recipe, values), tmp_path / "run")
    model, pretrained = run.load_model(), keras_hub.models.Backbone.from_preset(str(preset))
    assert model.input["source"].shape == (None, 32, 32, 3)
    hub = model.frontend.backbone.hub.network
    moved = {
        weight.path: float(np.abs(np.asarray(weight) - np.asarray(before)).max())
        for weight, before in zip(hub.weights, pretrained.weights, strict=True)
    }
    statistics = [moved.pop(path) for path in list(moved) if "moving" in path]
    # One update by Adam moves a weight by the learning rate.
    assert max(statistics) == 0 and 0.5e-4 < max(moved.values()) < 1.5e-4
    (text,) = Generator(Predictor.of_runs([Run.open(run.folder)])).generate([good_files()["png"]])
    assert isinstance(text.texts[0], str)


def test_adapters_are_refused_where_nothing_can_have_them_and_trained_where_it_can(preset, tmp_path):
    spec = source_from_dict(source(preset, tmp_path, trainable="lora")).backbone
    with pytest.raises(UserError, match="source.backbone.trainable: must be false or true for EfficientNetBackbone"):
        HubBackbone(str(preset), spec, 32)
    keras_hub.models.ViTBackbone((32, 32, 3), 8, 1, 2, 8, 16).save_to_preset(str(tmp_path / "vit"))
    keras_hub.layers.ViTImageConverter(image_size=(32, 32)).save_to_preset(str(tmp_path / "vit"))
    spec = source_from_dict(source(tmp_path / "vit", tmp_path, stride=8, trainable="lora", rank=2)).backbone
    trained = HubBackbone(str(tmp_path / "vit"), spec, 32).trainable_variables
    assert trained and all(variable.learning_rate_scale == 0.1 for variable in trained)
    assert {variable.path.rsplit("/", 1)[-1] for variable in trained} <= {"lora_kernel_a", "lora_kernel_b", "bias"}
