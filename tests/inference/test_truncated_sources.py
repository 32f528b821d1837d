"""Sources that are cut where a recipe asks for it: in training, live, in exported models, and told each time."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import LETTERS, TEXT, shared_network

from tfseq2seq.errors import UserError
from tfseq2seq.export.signatures import endpoints
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.recipe import from_dict
from tfseq2seq.runtime.plain_sources import PlainTokens
from tfseq2seq.runtime.plain_text import PlainText
from tfseq2seq.sources import Filtering, TextSource
from tfseq2seq.spec import EOS, DataSpec, Recipe, SearchSpec

CUT = DataSpec(truncate_source=4)
TEXTS = ["abcd", "abc", "dcbaabcd", ""]


def source(copies=False):
    made = TextSource(TEXT, LETTERS)
    made.with_data(CUT)
    made.with_target(LETTERS, copies)
    return made


def test_training_reads_the_first_tokens_and_counts_what_is_cut():
    lines = tf.data.Dataset.from_tensor_slices({"source": ["abcdab", "ab", "dcba"], "target": ["a", "b", "c"]})
    cutting, uncut = source(), LETTERS(tf.constant(["abcdab", "ab", "dcba"])).numpy()
    examples, report = cutting.filter_examples(lines, Filtering(LETTERS, CUT, "data.train", None, False, None))
    found = [example["source"].tolist() for example in examples.as_numpy_iterator()]
    assert found == [[*uncut[0, :3], EOS], [*uncut[1, :2], EOS], [*uncut[2, :3], EOS]]
    assert report.cut == 2 and "the sources of 2 were cut" in str(report)


def test_words_that_are_cut_off_are_not_copied():
    chunk = source(copies=True).copying.encode(tf.constant(["xyabz"]), tf.constant(["xz"]))
    size = LETTERS.size
    assert chunk["copy_ids"].to_list() == [[size, size + 1, LETTERS.vocabulary.tokens.index("a"), EOS]]
    assert chunk["target"].to_list() == [[size, 1, EOS]]


@pytest.mark.usefixtures("eagerly")
def test_exported_models_cut_and_tell():
    model = Predictor([shared_network("gru")], source(), LETTERS, SearchSpec(beam=1, max_length=9, max_input=20))
    best = next(one for one in endpoints(model) if one.name == "serving_default")
    found = best.function(tf.constant([*TEXTS, "a" * 30]))
    told = "1 tokens at the end were cut, as at most 4 are read (data.truncate_source)"
    warnings = [message.decode().split("; ")[0] for message in found["warning"].numpy()]
    assert warnings[0] == told and warnings[2] == told.replace("1", "5", 1)
    assert "cut, as" not in warnings[1] + warnings[3] + warnings[4]
    assert found["error"].numpy()[4], "what is longer than the limit of inputs is not answered"
    same = best.function(tf.constant(["abc", "dcb"]))["text"].numpy()
    assert found["text"].numpy()[0] == same[0] and found["text"].numpy()[2] == same[1]


@pytest.mark.parametrize("copies", [False, True])
def test_clients_without_tensorflow_cut_likewise(copies):
    live, text = source(copies), PlainText(TEXT, LETTERS.vocabulary, 4)
    plain = PlainTokens(TEXT, text, PlainText(TEXT, LETTERS.vocabulary) if copies else None)
    for value, row in zip([*TEXTS, "xyzxab"], live.features_of([*TEXTS, "xyzxab"])):
        np.testing.assert_array_equal(plain.row(value), row)
        assert plain.warning(value) == dict(live.warnings([value])).get(0, "")
    assert plain.fault(5, "abcdab") and not plain.fault(7, "abcdab")
    assert live.config()["truncate_source"] == 4


@pytest.mark.parametrize(
    "values",
    [
        {"data": {"truncate_source": 1}},
        {"data": {"truncate_source": 200}},
        {"data": {"truncate_source": 64}, "source": {"kind": "dialogue"}},
        {"data": {"truncate_source": 64}, "source": {"kind": "audio"}},
    ],
)
def test_limits_that_cannot_hold_are_refused(values):
    with pytest.raises(UserError, match=r"data\.truncate_source: (must be|needs pairs of texts)"):
        from_dict(Recipe, values)
