"""Manifests of pictures with captions."""

import json

import pytest

from tfseq2seq.data.caption_manifests import Picture, read_pictures
from tfseq2seq.errors import UserError


@pytest.fixture
def manifest(tmp_path):
    """A function that writes a manifest beside two pictures, whose content does not matter."""
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "photos" / name).write_bytes(b"x")

    def write(content):
        path = tmp_path / "list"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def coco(**changes):
    return {
        "info": {"year": 2014},
        "images": [{"id": 7, "file_name": "photos/a.png"}, {"id": 8, "file_name": "photos/b.png"}],
        "annotations": [
            {"image_id": 8, "id": 1, "caption": "two "},
            {"image_id": 7, "id": 2, "caption": "one"},
            {"image_id": 8, "id": 3, "caption": "deux"},
        ],
        **changes,
    }


def named(pictures):
    return [(picture.path.rsplit("/", 1)[1], picture.captions) for picture in pictures]


@pytest.mark.parametrize("header", ["split\tpath\ttext", "split\timage\tcaption"])
def test_rows_of_a_picture_are_its_captions(manifest, header):
    rows = "train\tphotos/b.png\t two \ntest\tphotos/a.png\tone\ntrain\tphotos/b.png\tdeux\n"
    path = manifest(f"{header}\n{rows}")
    assert named(read_pictures(path)) == [("b.png", ("two", "deux")), ("a.png", ("one",))]
    assert named(read_pictures(path, "test")) == [("a.png", ("one",))]


def test_coco_captions_are_read(manifest):
    assert named(read_pictures(manifest(coco()))) == [("b.png", ("two", "deux")), ("a.png", ("one",))]


def test_absolute_paths_may_be_anywhere(manifest, tmp_path):
    path = manifest(f"path\ttext\n{tmp_path}/photos/a.png\tone\n")
    assert read_pictures(path) == [Picture(f"{tmp_path}/photos/a.png", ("one",))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "path\twords\nphotos/a.png\tx\n",
            "line 1: the header line must have one column 'text' or 'caption', got none",
        ),
        ("path\timage\ttext\n", "line 1: the header line must have one column 'path' or 'image', got 2"),
        ("path\ttext\nphotos/a.png\n", "line 2: expected 2 columns (the header line names 2), got 1"),
        ("path\ttext\n \tx\n", "line 2: the column 'path' must not be empty"),
        ("path\ttext\nphotos/c.png\tx\n", "line 2: the picture "),
        ("path\ttext\nphotos\tx\n", "must be a regular file, got a folder"),
        ("path\ttext\n../c.png\tx\n", "line 2: a relative path must stay below the folder of the manifest, got '../c"),
        ("path\ttext\nphotos/\0a.png\tx\n", "line 2: the path of a picture must not have the character NUL"),
        ("path\ttext\n", "the manifest must have at least one picture with a caption, found none"),
        ("{", "not valid JSON"),
        ({}, "COCO captions must have a list 'images'"),
        (coco(annotations=3), "COCO captions must have a list 'annotations'"),
        (coco(images=[{"id": 7}]), "images[0]: 'file_name' is missing or no text"),
        (coco(images=[{"id": 7, "file_name": "photos/a.png"}] * 2), "images[1]: the id 7 is given twice"),
        (coco(annotations=[{"image_id": 9, "caption": "x"}]), "annotations[0]: image_id 9 is not among the images"),
        (coco(annotations=[{"image_id": True, "caption": "x"}]), "annotations[0]: 'image_id' is missing or no number"),
        (coco(annotations=[{"image_id": 7, "caption": "\ud800"}]), "annotations[0]: 'caption' must be text, got half"),
        (coco(annotations=[]), "the manifest must have at least one picture with a caption, found none"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(manifest, content, message):
    with pytest.raises(UserError) as error:
        read_pictures(manifest(content))
    assert message in str(error.value) and "list" in str(error.value)


def test_a_split_must_be_there_and_coco_captions_have_none(manifest, tmp_path):
    with pytest.raises(UserError, match="no row has the split 'dev'; the splits are train"):
        read_pictures(manifest("split\tpath\ttext\ntrain\tphotos/a.png\tx\n"), "dev")
    with pytest.raises(UserError, match="must be a TSV manifest to select the split 'dev'"):
        read_pictures(manifest(coco()), "dev")
    with pytest.raises(UserError, match="must be a manifest of pictures"):
        read_pictures(tmp_path)
