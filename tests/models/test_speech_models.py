"""Models of recordings: lengths are exact, and a chunked encoder hears nothing after its chunk."""

import keras
import numpy as np
import pytest
from families import arrays, build, model_spec, source_spec

from tfseq2seq.layers.ctc import CTCOutput, real_positions
from tfseq2seq.models.frontends import build_frontend


@pytest.mark.parametrize("subsampling", [1, 4, 8])
def test_lengths_are_exact_for_every_number_of_samples(subsampling):
    lengths = np.array([1, 2, 19, 20, 21, 49, 50, 51, 99, 100, 101, 333, 400, 401, 777, 800], "int32")
    samples = np.random.default_rng(0).normal(size=(len(lengths), 800)).astype("float32")
    for name in ("conformer", "pyramid-gru", "convolution-pooled"):
        spec = model_spec(name, "ctc")
        frontend = build_frontend(spec, source_spec("audio", subsampling=subsampling), 0)
        encoder = frontend.encoder(spec)
        values, mask, _ = encoder(*frontend({"source": samples, "source_length": lengths}), training=False)
        logits = CTCOutput(9, encoder.memory_width, 0.0, spec.initializer)(values, mask)
        expected = [encoder.positions(frontend.positions(int(length))) for length in lengths]
        assert np.asarray(real_positions(logits)).sum(axis=1).tolist() == np.asarray(mask).sum(1).tolist() == expected
        assert np.asarray(encoder.positions(frontend.positions(lengths))).tolist() == expected
        assert min(expected) >= 1 and logits.shape[1] == max(expected)


def test_a_chunked_encoder_hears_nothing_after_the_chunk():
    model = build("conformer-chunked", "ctc", "audio")
    samples = np.random.default_rng(0).normal(size=(1, 1400)).astype("float32") * 0.1
    changed = samples.copy()
    changed[0, 1000:] = 0.3
    before, after = (
        arrays(model, {"source": one, "source_length": np.array([1400], "int32")})["positions"][0]
        for one in (samples, changed)
    )
    # Frames of 50 samples centered every 20, subsampled by 2, heard in chunks of 3.
    safe = (1000 - 25) // 20 // 2 // 3 * 3
    np.testing.assert_allclose(after[:safe], before[:safe], atol=1e-5)
    assert np.abs(after[safe:] - before[safe:]).max() > 1e-3


def test_a_chunked_encoder_over_text_reads_nothing_after_the_chunk():
    model = build("conformer-chunked", "zero-bridge")
    ids = np.arange(4, 14, dtype="int32")[np.newaxis]
    changed = np.where(np.arange(10) < 7, ids, 4).astype("int32")
    before, after = (np.asarray(model.encode({"source": one}).values)[0] for one in (ids, changed))
    np.testing.assert_allclose(after[:6], before[:6], atol=1e-5)
    assert np.abs(after[6:] - before[6:]).max() > 1e-3
    assert keras.ops.shape(before) == (10, 16)
