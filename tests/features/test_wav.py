"""The WAV decoder reads every sample format as soundfile does, and answers all else with a fault, never an error."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.features.wav import decode_wav, mono, wav_coding, wav_warning

PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


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


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RIFX", "RF64"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_sample_formats_are_read_as_soundfile_reads_them(decode, subtype, form, channels):
    soundfile = pytest.importorskip("soundfile")
    samples = np.random.default_rng(0).uniform(-0.99, 0.99, [301, channels])
    samples[:2] = [[-1.0] * channels, [0.5] * channels]
    file = io.BytesIO()
    form, endian = ("WAV", "BIG") if form == "RIFX" else (form, "FILE")
    soundfile.write(file, samples, 8000, format=form, subtype=subtype, endian=endian)
    assert file.getvalue()[:4] == {"BIG": b"RIFX"}.get(endian, b"RF64" if form == "RF64" else b"RIFF")
    expected, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32", always_2d=True)
    np.testing.assert_array_equal(good(decode(file.getvalue())), expected)


def g711(tag, byte):
    """The sample of a byte by the formulas of ITU-T G.711, in steps of 2^-15."""
    if tag == A_LAW:
        byte ^= 0x55
        exponent, mantissa = byte >> 4 & 7, byte & 15
        steps = 2 * mantissa + 1 if exponent == 0 else (2 * mantissa + 33) * 2 ** (exponent - 1)
        return 8 * steps if byte >= 128 else -8 * steps
    byte ^= 0xFF
    exponent, mantissa = byte >> 4 & 7, byte & 15
    steps = (2 * mantissa + 33) * 2**exponent - 33
    return -4 * steps if byte >= 128 else 4 * steps


@pytest.mark.parametrize("tag", [A_LAW, MU_LAW])
@pytest.mark.parametrize("extensible", [False, True])
def test_every_code_of_telephone_recordings_has_its_sample(decode, tag, extensible):
    form = layout(tag, bits=8)
    if extensible:
        form = layout(EXTENSIBLE, bits=8) + struct.pack("<HHIH", 22, 8, 4, tag) + bytes(14)
    found = good(decode(wav(bytes(range(256)), form)))[:, 0]
    np.testing.assert_array_equal(found * 2**15, [g711(tag, byte) for byte in range(256)])


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


def closed(size, chunks, riff=None):
    """A file whose data chunk declares `size`, with what follows it, and the size of its RIFF chunk."""
    body = b"WAVE" + chunk(b"fmt ", layout()) + b"data" + struct.pack("<I", size) + chunks
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


LIST = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0")
BEXT = chunk(b"bext", b"a recorder, and nobody said anything".ljust(602, b"\0"))


@pytest.mark.parametrize(
    "contents",
    [
        closed(0, b""),
        closed(0, LIST),
        closed(0, BEXT),
        closed(0, BEXT + LIST),
        closed(0, chunk(b"id3 ", b"odd")),
        closed(0, chunk(b"id3 ", b"odd")[:-1]),
        closed(0, chunk(b"id3 ", b"odd"), riff=36 + 11),
        closed(0, LIST) + b"what follows the RIFF chunk",
        closed(0, LIST) + wav(),
        closed(0, b"") + wav(),
        closed(0, BEXT)[:-100],
    ],
)
def test_a_closed_file_without_samples_has_none_whatever_follows(decode, contents):
    assert decode(contents)[2] == "the WAV file has no samples"


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("riff", [0, 0xFFFFFFFF, 36, 12345, None])
@pytest.mark.parametrize("data", [FOUR_BYTES, FOUR_BYTES + LIST])
def test_a_stream_is_read_to_its_end(decode, size, riff, data):
    contents = closed(size, data, riff)
    assert good(decode(contents))[:, 0].tobytes() == np.float32(np.frombuffer(data, "<i2") / 2**15).tobytes()
    assert wav_warning(contents) == b""


def test_a_recording_that_is_cut_off_or_followed_by_another_gets_a_warning(decode):
    second = struct.pack("<h", 1000) * 8000
    whole = wav(second * 2, after=LIST)
    for contents, count, warning in (
        (whole, 16000, ""),
        (whole + b"RIFF", 16000, ""),
        (whole[: 44 + 12000], 6000, "ends after 0.750 of 2.000 s; 20000 bytes are missing"),
        (whole[: 44 + 31999], 15999, "ends after 2.000 of 2.000 s; 1 bytes are missing"),
        (b"RIFF\0\0\0\0" + whole[8:12000], 5978, "ends after 0.747 of 2.000 s; 20044 bytes are missing"),
        (whole + wav(), 16000, "holds another recording after its end, which is not read"),
        (wav(second)[:4] + bytes(4) + wav(second)[8:] + wav(), 8000, "holds another recording after its end, which"),
        (b"no WAV file", 0, ""),
        (whole[:36], 0, ""),
    ):
        assert len(decode(contents)[0]) == count
        found = wav_warning(contents).numpy().decode()
        assert found.startswith(warning) and bool(found) == bool(warning)


def test_a_coding_that_is_not_supported_is_known_from_the_header():
    for contents, tag, supported in (
        (wav(), PCM, True),
        (wav(form=layout(MU_LAW, bits=8)), MU_LAW, True),
        (wav(form=layout(2, bits=4, block=1024)), 2, False),
        (wav(form=layout(bits=64)), PCM, False),
        (b"RIFF", 0, True),
    ):
        assert [part.numpy() for part in wav_coding(contents)] == [tag, supported]


def test_a_stream_cut_within_a_frame_gives_whole_frames(decode):
    contents = wav(struct.pack("<6h", *range(6)), layout(channels=2), size=0xFFFFFFFF)[:-1]
    np.testing.assert_array_equal(good(decode(contents)) * 2**15, [[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "empty"),
        (b"R", "not a WAV file"),
        (b"RIFX" + wav()[4:], "must have a data chunk"),
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
        (wav(form=layout(17, bits=4, block=1024)), "WAV format 17"),
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
