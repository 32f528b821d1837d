"""Attention over pictures, as pictures and as text."""

import numpy as np
import pytest

from tfseq2seq.evaluation.picture_attention import grid_places, grid_weights, lit, picture_attention_png

WEIGHTS = np.array([[0.1, 0.6, 0.1, 0.2], [0.25, 0.25, 0.0, 0.5]])


def test_the_largest_weight_of_each_token_is_told_with_its_place():
    assert list(grid_places(WEIGHTS, ["cat", "</s>"])) == [
        "cat   row 1 of 2, column 2 of 2: 0.600",
        "</s>  row 2 of 2, column 2 of 2: 0.500",
    ]


def test_light_falls_where_the_attention_is():
    found = lit(np.full((20, 20, 3), 200, "uint8"), grid_weights(WEIGHTS)[0])
    assert found[0, -1, 0] == 200 and found[0, 0, 0] < 90 and found[-1, 0, 0] < 90
    assert (np.diff(found[0, :, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize("weights", [np.zeros((2, 3)), np.full((1, 4), np.nan), np.zeros(4)])
def test_weights_must_be_those_of_a_grid(weights):
    with pytest.raises(ValueError, match="a square number"):
        grid_weights(weights)


def test_a_picture_is_drawn_for_each_token(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype("uint8")
    picture_attention_png(
        np.tile(WEIGHTS, (4, 1)), ["a", "<unk>", "$x", "d", "e", "f", "g", "h"], pixels, tmp_path / "a.png"
    )
    drawn = image.imread(tmp_path / "a.png")
    # Nine pictures in two rows of at most six.
    assert drawn.shape[1] > 2 * drawn.shape[0] and drawn[..., :3].std() > 0.1
