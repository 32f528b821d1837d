"""Normalization and augmentation of pictures."""

import keras
import numpy as np
import pytest

from tfseq2seq.features.augmentation import ImageAugmentation
from tfseq2seq.features.image import ImageNormalization, ImageResizing
from tfseq2seq.recipe import source_from_dict
from tfseq2seq.spec import ImageAugmentationSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3)).astype("float32")


def augmented(seed=1, training=True, pixels=PIXELS, **settings):
    keras.utils.set_random_seed(seed)
    return np.asarray(ImageAugmentation(ImageAugmentationSpec(**settings))(pixels, training=training))


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("symmetric", -1, 1),
        ("unit", 0, 1),
        ("imagenet", (-2.1179, -2.0357, -1.8044), (2.2489, 2.4286, 2.6400)),
    ],
)
def test_pixels_are_scaled_to_a_range(name, black, white):
    layer = ImageNormalization(source_from_dict({"kind": "image", "normalization": name}))
    found = np.asarray(layer(np.array([[[[0, 0, 0], [255, 255, 255]]]], "uint8")))
    np.testing.assert_allclose(found[0, 0], [np.broadcast_to(black, 3), np.broadcast_to(white, 3)], atol=1e-4)


def test_layers_come_back_from_their_config():
    spec = source_from_dict({"kind": "image", "size": 16, "fit": "crop"})
    for layer in (ImageResizing(spec), ImageNormalization(spec)):
        assert type(layer).from_config(layer.get_config()).spec == spec
    augmentation = ImageAugmentation(ImageAugmentationSpec(crop=0.3))
    assert ImageAugmentation.from_config(augmentation.get_config()).spec == ImageAugmentationSpec(crop=0.3)


def test_pictures_are_augmented_in_training_alone_and_by_their_seed():
    settings = {"crop": 0.3, "flip": 0.5, "brightness": 0.2, "contrast": 0.3}
    np.testing.assert_array_equal(augmented(training=False, **settings), PIXELS)
    np.testing.assert_array_equal(augmented(), PIXELS)
    found = augmented(**settings)
    assert found.shape == PIXELS.shape and found.min() >= 0 and found.max() <= 255
    np.testing.assert_array_equal(found, augmented(**settings))
    assert np.abs(found - augmented(seed=2, **settings)).max() > 1


def test_a_flip_exchanges_left_and_right():
    np.testing.assert_allclose(augmented(flip=1.0), PIXELS[:, :, ::-1], atol=1e-3)
    mirrored = [np.abs(one - other).max() > 1 for one, other in zip(augmented(flip=0.5, seed=3), PIXELS)]
    assert True in mirrored and False in mirrored, "each picture is mirrored or not by itself"


def test_a_crop_keeps_a_part_of_a_picture():
    down = np.broadcast_to(np.arange(12.0)[None, :, None, None], PIXELS.shape).astype("float32")
    found = augmented(crop=0.5, pixels=down)
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :, :1, :1], found.shape), atol=1e-3)
    heights = found[:, -1, 0, 0] - found[:, 0, 0, 0]
    assert (np.diff(found[:, :, 0, 0], axis=1) > -1e-4).all() and len(set(heights.round(3))) > 1
    assert (heights < 11).all() and (heights > 11 * 0.4).all()


def test_brightness_moves_all_pixels_and_contrast_keeps_the_mean():
    gray = PIXELS * 0.2 + 100
    moved = augmented(brightness=0.2, pixels=gray) - gray
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :1, :1, :1], moved.shape), atol=1e-3)
    assert 0.5 < np.abs(moved).max() <= 51
    stretched = augmented(contrast=0.5, pixels=gray)
    np.testing.assert_allclose(stretched.mean((1, 2, 3)), gray.mean((1, 2, 3)), rtol=1e-4)
    assert np.abs(stretched.std((1, 2, 3)) / gray.std((1, 2, 3)) - 1).max() > 0.05
