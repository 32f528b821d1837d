"""Generated pictures of colored shapes."""

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data.caption_manifests import read_pictures
from tfseq2seq.data.synthetic.colored_shapes import COLORS, Scene, draw, scenes, write_pictures
from tfseq2seq.errors import UserError

SCENE = Scene(("red", "circle"), ("blue", "square"), "left")


def place(pixels, color):
    """The mean column and row of the pixels of a color."""
    near = np.abs(pixels.astype(int) - COLORS[color][1]).max(axis=2) < 25
    rows, columns = np.nonzero(near)
    assert len(rows) > 20
    return columns.mean(), rows.mean()


@pytest.mark.parametrize("relation", ["left", "above"])
def test_shapes_stand_where_the_caption_says(relation):
    for seed in range(5):
        pixels = draw(Scene(SCENE.first, SCENE.second, relation), np.random.default_rng(seed), 64)
        first, second = place(pixels, "red"), place(pixels, "blue")
        axis = 0 if relation == "left" else 1
        assert first[axis] + 5 < second[axis]


def test_shapes_differ_in_their_area():
    areas = {}
    for shape in ("circle", "square", "triangle", "cross"):
        pixels = draw(Scene(("red", shape), ("blue", "square"), "left"), np.random.default_rng(1), 64)
        areas[shape] = int((np.abs(pixels.astype(int) - COLORS["red"][1]).max(axis=2) < 25).sum())
    assert (
        areas["square"] > areas["triangle"] and areas["circle"] > areas["triangle"] and areas["circle"] > areas["cross"]
    )


def test_captions_say_the_same_in_both_orders_and_languages():
    assert SCENE.captions("en") == [
        "a red circle to the left of a blue square",
        "a blue square to the right of a red circle",
    ]
    assert SCENE.captions("zh") == ["红色的圆形在蓝色的方形的左边", "蓝色的方形在红色的圆形的右边"]
    assert SCENE.captions("both") == SCENE.captions("en") + SCENE.captions("zh")


def test_what_test_pictures_show_is_in_no_training_picture():
    splits = {split: set(scenes(split)) for split in ("train", "validation", "test")}
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == 20 * 19 * 2
    assert len(splits["train"]) > 5 * len(splits["test"]) > 200


def test_written_pictures_are_a_manifest_and_equal_for_equal_seeds(tmp_path):
    tables = [write_pictures(tmp_path / name, 4, 1, 2, seed=3, size=32) for name in ("one", "two")]
    train, test = (read_pictures(tables[0], split) for split in ("train", "test"))
    assert (len(train), len(test)) == (4, 2) and all(len(one.captions) == 2 for one in train)
    assert tf.io.decode_png(tf.io.read_file(train[0].path)).shape == (32, 32, 3)
    first, second = ({path.name: path.read_bytes() for path in sorted(table.parent.rglob("*.*"))} for table in tables)
    assert first == second and len(first) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"train": 0}, "train: must have at least 1 picture, got 0"), ({"size": 8}, "size: must be at least 16 pixels")],
)
def test_a_number_out_of_range_is_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        write_pictures(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()
