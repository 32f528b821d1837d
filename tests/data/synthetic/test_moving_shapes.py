"""Generated clips of moving shapes."""

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data.caption_manifests import read_pictures
from tfseq2seq.data.synthetic.moving_shapes import Motion, draw, motions, write_clips
from tfseq2seq.errors import UserError

MOTION = Motion((("red", "circle"), "left"), (("blue", "square"), "up"))


def centers(frames, index):
    """The mean column and row [N, 2] of the pixels of a color."""
    return np.array([np.argwhere(frame == index).mean(axis=0)[::-1] for frame in frames])


@pytest.mark.parametrize("seed", range(4))
def test_shapes_move_one_after_the_other_as_the_caption_says(seed):
    for motion, (axis, sign), (other_axis, other_sign) in (
        (MOTION, (0, -1), (1, -1)),
        (MOTION.backward, (1, 1), (0, 1)),
    ):
        frames, palette = draw(motion, np.random.default_rng(seed), 48, 12)
        assert frames.shape == (12, 48, 48) and len(palette) == 3
        first, second = centers(frames, 1), centers(frames, 2)
        # The second one rests in the first half, and the first one in the second half.
        assert (second[:7] == second[0]).all() and (first[5:] == first[5]).all()
        for place, along, toward in ((first[:6], axis, sign), (second[6:], other_axis, other_sign)):
            moved = np.diff(place, axis=0)
            assert (moved[:, along] * toward > 0.5).all() and (np.abs(moved[:, 1 - along]) < 0.5).all()


def test_a_clip_played_backward_has_the_caption_of_the_opposite():
    assert MOTION.captions("both") == [
        "a red circle moves left, then a blue square moves up",
        "红色的圆形先向左移动，然后蓝色的方形向上移动",
    ]
    assert MOTION.backward.captions("en") == ["a blue square moves down, then a red circle moves right"]
    assert MOTION.backward.backward == MOTION


def test_what_test_clips_show_is_in_no_training_clip_and_not_backward():
    splits = {split: set(motions(split)) for split in ("train", "validation", "test")}
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == 20 * 19 * 16
    for found in splits.values():
        assert {motion.backward for motion in found} == found
    assert len(splits["train"]) > 5 * len(splits["test"]) > 2000


def test_written_clips_are_a_manifest_and_equal_for_equal_seeds(tmp_path):
    options = {"seed": 3, "size": 24, "frames": 4, "language": "both"}
    tables = [write_clips(tmp_path / name, 3, 1, 2, **options) for name in ("one", "two")]
    train, test = (read_pictures(tables[0], split, clips=True) for split in ("train", "test"))
    assert (len(train), len(test)) == (3, 2) and all(len(one.captions) == 2 for one in train)
    assert tf.io.decode_gif(tf.io.read_file(train[0].path)).shape == (4, 24, 24, 3)
    first, second = ({path.name: path.read_bytes() for path in sorted(table.parent.rglob("*.*"))} for table in tables)
    assert first == second and len(first) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": 0}, "train: must have at least 1 clip, got 0"),
        ({"size": 20}, "size: must be at least 24 pixels, got 20"),
        ({"frames": 7}, "frames: must be an even number and at least 4, got 7"),
    ],
)
def test_a_number_out_of_range_is_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        write_clips(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()
