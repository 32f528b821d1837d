"""The resampler against ideal band-limited signals, and against soxr."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.features.resampling import resample, standardized

GRAPH = tf.function(
    resample, input_signature=[tf.TensorSpec([None]), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32)]
)
# With a common divisor and without; up and down.
RATES = [(44100, 16000), (48000, 16000), (8000, 16000), (16000, 8000), (11025, 16000), (16000, 44100), (44101, 16000)]
RATES += [(16000, 16597)]


def decibels(signal, error):
    return 10 * np.log10(np.sum(np.square(signal)) / np.sum(np.square(error)))


def band_limited(rate, other):
    """Two seconds of a sum of many tones below 0.9 of the lower Nyquist frequency, as a function of the rate."""
    rng = np.random.default_rng(0)
    tones, phases = rng.uniform(20, 0.45 * min(rate, other), 50), rng.uniform(0, 2 * np.pi, 50)

    def sampled(rate, count):
        times = np.arange(count) / rate
        return sum(0.01 * np.sin(2 * np.pi * tone * times + phase) for tone, phase in zip(tones, phases))

    return sampled


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_a_band_limited_signal_is_the_same_at_the_other_rate(from_rate, to_rate):
    signal = band_limited(from_rate, to_rate)
    found = resample(signal(from_rate, 2 * from_rate), from_rate, to_rate).numpy()
    assert len(found) == 2 * to_rate
    inner = slice(1000, -1000)
    ideal = signal(to_rate, len(found))[inner]
    assert decibels(ideal, found[inner] - ideal) > 100


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_noise_comes_out_as_of_soxr(from_rate, to_rate):
    soxr = pytest.importorskip("soxr")
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(2 * from_rate))
    spectrum[np.fft.rfftfreq(2 * from_rate, 1 / from_rate) > 0.45 * min(from_rate, to_rate)] = 0
    noise = (0.1 * np.fft.irfft(spectrum, 2 * from_rate)).astype(np.float32)
    found = resample(noise, from_rate, to_rate).numpy()
    other = soxr.resample(noise, from_rate, to_rate, "HQ")
    count = min(len(found), len(other))
    inner = slice(1000, count - 1000)
    assert decibels(other[inner], found[inner] - other[inner]) > 60


@pytest.mark.parametrize(("from_rate", "to_rate"), [rates for rates in RATES if rates[0] > rates[1]])
@pytest.mark.parametrize("share", [1.02, 1.3])
def test_tones_above_the_new_nyquist_frequency_are_gone(from_rate, to_rate, share):
    tone = np.sin(np.pi * share * to_rate / from_rate * np.arange(from_rate))
    found = resample(tone, from_rate, to_rate).numpy()[1000:-1000]
    assert decibels(np.ones_like(found), found) > 95


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
@pytest.mark.parametrize("count", [0, 1, 2, 777, 5000])
def test_the_length_follows_the_rates_and_a_graph_gives_the_same(from_rate, to_rate, count):
    samples = np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)
    found = resample(samples, from_rate, to_rate)
    assert found.shape == (-(-count * to_rate // from_rate),)
    np.testing.assert_allclose(GRAPH(samples, from_rate, to_rate), found, atol=1e-6)


def test_the_first_output_is_at_the_time_of_the_first_input():
    impulse = np.zeros(2000, np.float32)
    impulse[[0, 1000]] = 1.0
    found = resample(impulse, 8000, 16000).numpy()
    assert [np.argmax(found[:1000]), 1000 + np.argmax(found[1000:])] == [0, 2000]


def test_equal_rates_give_the_samples_back():
    samples = np.random.default_rng(0).uniform(-1, 1, 1001).astype(np.float32)
    for function in (resample, GRAPH):
        np.testing.assert_array_equal(function(samples, 16000, 16000), samples)


def test_parts_far_apart_do_not_touch_each_other():
    """What blocks the computation is done in must not be seen: silence before shifts the result and changes nothing."""
    samples = np.random.default_rng(0).uniform(-1, 1, 4410).astype(np.float32)
    for rate in (44100, 44101):
        alone = resample(samples, rate, 16000).numpy()
        shifted = resample(np.concatenate([np.zeros(rate, np.float32), samples]), rate, 16000).numpy()
        np.testing.assert_allclose(shifted[16000:], alone, atol=1e-5)


def test_what_could_not_be_decoded_passes_through():
    assert standardized(np.zeros([0, 1], np.float32), 0, 16000).shape == (0,)


def test_standardized_is_mono_and_within_one():
    square = np.sign(np.sin(np.arange(4000) / 7)).astype(np.float32)
    assert np.abs(resample(square, 16000, 8000)).max() > 1.01, "the signal does not overshoot"
    found = standardized(np.stack([square, square], axis=1), 16000, 8000).numpy()
    assert np.abs(found).max() == 1.0
    np.testing.assert_array_equal(found, np.clip(resample(square, 16000, 8000), -1, 1))


MINUTE = """
import resource
import tensorflow as tf
from tfseq2seq.features.resampling import resample

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

resample(tf.zeros([1000]), {rate}, 16000)
before = megabytes()
assert resample(tf.zeros([60 * {rate}]), {rate}, 16000).shape == (960000,)
print(megabytes() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="units of memory used differ between systems")
@pytest.mark.parametrize("rate", [44100, 44101])
def test_a_minute_fits_into_little_memory(rate):
    """A matrix of all outputs by all taps would be 1.5 GB."""
    done = subprocess.run([sys.executable, "-c", MINUTE.format(rate=rate)], capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[-1]) < 200


def test_it_runs_in_a_saved_model(tmp_path):
    module = tf.Module()
    module.resample = GRAPH
    tf.saved_model.save(module, str(tmp_path), signatures=GRAPH)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    samples = np.random.default_rng(0).uniform(-1, 1, 3000).astype(np.float32)
    names = list(served.structured_input_signature[1])
    for from_rate in (44100, 44101):
        rates = {"from_rate": tf.constant(from_rate), "to_rate": tf.constant(16000)}
        found = served(**{name: rates.get(name, tf.constant(samples)) for name in names})
        np.testing.assert_allclose(*found.values(), resample(samples, from_rate, 16000), atol=1e-6)
