"""Every recording becomes the same mono samples whichever way it is read, or is refused with a line that names it."""

import contextlib
import io
import os
import re
import struct
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from tfseq2seq.data.audio_files import Faults, decode_audio, manifest_utterances, read_audio
from tfseq2seq.data.manifests import Utterance
from tfseq2seq.data.recording_ends import mp3_frame
from tfseq2seq.errors import UserError
from tfseq2seq.features.resampling import standardized
from tfseq2seq.features.wav import decode_wav

soundfile = pytest.importorskip("soundfile")

DATA = Path(os.environ.get("TFSEQ2SEQ_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
SAMPLES = DATA / "decoder_samples"
# The MP3 decoder rounds otherwise where the file is read to its end in one go.
ROUNDING = 2e-7
REFUSED = {"goforward.raw": "without a header"}


def tone(count=4000, rate=8000, channels=1):
    times = np.arange(count) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * (440 + 100 * side) * times) for side in range(channels)], axis=1)


def packed(samples, rate=8000, form="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def by_soundfile(contents):
    samples, rate = soundfile.read(io.BytesIO(contents), dtype="float32", always_2d=True)
    return np.clip(samples.mean(axis=1), -1, 1), rate


def fault_of(contents, rate=8000):
    with pytest.raises(UserError) as caught:
        decode_audio(contents, "some/file", rate)
    message = str(caught.value)
    assert message.startswith("some/file: ")
    assert "\n" not in message
    return message


@pytest.fixture
def without_soundfile(monkeypatch):
    """Only tensorflow-io is left to unpack with; skips where its operations do not load."""
    tensorflow_io = pytest.importorskip("tensorflow_io", exc_type=ImportError)
    import tensorflow as tf

    try:
        tensorflow_io.audio.decode_mp3(b"")
    except NotImplementedError:
        pytest.skip("tensorflow-io does not fit this TensorFlow")
    except tf.errors.OpError:
        pass
    monkeypatch.setitem(sys.modules, "soundfile", None)


# ---- real files -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the decoder samples are not here")
def test_every_decoder_sample_is_read_as_by_soundfile_or_refused():
    files = sorted(path for path in SAMPLES.iterdir() if path.suffix != ".tsv")
    assert len(files) == 44
    for path in files:
        if path.name in REFUSED:
            with pytest.raises(UserError, match=f"{path.name}: .*{REFUSED[path.name]}"):
                read_audio(path, 16000)
            continue
        expected, rate = by_soundfile(path.read_bytes())
        atol = ROUNDING if path.suffix == ".mp3" else 0
        np.testing.assert_allclose(read_audio(path, rate), expected, rtol=0, atol=atol, err_msg=path.name)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the decoder samples are not here")
def test_decoder_samples_without_soundfile(without_soundfile):
    files = sorted(path for path in SAMPLES.iterdir() if path.suffix in (".flac", ".mp3"))
    assert len(files) == 13
    for path in files:
        expected, rate = by_soundfile(path.read_bytes())
        np.testing.assert_allclose(read_audio(path, rate), expected, atol=3e-6, err_msg=path.name)
    for path in SAMPLES.glob("*.aiff"):
        with pytest.raises(UserError, match="AIFF needs soundfile"):
            read_audio(path, 16000)
    with pytest.raises(UserError, match="Opus needs soundfile"):
        read_audio(SAMPLES / "stereo.opus", 16000)


# ---- formats --------------------------------------------------------------------------------------------------------

FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")]
OTHERS = [("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"), ("AIFF", "PCM_16"), ("AIFF", "PCM_24"), ("FLAC", "PCM_S8")]
OTHERS += [("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("W64", "PCM_16"), ("W64", "ULAW")]
OTHERS += [
    ("AU", "ULAW"),
    ("AU", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("CAF", "PCM_16"),
    ("NIST", "PCM_16"),
    ("AIFF", "ALAW"),
]
OTHERS += [("VOC", "PCM_16"), ("IRCAM", "PCM_16"), ("SVX", "PCM_16"), ("MAT5", "PCM_16"), ("HTK", "PCM_16")]
# The channels that a format can have, where it is not both 1 and 2.
ONE_CHANNEL = ("GSM610", "SVX", "HTK")


@pytest.mark.parametrize(("form", "subtype"), FORMATS + OTHERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats(form, subtype, channels):
    if channels == 2 and {form, subtype} & set(ONE_CHANNEL):
        pytest.skip("it has one channel")
    contents = packed(tone(channels=channels), 8000, form, subtype)
    expected, rate = by_soundfile(contents)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode_audio(contents, "file", rate)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING if form == "MP3" else 0)


@pytest.mark.parametrize(("form", "subtype"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_without_soundfile(form, subtype, channels, without_soundfile):
    contents = packed(tone(channels=channels), 8000, form, subtype)
    expected, rate = by_soundfile(contents)
    np.testing.assert_allclose(decode_audio(contents, "file", rate), expected, atol=1e-6)


@pytest.mark.parametrize(("form", "subtype"), [pair for pair in FORMATS + OTHERS if pair not in FORMATS[:2]])
def test_missing_packages_are_named(form, subtype, monkeypatch):
    contents = packed(tone(), 8000, form, subtype)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    assert "pip install 'tfseq2seq[audio]'" in fault_of(contents)
    assert len(decode_audio(packed_wav(tone()), "file", 8000)) == 4000, "WAV needs no package"


def packed_wav(samples, rate=8000):
    data = np.rint(samples * 32767).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, samples.shape[1], rate, 2 * rate, 2 * samples.shape[1], 16)
    return b"RIFF\0\0\0\0WAVE" + form + b"data" + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize(("form", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16")])
def test_another_rate_is_resampled_as_in_the_exported_model(form, subtype):
    quanta = np.rint(tone(channels=2) * 32767).astype(np.int16)
    contents = packed(quanta, 8000, form, subtype)
    samples, rate, _ = decode_wav(packed(quanta, 8000, "WAV", subtype))
    found = decode_audio(contents, "file", 16000)
    assert found.shape == (8000,)
    np.testing.assert_allclose(found, standardized(samples, rate, 16000), atol=1e-7)


def test_overshoot_is_clipped():
    loud = np.sign(np.sin(np.arange(8000) / 7)) * 0.999
    found = decode_audio(packed(loud, 16000, "FLAC"), "file", 8000)
    assert np.abs(found).max() == 1.0


def test_flac_of_unknown_length_is_read():
    contents = bytearray(packed(tone(), 8000, "FLAC"))
    expected, _ = by_soundfile(bytes(contents))
    contents[21] &= 0xF0
    contents[22:26] = bytes(4)
    np.testing.assert_array_equal(decode_audio(bytes(contents), "file", 8000), expected)


# ---- faults ---------------------------------------------------------------------------------------------------------

FLAC = packed(np.random.default_rng(0).uniform(-0.5, 0.5, 20000), 8000, "FLAC")
STATED = bytearray(FLAC)
STATED[22:26] = (2 * 20000).to_bytes(4, "big")
UNSTATED = bytearray(FLAC)
UNSTATED[22:26] = bytes(4)


def holding(value, form):
    samples = tone()
    samples[7] = value
    return packed(samples, 8000, form, "FLOAT")


FAULTS = [
    (b"", "empty"),
    (b"NIST_1A\n   1024\nsample_count", "SPHERE"),
    (b"\xf6\xff\xf1\xff" * 100, "first bytes"),
    (b"text, not audio", "first bytes"),
    (b"fLaC", "FLAC"),
    (FLAC[:30], "FLAC"),
    (FLAC[:60], "FLAC"),
    (FLAC[:3000] + bytes(3000) + FLAC[6000:], "FLAC"),
    (packed(tone(), 8000, "OGG", "VORBIS")[:60], "Ogg"),
    (packed(tone(), 8000, "MP3")[:3], "first bytes"),
    (packed(tone(0), 8000, "WAV"), "has no samples"),
    (packed(tone(0), 8000, "AIFF"), "no samples"),
    (holding(np.nan, "AIFF"), "must be finite numbers"),
    (holding(np.inf, "AIFF"), "must be finite numbers"),
    (holding(np.nan, "WAV"), "must be finite numbers"),
    (packed_wav(tone())[:20] + b"\x11\x00" + packed_wav(tone())[22:], "WAV format 17 (IMA ADPCM)"),
    (packed_wav(tone())[:20] + b"\x99\x99" + packed_wav(tone())[22:], "WAV format 39321"),
    (packed(tone(), 8000, "OGG", "VORBIS")[:-100], "no samples: the file ends after 0.000 s, before the last page"),
    (packed_wav(tone())[:34] + b"\x40" + packed_wav(tone())[35:], "WAV format 1"),
    (
        packed(tone(), 8000, "WAV").replace(struct.pack("<I", 8000), struct.pack("<I", 0)),
        "sample rate must be from 1000 to 768000 Hz, got 0 Hz",
    ),
    (packed(tone(), 500, "AIFF"), "sample rate must be from 1000 to 768000 Hz, got 500 Hz"),
]


# Not named by their bytes: an encoder draws its serial numbers anew in each process.
@pytest.mark.parametrize("index", range(len(FAULTS)))
def test_faults(index):
    contents, reason = FAULTS[index]
    assert reason in fault_of(contents)


@pytest.mark.parametrize("index", [index for index, fault in enumerate(FAULTS) if fault[0][:4] in (b"fLaC", b"OggS")])
def test_faults_without_soundfile(index, without_soundfile):
    contents, reason = FAULTS[index]
    assert any(word in fault_of(contents) for word in (reason, "truncated"))


@pytest.mark.parametrize(("form", "subtype"), [pair for pair in FORMATS + OTHERS if pair[0] != "WAV"])
def test_no_damage_ends_in_a_traceback(form, subtype, capfd):
    rng = np.random.default_rng(0)
    whole = np.frombuffer(packed(NOISE[:2000], 8000, form, subtype), np.uint8)
    for count in range(20):
        damaged = whole.copy()
        damaged[rng.integers(0, 100, 4)] = rng.integers(0, 256, 4)
        with contextlib.suppress(UserError), warnings.catch_warnings(action="ignore"):
            decode_audio(damaged[: None if count % 2 else rng.integers(len(whole))].tobytes(), "file", 8000)
    assert "Traceback" not in capfd.readouterr().err


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "missing.wav", tmp_path, Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(UserError, match=f"{path}: cannot be read"):
            read_audio(path, 8000)


# ---- recordings that are not complete, or not alone -----------------------------------------------------------------

NOISE = np.random.default_rng(1).uniform(-0.5, 0.5, 20000)


def heard(contents, **stretch):
    """The number of samples of a recording, and the warning about it."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(contents)
        faults = Faults()
        (one,) = manifest_utterances([Utterance("u", file.name, "", **stretch)], 8000, faults).as_numpy_iterator()
        told = [message.removeprefix(f"{file.name}: ") for _, message in faults.warnings]
    assert not faults.found and len(told) < 2
    return len(one["source"]), "".join(told)


@pytest.mark.parametrize(
    ("form", "subtype", "part", "warning"),
    [
        ("WAV", "PCM_16", 0.5, r"ends after 1\.249 of 2\.500 s; 20022 bytes are missing"),
        ("WAV", "ULAW", 0.5, r"ends after 1\.24\d of 2\.500 s; \d+ bytes are missing"),
        ("WAV", "IMA_ADPCM", 0.5, r"ends after 1\.2\d\d of 2\.5\d\d s; \d+ bytes are missing"),
        ("RF64", "PCM_16", 0.5, r"ends after 1\.24\d of 2\.500 s; \d+ bytes are missing"),
        ("FLAC", "PCM_16", 0.5, r"ends after 1\.\d\d\d of 2\.500 s"),
        ("FLAC", "PCM_16", 0.9999, r"ends after 2\.\d\d\d of 2\.500 s"),
        ("MP3", "MPEG_LAYER_III", 0.5, r"ends after 1\.\d\d\d of 2\.\d\d\d s"),
        ("MP3", "MPEG_LAYER_III", 0.999, r"ends after 2\.\d\d\d of 2\.\d\d\d s"),
        ("OGG", "VORBIS", 0.5, r"ends after \d\.\d\d\d s, before the last page of its stream"),
        ("OGG", "OPUS", 0.999, r"ends after \d\.\d\d\d s, before the last page of its stream"),
        ("AIFF", "PCM_16", 0.5, r"ends after 1\.24\d s; 20027 bytes are missing"),
        ("W64", "PCM_16", 0.5, r"ends after 1\.24\d s; 20052 bytes are missing"),
        ("AU", "PCM_16", 0.5, r"ends after 1\.24\d s; 20012 bytes are missing"),
        ("CAF", "PCM_16", 0.999, r"ends after 2\.49\d s; \d+ bytes are missing"),
        ("NIST", "PCM_16", 0.5, r"ends after 1\.\d+ s; 20512 bytes are missing"),
    ],
)
def test_a_file_that_is_cut_off_is_read_with_a_warning(form, subtype, part, warning):
    # An Ogg page can hold seconds, and an incomplete one is not read.
    contents = packed(np.tile(NOISE, 4 if form == "OGG" else 1), 8000, form, subtype)
    assert heard(contents)[1] == ""
    count, told = heard(contents[: int(part * len(contents))])
    assert re.fullmatch(warning, told), told
    assert 0 < count < (80000 if form == "OGG" else 20100)
    # What is missing is no matter of a segment before it, and is one of a segment that needs it.
    assert heard(contents[: int(part * len(contents))], seconds=0.5) == (4000, "")
    assert heard(contents[: int(part * len(contents))], start=0.01)[1] == told


def test_a_flac_file_without_a_length_that_is_cut_off(tmp_path):
    assert heard(bytes(UNSTATED))[1] == ""
    assert heard(bytes(UNSTATED[: len(FLAC) // 2]))[1].endswith(" s, within a frame")
    assert heard(bytes(STATED)) == (20000, "ends after 2.500 of 5.000 s")


def test_an_mp3_file_without_a_header_of_its_length(tmp_path):
    contents = packed(NOISE, 8000, "MP3")
    bare = contents[mp3_frame(contents[:4]).size :]
    assert heard(bare)[1] == ""
    assert heard(bare + b"TAG" + bytes(125))[1] == ""
    assert heard(bare[:-5])[1].endswith(" s, within a frame")


JOINED = [("WAV", "PCM_16"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("RF64", "PCM_16"), ("FLAC", "PCM_16")]
JOINED += [
    ("CAF", "PCM_16"),
    ("NIST", "PCM_16"),
    ("MP3", "MPEG_LAYER_III"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("AIFF", "PCM_16"),
    ("W64", "PCM_16"),
    ("AU", "PCM_16"),
]


@pytest.mark.parametrize(("form", "subtype"), JOINED)
def test_of_two_files_that_are_joined_the_first_is_read_with_a_warning(form, subtype):
    first, second = (packed(part, 8000, form, subtype) for part in (NOISE, tone()))
    warning = "holds another recording after its end, which is not read"
    assert heard(first + second) == (heard(first)[0], warning)
    assert heard(first + second, seconds=1.0) == (8000, "")


def test_a_single_recording_is_read_with_a_python_warning(tmp_path):
    (tmp_path / "cut.wav").write_bytes(packed(NOISE, 8000)[:20000])
    with pytest.warns(UserWarning, match=r"cut.wav: ends after 1.247 of 2.500 s; 20044 bytes are missing"):
        assert len(read_audio(tmp_path / "cut.wav", 8000)) == 9978


# ---- manifest_utterances --------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Names to paths: recordings of several formats, some at fault."""
    contents = {
        "zeros.wav": packed(np.concatenate([tone(), np.zeros([4000, 1])]), 8000),
        "cut.flac": FLAC[:60],
        "a.flac": packed(tone(channels=2), 16000, "FLAC"),
        "a.wav": packed(tone(), 11025),
        "noise.wav": b"no wav",
        "b.ogg": packed(tone(), 8000, "OGG", "VORBIS"),
        "empty.wav": b"",
        "damaged.wav": b"RIFF, and no more",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: str(tmp_path / name) for name in [*contents, "missing.wav"]}


def test_a_manifest_is_read_in_order_and_faults_are_collected(files):
    utterances = [
        Utterance(f"{name}-{turn}", path, f"text {turn}") for turn in range(3) for name, path in files.items()
    ]
    faults = Faults()
    dataset = manifest_utterances(utterances, 8000, faults)
    passes = [list(dataset.as_numpy_iterator()) for _ in range(2)]
    good = ("zeros.wav", "a.flac", "a.wav", "b.ogg")
    expected = [(u.name, u.text, read_audio(u.path, 8000)) for u in utterances if u.name[:-2] in good]
    for found in passes:
        named = [(example["name"].decode(), example["target"].decode()) for example in found]
        assert named == [row[:2] for row in expected]
        for example, (_, _, whole) in zip(found, expected):
            np.testing.assert_array_equal(example["source"], whole)
    assert [name for name, _ in faults.found] == [u.name for u in utterances if u.name[:-2] not in good]
    assert all(message.startswith(files[name[:-2]] + ": ") for name, message in faults.found)
    assert len({message.split(": ", 1)[1] for _, message in faults.found}) == 5


def test_elements_have_static_types(files):
    spec = manifest_utterances([Utterance("a", files["a.wav"], "b")], 8000).element_spec
    assert {name: (part.dtype.name, tuple(part.shape)) for name, part in spec.items()} == {
        "source": ("float32", (None,)),
        "target": ("string", ()),
        "name": ("string", ()),
    }


def test_without_utterances_there_is_nothing():
    assert list(manifest_utterances([], 8000)) == []


def test_segments_of_a_recording(files):
    path = files["zeros.wav"]
    whole = read_audio(path, 8000)
    stretches = [(0.25, 0.5), (0.5, 0.0), (0.0, 0.125), (0.75, 0.5)]
    utterances = [Utterance(str(stretch), path, "", *stretch) for stretch in stretches]
    found = [one["source"] for one in manifest_utterances(utterances, 8000).as_numpy_iterator()]
    expected = [whole[2000:6000], whole[4000:], whole[:1000], whole[6000:]]
    for samples, part in zip(found, expected, strict=True):
        np.testing.assert_array_equal(samples, part)


@pytest.mark.parametrize("stretch", [(1.0, 0.0), (5.0, 1.0), (0.5, 1.1), (0.5, 1e-6)])
def test_a_segment_outside_of_the_recording_is_an_error(files, stretch):
    faults = Faults()
    utterances = [Utterance("u", files["zeros.wav"], "", *stretch)]
    assert list(manifest_utterances(utterances, 16000, faults)) == []
    assert f"no segment from {stretch[0]:.2f}" in faults.found[0][1]
    assert "ends at 1.00 s" in faults.found[0][1]
