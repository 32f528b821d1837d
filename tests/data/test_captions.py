"""Pictures with captions to examples and batches."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from some_pictures import bad_files, good_files

from tfseq2seq.data.caption_manifests import Picture
from tfseq2seq.data.captions import (
    CaptionReport,
    batch_by_captions,
    caption_collector,
    caption_corpora,
    most_captions,
    raw_examples,
    table_examples,
)
from tfseq2seq.data.segments import Segments
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.recipe import from_dict, source_from_dict
from tfseq2seq.sources.image import ImageSource
from tfseq2seq.spec import DataSpec, TextSpec

SOURCE = ImageSource(source_from_dict({"kind": "image", "size": 16}))
PIXELS, SIGNATURE = functools.partial(SOURCE._pixels, 50), tf.TensorSpec([16, 16, 3], tf.uint8)
SPEC = TextSpec(scheme="words")
TARGET = TextFeatures(SPEC, learn_vocabulary([b"one two three four five six"], SPEC))


@pytest.fixture
def pictures(tmp_path):
    """Two pictures and a damaged one, each with captions."""
    files = {"a.png": good_files()["png"], "b.png": bad_files()["cut png"][0], "c.gif": good_files()["gif"]}
    for name, file in files.items():
        (tmp_path / name).write_bytes(file)
    captions = ("one", "", "two three"), ("four", "five"), ("one two three four five six", "six")
    return [Picture(str(tmp_path / name), own) for name, own in zip(files, captions)]


def collected(pictures, indices=None, **settings):
    spec = from_dict(DataSpec, {"max_target_length": 6, **settings})
    read = []
    examples = raw_examples(pictures, indices)
    collect = caption_collector(examples, TARGET, spec.max_target_length, PIXELS, SIGNATURE, read.append)
    table, report = collect()
    return table, report, sum(read)


def texts(table):
    return [TARGET.detokenize(tf.constant([row]))[0].numpy().decode() for row in table.fields["target"]]


def test_each_caption_is_an_example_and_the_pixels_are_held_once(pictures):
    table, report, read = collected(pictures)
    assert texts(table) == ["one", "two three", "six"] and table.lengths.tolist() == [2, 3, 2]
    first, second, third = table.fields["source"]
    assert first is second and first.shape == (16, 16, 3) and first.base is None
    assert np.abs(first.astype(int) - third).max() < 120, "the same picture in fewer colors"
    assert read == report.total == 7


def test_what_is_left_out_is_counted_and_told(pictures):
    _, report, _ = collected(pictures)
    assert (report.kept, report.pictures, report.target_tokens, report.lost, report.empty, report.wordy) == (
        *(3, 2, 7, 2),
        *(1, 1),
    )
    told = str(report + CaptionReport())
    assert told.startswith("3 captions of 2 pictures, 7 target tokens; 1 pictures with 2 captions left out because")
    assert "b.png: a picture that is damaged or cut off" in told
    assert "1 captions left out because they have no text" in told and "data.max_target_length" in told


def test_a_table_may_be_empty_and_is_a_dataset(pictures):
    table, report, _ = collected(pictures[1:2])
    assert len(table) == report.kept == 0 and list(table_examples(table)) == []
    table, _, _ = collected(pictures)
    assert [row["target"].numpy().tolist() for row in table_examples(table)] == [
        row.tolist() for row in table.fields["target"]
    ]


def test_batches_have_a_number_of_captions(pictures):
    spec = from_dict(DataSpec, {"max_target_length": 6, "batch_pairs": 2})
    batches = list(batch_by_captions(spec)(table_examples(collected(pictures)[0])))
    assert sorted(len(batch["target"]) for batch in batches) == [1, 2]
    assert set(batch_by_captions(from_dict(DataSpec, {})).sizes) == {64}
    assert most_captions(from_dict(DataSpec, {}), SIGNATURE) == (1 << 30) // (16 * 16 * 3)


def manifest(folder, pictures):
    lines = [f"{one.path.rsplit('/', 1)[1]}\t{caption}" for one in pictures for caption in one.captions]
    (folder / "list.tsv").write_text("path\ttext\n" + "\n".join(lines) + "\n")
    return str(folder / "list.tsv")


def test_a_picture_is_held_out_with_all_its_captions(pictures, tmp_path):
    spec = from_dict(DataSpec, {"train": {"manifest": manifest(tmp_path, pictures)}, "holdout": 1})
    found = caption_corpora(spec, seed=2)
    sides = [[row["target"].numpy().tolist() for row in side] for side in (found.train, found.validation)]
    assert [len(side) for side in sides] == [2, 1]
    assert sorted(map(tuple, sides[0] + sides[1])) == sorted(
        tuple(caption.encode() for caption in one.captions) for one in pictures
    )
    assert list(found.texts()) == [caption for captions in sides[0] for caption in captions]


def test_pictures_that_are_not_kept_in_memory_are_read_in_segments(pictures, tmp_path):
    spec = from_dict(
        DataSpec,
        {
            "train": {"manifest": manifest(tmp_path, pictures)},
            "validation": {"manifest": manifest(tmp_path, pictures)},
            "cache": False,
            "max_target_length": 8,
        },
    )
    units = caption_corpora(spec, seed=1).units
    assert units.sizes == [3, 2, 2]
    collect = caption_collector(units.examples, TARGET, spec.max_target_length, PIXELS, SIGNATURE)
    segments = Segments(units, 3, collect, seed=1)
    found = [segments.read(one)[0] for one in segments.of_epoch(0)]
    assert len(found) > 1
    assert sorted(text for table in found for text in texts(table)) == sorted(
        ["one", "two three", "one two three four five six", "six"]
    )


def test_a_corpus_must_be_given(tmp_path, pictures):
    with pytest.raises(UserError, match="data.train: no corpus is given; set data.train.manifest"):
        caption_corpora(from_dict(DataSpec, {"holdout": 1}), seed=1)
    with pytest.raises(UserError, match="data.validation: no corpus is given"):
        caption_corpora(from_dict(DataSpec, {"train": {"manifest": manifest(tmp_path, pictures)}}), seed=1)


def test_a_picture_that_cannot_be_opened_is_left_out_and_told(pictures, monkeypatch):
    content = SOURCE._content

    def refused(value):
        if str(value).endswith("a.png"):
            raise PermissionError(13, "Permission denied")
        return content(value)

    monkeypatch.setattr(SOURCE, "_content", refused)
    table, report, _ = collected(pictures)
    assert texts(table) == ["six"]
    assert f"{pictures[0].path}: cannot be read (Permission denied)" in str(report)
