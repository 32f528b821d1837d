"""Files of pictures to pixels in graph, against Pillow."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from some_pictures import bad_files, claiming, content, good_files, oriented, pixels

from tfseq2seq.features.image_files import decode_images, image_reader
from tfseq2seq.recipe import source_from_dict
from tfseq2seq.runtime.plain_images import PlainImages

SIZE = 24
GOOD, BAD = good_files(), bad_files()


def source(**settings):
    return source_from_dict({"kind": "image", "size": SIZE, "backbone": {"kind": "patches", "patch": 8}, **settings})


@functools.cache
def reader(most=50, **settings):
    """A graph from the bytes of files to pixels and messages."""
    given = [tf.TensorSpec([None], tf.string)]
    spec = source(**settings)
    return tf.function(lambda files: decode_images(files, spec, most), input_signature=given, autograph=False)


def decoded(files, **settings):
    found, faults = reader(**settings)(tf.constant(list(files), tf.string))
    return found.numpy(), [fault.decode() for fault in faults.numpy()]


def by_pillow(file):
    """The pixels that Pillow and float planes give, without any code of the package."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture) // 256).astype("uint8"))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    planes = np.asarray(picture.convert("RGB")).astype("float32")
    resized = [Image.fromarray(planes[:, :, i]).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for i in range(3)]
    return np.stack(resized, axis=2)


def test_files_of_all_kinds_give_the_pixels_that_pillow_gives():
    found, faults = decoded(GOOD.values())
    assert faults == [""] * len(GOOD)
    for name, file, own in zip(GOOD, GOOD.values(), found, strict=True):
        # Decoders of JPEG differ a little; the rest is rounding.
        limit = 4 if "jpeg" in name else 1.1
        assert np.abs(own - by_pillow(file)).max() < limit, name


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_has_a_message_and_the_others_are_read(name):
    file, message = BAD[name]
    found, faults = decoded([GOOD["png"], file, GOOD["bmp"]])
    assert faults == ["", message, ""]
    assert not found[1].any() and np.array_equal(found[0], found[2]) and found[0].any()


def test_a_batch_may_be_empty_or_of_bad_files_alone():
    assert decoded([])[0].shape == (0, SIZE, SIZE, 3)
    assert decoded([b"", b"hello"])[1] == [BAD["nothing"][1], BAD["text"][1]]


def test_pixels_are_limited_by_the_header_and_the_setting():
    assert decoded([claiming(1001, 1000)], most=1)[1] == [
        "too large: 1000 x 1001 pixels, at most 1 megapixels are answered (search.max_input)"
    ]
    # Without a limit the file is found to be damaged, as it has not so many pixels.
    assert decoded([claiming(100, 100)], most=0)[1] == [BAD["cut png"][1]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_its_exif_orientation_says(orientation):
    file = oriented(orientation)
    found, faults = decoded([file])
    assert faults == [""] and np.abs(found[0] - by_pillow(file)).max() < 4


def test_exif_data_of_motorola_order_and_after_other_segments_are_read():
    plain = content(Image.fromarray(pixels()), "JPEG", quality=95)
    entry = (0x0112).to_bytes(2, "big") + (3).to_bytes(2, "big") + (1).to_bytes(4, "big") + b"\0\6\0\0"
    data = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + b"\0\0\0\0"
    exif = b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data
    comment = b"\xff\xfe\0\x06Exif" + b"\xff"
    file = plain[:2] + comment + exif + plain[2:]
    assert Image.open(io.BytesIO(file)).getexif()[0x0112] == 6
    turned, straight = (decoded([one])[0][0].astype(int) for one in (file, plain))
    assert np.abs(turned - by_pillow(file)).max() < 4 < np.abs(turned - straight).max()


@pytest.mark.parametrize(
    "damage", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"XX*\0\x08\0\0\0"]
)
def test_damaged_exif_data_leave_a_picture_as_it_is(damage):
    plain = content(Image.fromarray(pixels()), "JPEG")
    data = b"Exif\0\0" + damage
    file = plain[:2] + b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data + plain[2:]
    np.testing.assert_array_equal(decoded([file])[0], decoded([plain])[0])


def test_the_background_shows_where_a_picture_is_transparent():
    nothing = content(Image.new("RGBA", (10, 10), (9, 9, 9, 0)), "PNG")
    assert np.array_equal(decoded([nothing], background=(1, 2, 3))[0][0, 5, 5], [1, 2, 3])


def test_crop_keeps_the_middle_and_pad_adds_black():
    wide = content(Image.fromarray(np.repeat(np.arange(90, dtype="uint8")[None, :, None], 30, 0).repeat(3, 2)), "PNG")
    cropped, padded = (decoded([wide], fit=fit)[0][0, :, :, 0] for fit in ("crop", "pad"))
    assert 29 < cropped.min() < 32 and 57 < cropped.max() < 61
    assert not padded[:7].any() and not padded[-7:].any() and padded[12].max() > 80


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_the_client_without_tensorflow_reads_the_same_pixels(fit):
    plain = PlainImages(source(fit=fit))
    found, _ = decoded(GOOD.values(), fit=fit)
    for name, file, own in zip(GOOD, GOOD.values(), found, strict=True):
        limit = 4 if "jpeg" in name else 1
        # At the edges of a padded picture, black is mixed in before or after rounding.
        assert np.abs(plain.row(file).astype(int) - own).max() <= limit, name
    assert np.abs(plain.row(oriented(6)).astype(int) - decoded([oriented(6)], fit=fit)[0][0]).max() <= 4


@pytest.mark.parametrize("name", BAD)
def test_the_client_without_tensorflow_has_the_same_messages(name):
    file, message = BAD[name]
    if name == "1-bit bmp":
        pytest.skip("Pillow reads it")
    assert PlainImages(source()).fault(50, file) == message


def test_the_client_without_tensorflow_finds_nothing_wrong_with_good_files():
    assert {PlainImages(source()).fault(50, file) for file in GOOD.values()} == {""}


def test_a_reader_of_one_file_raises_for_a_damaged_one():
    with pytest.raises(tf.errors.InvalidArgumentError):
        image_reader(source(), 50)(tf.constant(BAD["cut png"][0]))
