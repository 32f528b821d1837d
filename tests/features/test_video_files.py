"""GIF files and folders of frames to the frames that a model reads, in graph and by Pillow."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageSequence
from some_clips import bad_clips, frames, gif, good_clips

from tfseq2seq.data.gif_files import gif_bytes
from tfseq2seq.errors import UserError
from tfseq2seq.features.clips import frame_files, gif_blocks, sampled_frames
from tfseq2seq.features.video_files import decode_clips
from tfseq2seq.recipe import source_from_dict
from tfseq2seq.runtime.plain_videos import PlainVideos
from tfseq2seq.sources.video import VideoSource

SPEC = source_from_dict({"kind": "video", "frames": 4, "size": 24})
GOOD, BAD = good_clips(), bad_clips()


@functools.cache
def reader():
    given = [tf.TensorSpec([None], tf.string)]
    return tf.function(lambda files: decode_clips(files, SPEC, 50), input_signature=given, autograph=False)


def by_pillow(file):
    """The sampled frames that Pillow and float planes give, without any code of the package."""
    every = [np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(Image.open(io.BytesIO(file)))]
    wanted = [every[int((index + 0.5) / 4 * len(every))].astype("float32") for index in range(4)]
    planes = [
        [Image.fromarray(frame[:, :, i]).resize((24, 24), Image.Resampling.BILINEAR) for i in range(3)]
        for frame in wanted
    ]
    return np.stack([np.stack(own, axis=2) for own in planes])


def test_sampled_frames_are_in_the_middle_of_equal_parts():
    assert sampled_frames(4, 4) == [0, 1, 2, 3]
    assert sampled_frames(8, 4) == [1, 3, 5, 7]
    assert sampled_frames(100, 2) == [25, 75]
    assert sampled_frames(2, 4) == [0, 0, 1, 1] and sampled_frames(1, 3) == [0, 0, 0]


def test_clips_of_all_kinds_give_the_frames_that_pillow_gives():
    found, faults = reader()(tf.constant([*GOOD.values(), *(file for file, _ in BAD.values())]))
    assert [fault.decode() for fault in faults.numpy()] == [""] * len(GOOD) + [told for _, told in BAD.values()]
    plain = PlainVideos(SPEC)
    for name, file, own in zip(GOOD, GOOD.values(), found.numpy()[: len(GOOD)], strict=True):
        assert np.abs(own - by_pillow(file)).max() < 1.1, name
        assert np.abs(own.astype(int) - plain.row(file)).max() <= 1, name
        assert plain.fault(50, file) == ""
    assert not found.numpy()[len(GOOD) :].any()
    assert {name: plain.fault(50, file) for name, (file, _) in BAD.items()} == {n: told for n, (_, told) in BAD.items()}


def test_blocks_tell_the_size_before_anything_is_decoded():
    assert gif_blocks(GOOD["with a comment"]) == (40, 60, 6, True)
    cut = gif_blocks(GOOD["changes alone"][:300])
    assert 1 <= cut.frames < 6 and not cut.whole
    assert gif_blocks(BAD["large"][0]) == (4000, 3000, 6, True)
    # The limit counts the pixels of all frames together.
    files = [gif_bytes(np.zeros((count, 500, 400), "uint8"), [(0, 0, 0)] * 2) for count in (5, 6)]
    faults = decode_clips(tf.constant(files), SPEC, 1)[1].numpy()
    assert faults[0] == b"" and faults[1].startswith(b"too large: 6 frames of 400 x 500 pixels, at most 1 mega")


@pytest.mark.parametrize(("count", "colors", "sides"), [(1, 2, (8, 9)), (3, 30, (120, 90)), (2, 256, (90, 120))])
def test_written_gif_files_are_read_as_they_were_given(count, colors, sides):
    random = np.random.default_rng(colors)
    palette = [tuple(map(int, color)) for color in random.integers(0, 256, (colors, 3))]
    indices = random.integers(0, colors, (count, *sides)).astype("uint8")
    indices[0] = np.sort(indices[0], axis=1)
    file = gif_bytes(indices, palette)
    wanted = np.array(palette, "uint8")[indices]
    np.testing.assert_array_equal(tf.io.decode_gif(file).numpy(), wanted)
    for own, one in zip(wanted, ImageSequence.Iterator(Image.open(io.BytesIO(file))), strict=True):
        np.testing.assert_array_equal(np.asarray(one.convert("RGB")), own)
    with pytest.raises(ValueError, match="indices below"):
        gif_bytes(indices, palette[:1])


def test_folders_files_and_pixels_of_a_clip_are_the_same(tmp_path):
    folder, file = tmp_path / "frames", tmp_path / "one.gif"
    folder.mkdir()
    for index, frame in enumerate(frames(11)):
        Image.fromarray(frame).save(folder / f"frame{index}.png")
    (folder / ".hidden").write_text("no frame")
    # As numbers, 2 comes before 10.
    assert [path.stem for path in frame_files(folder)][1:3] == ["frame1", "frame2"]
    file.write_bytes(gif(frames(11)))
    source, plain = VideoSource(SPEC), PlainVideos(SPEC)
    (packed,) = source.pack([folder, file, file.read_bytes(), frames(11)])
    for row in packed.numpy()[1:]:
        np.testing.assert_array_equal(row, packed[0])
    for value in (folder, file, frames(11)):
        assert np.abs(plain.row(value).astype(int) - packed[0].numpy()).max() <= 1
    (tmp_path / "none").mkdir()
    (folder / "frame4.png").write_bytes(b"hello")
    no_picture = "frame4.png: no picture that can be read: it begins like no JPEG, PNG, GIF or BMP file"
    values = [tmp_path / "none", file, folder]
    assert source.faults(50, values) == [(0, "an empty folder, without a frame"), (2, no_picture)]
    assert [plain.fault(50, value) for value in values] == ["an empty folder, without a frame", "", no_picture]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (frames()[0], r"pixels must have the shape \[N, H, W, 3\] and the dtype uint8, got \[40, 60, 3\] uint8"),
        (frames()[:0], r"got \[0, 40, 60, 3\] uint8"),
        (frames() / 255.0, "the dtype uint8, got .* float64"),
        ("one.gif", "a clip must be bytes, a Path or an array of pixels, got str"),
        (b"", "input 1: an empty file, without a clip"),
    ],
)
def test_values_that_are_no_clips_are_refused(value, message):
    with pytest.raises(UserError, match=message):
        VideoSource(SPEC).pack([value])
