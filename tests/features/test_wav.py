"""The WAV decoder reads every sample format as soundfile does, and answers all else with a fault, never an error."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.features.wav import decode_wav, mono

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE


def chunk(name, data, size=None):
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def layout(tag=PCM, channels=1, rate=8000, bits=16, block=None):
    block = channels * ((bits + 7) // 8) if block is None else block
    return struct.pack("<HHIIHH", tag, channels, rate, (rate * block) & 0xFFFFFFFF, block, bits)


FOUR = [0.0, 0.5, -1.0, 1 - 2**-15]
FOUR_BYTES = struct.pack("<4h", 0, 16384, -32768, 32767)


def wav(data=FOUR_BYTES, form=None, size=None, before=b"", after=b""):
    body = b"WAVE" + before + chunk(b"fmt ", layout() if form is None else form) + chunk(b"data", data, size) + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.fixture(scope="module", params=["eager", "graph"])
def decode(request):
    def decoded(contents):
        samples, rate, fault = function(contents)
        assert (samples.dtype, rate.dtype, fault.dtype) == (tf.float32, tf.int32, tf.string)
        return samples.numpy(), int(rate), fault.numpy().decode()

    function = decode_wav
    if request.param == "graph":
        function = tf.function(decode_wav, input_signature=[tf.TensorSpec([], tf.string)])
    return decoded


def good(decoded):
    samples, rate, fault = decoded
    assert fault == ""
    assert rate == 8000
    return samples


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_sample_formats_are_read_as_soundfile_reads_them(decode, subtype, form, channels):
    soundfile = pytest.importorskip("soundfile")
    samples = np.random.default_rng(0).uniform(-0.99, 0.99, [301, channels])
    samples[:2] = [[-1.0] * channels, [0.5] * channels]
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format=form, subtype=subtype)
    expected, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32", always_2d=True)
    np.testing.assert_array_equal(good(decode(file.getvalue())), expected)


@pytest.mark.parametrize(
    ("data", "form", "expected"),
    [
        (bytes([0, 128, 255]), layout(bits=8), [-1.0, 0.0, 127 / 128]),
        (b"\0\0\x80\xff\xff\x7f\xff\xff\xff", layout(bits=24), [-1.0, 1 - 2**-23, -(2**-23)]),
        (struct.pack("<2i", -(2**31), 2**31 - 1), layout(bits=32), [-1.0, 1 - 2**-24]),
        (struct.pack("<3f", 0.25, 1.5, -1.5), layout(FLOAT, bits=32), [0.25, 1 - 2**-24, -1.0]),
        (struct.pack("<2d", 0.25, 1.0), layout(FLOAT, bits=64), [0.25, 1 - 2**-24]),
        (struct.pack("<2h", 0x7FF0, 16), layout(bits=12), [0x7FF0 / 2**15, 16 / 2**15]),
        (struct.pack("<i", 0x40000000), layout(bits=24, block=4), [0.5]),
        (struct.pack("<2h", 0, 16384), layout(block=0), [0.0, 0.5]),
        (
            struct.pack("<2h", 0, 16384),
            layout(EXTENSIBLE) + struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", PCM) + bytes(14),
            [0.0, 0.5],
        ),
    ],
)
def test_samples_have_the_values_of_their_format(decode, data, form, expected):
    np.testing.assert_array_equal(good(decode(wav(data, form)))[:, 0], np.float32(expected))


@pytest.mark.parametrize(
    "contents",
    [
        wav(before=chunk(b"JUNK", b"odd")),
        wav(before=chunk(b"LIST", b"") + chunk(b"bext", bytes(602))),
        wav(after=chunk(b"LIST", b"behind the data")),
        wav(after=b"no chunk"),
        wav(size=0),
        wav(size=0xFFFFFFFF),
        wav(size=0x7FFFFFFF),
        wav(size=0xFFFFFFFF) + b"\x01",
        b"RIFF\xff\xff\xff\xff" + wav()[8:],
        b"RIFF\0\0\0\0" + wav()[8:],
    ],
)
def test_other_chunks_and_wrong_sizes_change_nothing(decode, contents):
    np.testing.assert_array_equal(good(decode(contents))[:, 0], np.float32(FOUR))


def test_a_stream_cut_within_a_frame_gives_whole_frames(decode):
    contents = wav(struct.pack("<6h", *range(6)), layout(channels=2), size=0xFFFFFFFF)[:-1]
    np.testing.assert_array_equal(good(decode(contents)) * 2**15, [[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "empty"),
        (b"R", "not a WAV file"),
        (b"RIFX" + wav()[4:], "not a WAV file"),
        (b"RIFF\0\0\0\0AVI " + wav()[12:], "not a WAV file"),
        (b"NIST_1A\n   1024\n", "not a WAV file"),
        (wav()[:11], "not a WAV file"),
        (wav()[:12], "must have a data chunk"),
        (wav()[:36], "must have a data chunk"),
        (wav()[:44], "has no samples"),
        (wav()[:45], "has no samples"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "fmt chunk"),
        (b"RIFF\0\0\0\0WAVEJUNK\xff\xff\xff\xff", "must have a data chunk"),
        (b"RIFF\0\0\0\0WAVE" + b"JUNK\0\0\0\0" * 2000 + wav()[12:], "must have a data chunk"),
        (wav(form=layout()[:14]), "fmt chunk"),
        (wav(form=layout(channels=0, block=2)), "0 channels"),
        (wav(form=layout(rate=0)), "sample rate must be from 1000 to 768000 Hz, got 0 Hz"),
        (wav(form=layout(rate=5)), "got 5 Hz"),
        (wav(form=layout(rate=2**32 - 1)), "got 4294967295 Hz"),
        (wav(form=layout(7, bits=8)), "WAV format 7"),
        (wav(form=layout(2, bits=4, block=1024)), "WAV format 2"),
        (wav(form=layout(bits=0)), "WAV format 1"),
        (wav(form=layout(bits=64)), "WAV format 1 with 8 bytes"),
        (wav(form=layout(EXTENSIBLE)), "WAV format 0"),
        (wav(struct.pack("<2f", 0.5, float("nan")), layout(FLOAT, bits=32)), "must be finite numbers"),
        (wav(struct.pack("<2d", 0.5, 1e300), layout(FLOAT, bits=64)), "must be finite numbers"),
        (
            wav(struct.pack("<2f", 0.5, 12000.0), layout(FLOAT, bits=32)),
            "must be between -1 and 1, got far larger ones",
        ),
    ],
)
def test_what_cannot_be_decoded_is_a_fault(decode, contents, reason):
    samples, rate, fault = decode(contents)
    assert reason in fault
    assert "\n" not in fault
    assert samples.shape == (0, 1)
    assert rate == 0


def test_no_damage_raises(decode):
    rng = np.random.default_rng(0)
    whole = np.frombuffer(wav(rng.bytes(60), layout(channels=2, bits=24)), np.uint8)
    for length in range(len(whole)):
        decode(whole[:length].tobytes())
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(0, 44, 3)] = rng.integers(0, 256, 3)
        samples, rate, fault = decode(damaged.tobytes())
        assert (len(samples) == 0) == bool(fault) == (rate == 0)
        assert np.all((samples >= -1) & (samples < 1))


def test_a_batch_goes_on_past_a_fault():
    def batch(files):
        def one(contents):
            samples, rate, fault = decode_wav(contents)
            return tf.size(samples), rate, fault

        return tf.map_fn(one, files, fn_output_signature=(tf.int32, tf.int32, tf.string))

    sizes, rates, faults = tf.function(batch)(tf.constant([wav(), b"no audio", wav(form=layout(rate=16000))]))
    assert sizes.numpy().tolist() == [4, 0, 4]
    assert rates.numpy().tolist() == [8000, 0, 16000]
    assert [bool(fault) for fault in faults.numpy()] == [False, True, False]


def test_mono_is_the_mean_of_the_channels():
    np.testing.assert_array_equal(mono([[0.5, 0.25], [-1.0, 1.0]]), [0.375, 0.0])
    np.testing.assert_array_equal(mono([[0.1], [0.2]]), np.float32([0.1, 0.2]))
