"""Texts that are rearranged to be filled in: what they hold, and that their place in the data decides it."""

import numpy as np
import pytest

from tfseq2seq.data.infilling import Infilling
from tfseq2seq.data.segments import BatchStream, Rows, Segments, Table, Units
from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import EOS, PAD, Recipe

PRE, SUF, MID = 4, 5, 6
TAGS = ["<pre>", "<suf>", "<mid>"]


def batch(*rows):
    width = max(map(len, rows))
    return {"target": np.array([[*row, *[PAD] * (width - len(row))] for row in rows], "int32"), "other": np.ones(2)}


def whole(row):
    """The text of a rearranged row."""
    row = row[row != PAD].tolist()
    if row[0] != PRE:
        return row
    suffix, middle = row.index(SUF), row.index(MID)
    return [*row[1:suffix], *row[middle + 1 : -1], *row[suffix + 1 : middle], row[-1]]


def test_a_text_is_whole_again_when_its_middle_is_put_between_its_ends():
    rows = [[*range(10, 10 + size), EOS] for size in (1, 5, 9)]
    random, shapes = np.random.default_rng(1), set()
    for _ in range(200):
        found = Infilling(1.0, (PRE, SUF, MID), 20)(batch(*rows), random)
        assert list(map(whole, found["target"])) == rows and (found["other"] == 1).all()
        assert all((row != PAD).sum() == len(old) + 3 for row, old in zip(found["target"], rows))
        shapes.add(tuple(found["target"][1].tolist()))
    # 15 ways to choose two of six places, and 6 to choose one twice.
    assert len(shapes) == 21


def test_a_share_is_rearranged_and_what_would_be_too_long_is_not():
    rows = [[10, 11, 12, EOS]] * 4000
    found = Infilling(0.3, (PRE, SUF, MID), 7)({"target": np.array(rows, "int32")}, np.random.default_rng(2))
    assert abs((found["target"][:, 0] == PRE).mean() - 0.3) < 0.03
    longer = Infilling(1.0, (PRE, SUF, MID), 6)({"target": np.array(rows[:5], "int32")}, np.random.default_rng(2))
    assert longer["target"].tolist() == rows[:5]


def stream(share):
    import tensorflow as tf

    lengths = np.array([4] * 12)
    table = Table(
        {"target": Rows(np.tile([10, 11, 12, EOS], 12).astype("int32"), np.cumsum(lengths))},
        lengths,
        {"target": tf.TensorSpec([None], tf.int32)},
    )
    infilling = Infilling(share, (PRE, SUF, MID), 8)
    table = infilling.measured(table)
    assert table.lengths.tolist() == [7] * 12
    units = Units.whole(tf.data.Dataset.range(1))
    segments = Segments(units, 0, lambda: (table, type("Report", (), {"kept": 12, "__add__": None})()), 3)
    return BatchStream(segments, [8], [4], 0, 3, "data.train", print, infilling)


def test_a_continued_epoch_is_rearranged_as_the_uninterrupted_one():
    source = stream(0.5)
    first = [found["target"].tolist() for found in source.dataset().take(7).as_numpy_iterator()]
    again = [found["target"].tolist() for found in stream(0.5).dataset().take(7).as_numpy_iterator()]
    assert first == again
    position = source.position(4)
    later = [found["target"].tolist() for found in stream(0.5).dataset(position).take(3).as_numpy_iterator()]
    assert later == first[4:]
    # Each epoch draws anew.
    assert sorted(map(str, first[:3])) != sorted(map(str, first[3:6]))


def test_what_infilling_needs_is_told():
    recipe = {"source": {"kind": "none"}, "target": {"reserved": TAGS}, "data": {"infilling": 0.5}}
    for change, reason in (
        (
            {"target": {"reserved": TAGS[:2]}},
            "^target.reserved: must have <pre>, <suf>, <mid> .*, and <mid> is missing",
        ),
        ({"target": {"reserved": TAGS, "begin": "<pre>"}}, "^target.begin: must be empty with data.infilling"),
        ({"source": {"kind": "text"}}, "^data.infilling: needs a language model"),
        ({"data": {"infilling": 1.5}}, "^data.infilling: must be at most 1"),
    ):
        with pytest.raises(UserError, match=reason):
            from_dict(Recipe, {**recipe, **change})
