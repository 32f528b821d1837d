"""Log-mel features against librosa, Kaldi and Whisper's formulas, and that padding changes nothing."""

import keras
import librosa
import numpy as np
import pytest

from tfseq2seq.features.audio import AudioFeatures
from tfseq2seq.spec import AudioSpec

RATE = 16000


def clips():
    """Two recordings of notes with overtones in noise, of different lengths, in one batch."""
    random, lengths = np.random.default_rng(0), np.array([9000, 5123], "int32")
    indices = np.arange(9000) / RATE
    notes = sum(np.sin(2 * np.pi * 180 * k * indices) / k for k in range(1, 30))
    samples = np.stack([notes, np.roll(notes, 7)]) * 0.1 + random.normal(size=(2, 9000)) * 0.02
    return np.where(np.arange(9000) < lengths[:, None], samples, 0).astype("float32"), lengths


def features(**options):
    samples, lengths = clips()
    layer = AudioFeatures(AudioSpec(**{"normalization": "none", **options}))
    frames, counts = layer(samples, lengths)
    return layer, samples, lengths, np.asarray(frames), np.asarray(counts)


@pytest.mark.parametrize("convention", ["htk", "slaney"])
def test_log_mel_equals_librosa(convention):
    _, samples, lengths, frames, counts = features(convention=convention)
    for row, length in enumerate(lengths):
        power = librosa.feature.melspectrogram(
            y=samples[row, :length].astype("float64"),
            sr=RATE,
            n_fft=400,
            hop_length=160,
            n_mels=80,
            htk=convention == "htk",
            pad_mode="constant",
        )
        expected = np.log(np.maximum(power, 1e-10)).T
        assert counts[row] == len(expected)
        np.testing.assert_allclose(frames[row, : counts[row]], expected, atol=1e-4)
        assert not frames[row, counts[row] :].any()


def test_whisper_equals_its_formula():
    _, samples, lengths, frames, counts = features(convention="whisper")
    filters = librosa.filters.mel(sr=RATE, n_fft=400, n_mels=80, dtype="float64")
    for row, length in enumerate(lengths):
        spectrum = librosa.stft(samples[row, :length].astype("float64"), n_fft=400, hop_length=160, pad_mode="reflect")
        log = np.log10(np.maximum(filters @ np.abs(spectrum[:, :-1]) ** 2, 1e-10))
        expected = ((np.maximum(log, log.max() - 8) + 4) / 4).T
        assert counts[row] == len(expected)
        np.testing.assert_allclose(frames[row, : counts[row]], expected, atol=1e-4)


def test_kaldi_equals_an_independent_implementation():
    fbank = pytest.importorskip("kaldi_native_fbank")
    _, samples, lengths, frames, counts = features(convention="kaldi", low_frequency=20.0)
    options = fbank.FbankOptions()
    options.frame_opts.dither, options.mel_opts.num_bins, options.energy_floor = 0.0, 80, 0.0
    for row, length in enumerate(lengths):
        computer = fbank.OnlineFbank(options)
        computer.accept_waveform(RATE, (samples[row, :length] * 32768).tolist())
        computer.input_finished()
        expected = np.stack([computer.get_frame(index) for index in range(computer.num_frames_ready)])
        assert counts[row] == len(expected)
        np.testing.assert_allclose(frames[row, : counts[row]], expected, atol=5e-3)


def test_mfcc_equals_librosa_and_deltas_follow():
    _, samples, lengths, frames, counts = features(features="mfcc", deltas=True)
    _, _, _, log, _ = features()
    expected = librosa.feature.mfcc(S=log[0, : counts[0]].T.astype("float64"), n_mfcc=13).T
    np.testing.assert_allclose(frames[0, : counts[0], :13], expected, atol=2e-3)
    padded = np.pad(expected, ((2, 2), (0, 0)), mode="edge")
    slopes = (
        sum(k * (padded[2 + k : 2 + k + len(expected)] - padded[2 - k : 2 - k + len(expected)]) for k in (1, 2)) / 10
    )
    np.testing.assert_allclose(frames[0, : counts[0], 13:26], slopes, atol=2e-3)
    assert frames.shape[2] == 39


