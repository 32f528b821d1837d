"""Augmentation: what it does to recordings, and that it leaves serving and padding alone."""

import keras
import numpy as np
import pytest

from tfseq2seq.features.augmentation import SpecAugment, WaveAugmentation
from tfseq2seq.spec import AugmentationSpec

NOTHING = {"frequency_masks": 0, "time_masks": 0}


def waves(**options):
    keras.utils.set_random_seed(5)
    return WaveAugmentation(AugmentationSpec(**NOTHING, **options))


def tone(count=8, samples=8000, lengths=None):
    lengths = np.full(count, samples) if lengths is None else np.array(lengths)
    indices = np.arange(samples)
    waves = np.sin(2 * np.pi * 440 * indices / 8000)[np.newaxis] * (indices < lengths[:, np.newaxis])
    return waves.astype("float32"), lengths.astype("int32")


def test_nothing_changes_outside_training():
    samples, lengths = tone()
    layer = waves(speed=0.1, gain=6.0, noise=1.0)
    for training in (False, None):
        found, found_lengths = layer(samples, lengths, training=training)
        np.testing.assert_array_equal(found, samples)
        np.testing.assert_array_equal(found_lengths, lengths)
    frames = np.ones((2, 9, 12), "float32")
    np.testing.assert_array_equal(
        SpecAugment(AugmentationSpec())(frames, np.array([9, 4], "int32"), training=False), frames
    )


def test_noise_has_the_ratio_asked_for_and_spares_padding_and_silence():
    samples, lengths = tone(lengths=[8000, 8000, 8000, 8000, 8000, 4000, 8000, 8000])
    samples[6] = 0.0
    found, _ = waves(noise=1.0, noise_low=10.0, noise_high=10.0)(samples, lengths, training=True)
    noise = np.asarray(found) - samples
    for row in (0, 3, 5):
        real = slice(0, lengths[row])
        ratio = 10 * np.log10((samples[row, real] ** 2).mean() / (noise[row, real] ** 2).mean())
        assert ratio == pytest.approx(10.0, abs=0.5)
    assert not np.asarray(found)[5, 4000:].any() and not np.asarray(found)[6].any()


def test_noise_comes_to_the_share_asked_for():
    samples, lengths = tone(count=400, samples=80)
    found, _ = waves(noise=0.3)(samples, lengths, training=True)
    assert (np.asarray(found) != samples).any(axis=1).mean() == pytest.approx(0.3, abs=0.08)


def test_gain_stays_within_its_limits():
    samples, lengths = tone(count=200, samples=400)
    found, _ = waves(gain=6.0)(samples, lengths, training=True)
    decibels = 20 * np.log10(np.abs(np.asarray(found)).max(axis=1) / np.abs(samples).max(axis=1))
    assert np.abs(decibels).max() <= 6.01
    assert decibels.min() < -4.0 and decibels.max() > 4.0


def test_speed_changes_length_and_pitch_together():
    samples, lengths = tone(count=40, lengths=[8000] * 20 + [4000] * 20)
    found, found_lengths = (np.asarray(part) for part in waves(speed=0.2)(samples, lengths, training=True))
    speeds = lengths / found_lengths
    assert speeds.min() >= 0.799 and speeds.max() <= 1.201 and np.ptp(speeds) > 0.2
    assert found.shape[1] >= found_lengths.max()
    for row in (0, 7, 25):
        real = found[row, : found_lengths[row]]
        crossings = np.count_nonzero(np.diff(np.signbit(real)))
        pitch = crossings / 2 / (found_lengths[row] / 8000)
        assert pitch == pytest.approx(440 * speeds[row], rel=0.01)
        assert not found[row, found_lengths[row] :].any()


def test_masks_are_whole_bands_and_stretches_within_the_recording():
    spec = AugmentationSpec(frequency_masks=1, frequency_width=3, time_masks=1, time_share=0.25)
    keras.utils.set_random_seed(1)
    layer, lengths = SpecAugment(spec), np.array([40, 12] * 100, "int32")
    frames = np.ones((200, 40, 10), "float32")
    found = np.asarray(layer(frames, lengths, training=True))
    bands, stretches = (found == 0).all(axis=1), (found == 0).all(axis=2)
    for row, length in enumerate(lengths):
        assert bands[row].sum() <= 3 and stretches[row].sum() <= length // 4
        assert not stretches[row, length:].any()
        for mask in (bands[row], stretches[row]):
            assert np.count_nonzero(np.diff(mask.astype(int))) <= 2
        np.testing.assert_array_equal(found[row] == 0, bands[row][np.newaxis] | stretches[row][:, np.newaxis])
    assert {0, 1, 2, 3} == set(bands.sum(axis=1)) and stretches[0::2].sum(axis=1).max() == 10


def test_seeded_runs_repeat_and_calls_differ():
    samples, lengths = tone()
    layers = [waves(speed=0.1, gain=3.0, noise=0.5) for _ in range(2)]
    first, second = (np.asarray(layer(samples, lengths, training=True)[0]) for layer in layers)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(np.asarray(layers[0](samples, lengths, training=True)[0]), second)


def test_layers_come_back_from_their_config():
    spec = AugmentationSpec(speed=0.1, time_masks=3)
    for kind in (WaveAugmentation, SpecAugment):
        assert kind.from_config(kind(spec).get_config()).spec == spec