@pytest.mark.parametrize("convention", ["htk", "slaney", "whisper", "kaldi"])
@pytest.mark.parametrize("options", [{}, {"normalization": "utterance"}, {"denoise": 1.0, "trim": 30.0}])
def test_more_padding_changes_nothing(convention, options):
    if convention == "whisper" and "denoise" in options:
        options = {"trim": 30.0}
    layer, samples, lengths, frames, counts = features(convention=convention, **options)
    noisy = np.pad(samples, ((0, 0), (0, 777)))
    noisy[np.arange(9777) >= lengths[:, None]] = 0.7
    padded, padded_counts = layer(noisy, lengths)
    np.testing.assert_array_equal(padded_counts, counts)
    for row, length in enumerate(lengths):
        alone, alone_count = layer(samples[row : row + 1, :length], lengths[row : row + 1])
        assert int(alone_count[0]) == counts[row]
        np.testing.assert_allclose(np.asarray(padded)[row, : counts[row]], frames[row, : counts[row]], atol=1e-3)
        np.testing.assert_allclose(np.asarray(alone)[0, : counts[row]], frames[row, : counts[row]], atol=1e-3)


@pytest.mark.parametrize("convention", ["slaney", "whisper", "kaldi"])
def test_frames_are_counted_exactly_for_every_length(convention):
    layer = AudioFeatures(AudioSpec(convention=convention, sample_rate=2000, bins=8, normalization="none"))
    lengths = np.arange(0, 160, dtype="int32")
    samples = np.ones((160, 160), "float32")
    frames, counts = layer(samples, lengths)
    expected = [layer.frames_of(int(length)) for length in lengths]
    assert np.asarray(counts).tolist() == expected and np.asarray(layer.frames_of(lengths)).tolist() == expected
    assert expected[0] == 0 and min(expected[1:]) == 1
    real = np.arange(frames.shape[1]) < np.array(expected)[:, None]
    assert np.isfinite(np.asarray(frames)).all() and not np.asarray(frames)[~real].any()


def test_utterance_normalization_makes_means_zero_and_leaves_silence_finite():
    _, _, _, frames, counts = features(normalization="utterance")
    for row in range(2):
        np.testing.assert_allclose(frames[row, : counts[row]].mean(axis=0), 0.0, atol=1e-3)
        np.testing.assert_allclose(frames[row, : counts[row]].std(axis=0), 1.0, atol=1e-2)
    layer = AudioFeatures(AudioSpec())
    silent, _ = layer(np.zeros((1, 4000), "float32"), np.array([4000], "int32"))
    assert np.isfinite(np.asarray(silent)).all()


def test_global_normalization_takes_statistics_of_a_corpus():
    spec = AudioSpec(normalization="global")
    layer, (samples, lengths) = AudioFeatures(spec), clips()
    assert not layer.adapted
    plain, counts = (np.asarray(part) for part in layer.unnormalized(samples, lengths))
    np.testing.assert_allclose(layer(samples, lengths)[0], plain, atol=1e-5)
    real = plain[np.arange(plain.shape[1]) < counts[:, None]].astype("float64")
    layer.adapt_statistics(len(real), real.sum(axis=0), np.square(real).sum(axis=0))
    assert layer.adapted
    frames = np.asarray(layer(samples, lengths)[0])
    found = frames[np.arange(plain.shape[1]) < counts[:, None]]
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(found.std(axis=0), 1.0, atol=1e-3)


def test_trimming_cuts_silence_at_both_ends_and_keeps_a_frame():
    samples = np.zeros((2, 8000), "float32")
    samples[0, 3000:5000] = np.sin(np.arange(2000) * 0.3)
    lengths = np.array([8000, 8000], "int32")
    _, counts = AudioFeatures(AudioSpec(trim=40.0, normalization="none"))(samples, lengths)
    assert 2000 / 160 <= int(counts[0]) <= 2000 / 160 + 4
    assert int(counts[1]) >= 1


def test_the_layer_is_in_float32_under_mixed_precision():
    samples, lengths = clips()
    exact = np.asarray(AudioFeatures(AudioSpec())(samples, lengths)[0])
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = AudioFeatures(AudioSpec())(samples, lengths)[0]
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(mixed.dtype) == "bfloat16"
    np.testing.assert_allclose(np.asarray(keras.ops.cast(mixed, "float32")), exact, atol=0.02)
