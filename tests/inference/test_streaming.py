"""Streams give what whole recordings give, however they are cut."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import unprejudiced

from tfseq2seq.data.synthetic.morse import generate_morse
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import SpeechToText
from tfseq2seq.inference.streaming import Streaming
from tfseq2seq.models.build import build_model
from tfseq2seq.search.transducer import latest_position
from tfseq2seq.spec import (
    AudioSpec,
    ConformerEncoderSpec,
    CTCDecoderSpec,
    ModelSpec,
    PyramidEncoderSpec,
    SearchSpec,
    TextSpec,
    TransducerDecoderSpec,
    TransformerDecoderSpec,
)

TARGET_SPEC = TextSpec(scheme="characters")
TARGET = TextFeatures(TARGET_SPEC, learn_vocabulary([b"AB CDE"], TARGET_SPEC))


@functools.cache
def speech_network(decoder, convention, subsampling, positions, chunk, left, weight):
    """A model that tests must not change."""
    keras.utils.set_random_seed(5)
    source = AudioSpec(sample_rate=8000, bins=8, convention=convention, subsampling=subsampling, normalization="global")
    encoder = ConformerEncoderSpec(
        layers=2, heads=2, ffn=16, kernel=5, positions=positions, chunk=chunk, left_chunks=left
    )
    model = build_model(
        ModelSpec(width=16, encoder=encoder, decoder=decoder, ctc_weight=weight), source, 0, TARGET.size
    )
    features = model.frontend.features
    (samples, _), *_ = generate_morse(1, seed=1)
    frames = features.unnormalized(samples[np.newaxis], np.array([len(samples)]))[0].numpy()[0]
    features.adapt_statistics(len(frames), frames.sum(axis=0), np.square(frames).sum(axis=0))
    # Random logits say nothing for certain: larger ones give transcripts worth comparing.
    for variable in model.trainable_variables:
        if "output" in variable.path and variable.path.endswith("kernel"):
            variable.assign(variable * 4.0)
    return unprejudiced(model)


def speech_model(
    decoder, *, convention="slaney", subsampling=4, positions="rotary", chunk=4, left=2, weight=0.0, **search
):
    model = speech_network(decoder, convention, subsampling, positions, chunk, left, weight)
    return SpeechToText([model], TARGET, SearchSpec(max_length=60, **search))


def streamed(streaming, samples, sizes):
    stream, index, partial = streaming.open(), 0, []
    while index < len(samples):
        size = next(sizes)
        partial.append(stream.accept(samples[index : index + size]))
        index += size
    return stream.finish(), partial


def sizes_of(seed, most=3000):
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(1, most))


CASES = {
    "ctc": (CTCDecoderSpec(), {"beam": 1}),
    "ctc beam": (CTCDecoderSpec(), {"beam": 4, "n_best": 2}),
    "ctc kaldi": (CTCDecoderSpec(), {"beam": 1, "convention": "kaldi"}),
    "ctc relative": (CTCDecoderSpec(), {"beam": 1, "positions": "relative", "subsampling": 2, "chunk": 3, "left": 0}),
    "ctc whole frames": (CTCDecoderSpec(), {"beam": 1, "subsampling": 1, "chunk": 16}),
    "ctc eighth": (CTCDecoderSpec(), {"beam": 1, "subsampling": 8, "chunk": 2}),
    "transducer": (TransducerDecoderSpec(units=8, joint=8), {"beam": 3, "n_best": 2}),
    "transducer greedy": (TransducerDecoderSpec(units=8, joint=8), {"beam": 1}),
    "joint": (TransformerDecoderSpec(layers=1, heads=2, ffn=8), {"beam": 2, "weight": 0.5, "ctc_weight": 1.0}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_stream_gives_what_the_whole_recording_gives(case):
    decoder, settings = CASES[case]
    model = speech_model(decoder, **settings)
    recordings = [samples for samples, _ in generate_morse(4, seed=2)] + [
        np.ones(1, "float32"),
        np.ones(150, "float32"),
    ]
    expected = Generator(model, 8, 1).generate(recordings)
    assert len({output.texts[0] for output in expected[:4]}) > 1
    streaming = Streaming(model)
    for seed, (samples, whole) in enumerate(zip(recordings, expected)):
        found, _ = streamed(streaming, samples, sizes_of(seed))
        assert found.texts == whole.texts
        assert found.scores == pytest.approx(whole.scores, abs=2e-3)


def test_partial_text_of_the_best_path_only_grows():
    streaming = Streaming(speech_model(CTCDecoderSpec(), beam=1))
    (samples, _), *_ = generate_morse(1, seed=3)
    found, partial = streamed(streaming, samples, sizes_of(0, 1000))
    assert partial[0] == "" != partial[-1]
    for before, after in zip(partial, [*partial[1:], found.texts[0]]):
        assert after.startswith(before)


def test_an_encoder_gives_chunk_by_chunk_what_it_gives_at_once():
    encoder = speech_model(CTCDecoderSpec(), chunk=3, left=1).models[0].encoder
    inputs = np.random.default_rng(0).normal(size=(2, 11, 16)).astype("float32")
    mask = np.arange(12)[np.newaxis] < np.array([[11], [7]])
    whole = encoder(inputs, mask[:, :11])[0].numpy()
    cache, parts = encoder.start_stream(2), []
    padded = np.pad(inputs, ((0, 0), (0, 1), (0, 0)))
    for begin in range(0, 12, 3):
        part, cache = encoder.stream(padded[:, begin : begin + 3], mask[:, begin : begin + 3], cache)
        parts.append(part.numpy())
    together = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(together[0, :11], whole[0], atol=1e-5)
    np.testing.assert_allclose(together[1, :7], whole[1, :7], atol=1e-5)


def test_a_stream_keeps_no_more_samples_than_it_needs():
    streaming = Streaming(speech_model(CTCDecoderSpec(), beam=4))
    stream = streaming.open()
    kept = []
    for _ in range(10):
        stream.accept(np.random.default_rng(0).normal(size=8000).astype("float32"))
        kept.append(len(stream._samples))
    assert max(kept) < 8000 and kept[-1] <= max(kept[:3]) + streaming.stride * streaming.chunk


@pytest.mark.parametrize("beam", [1, 3])
def test_a_transducer_reads_all_it_can_and_keeps_what_it_has_not_read(beam):
    streaming = Streaming(speech_model(TransducerDecoderSpec(units=8, joint=8), beam=beam))
    (samples, _), *_ = generate_morse(1, seed=3)
    stream = streaming.open()
    said = kept = 0
    for begin in range(0, len(samples), 2000):
        stream.accept(samples[begin : begin + 2000])
        if stream._next:
            progress = stream._state.progress
            assert int(latest_position(progress.step, progress.live.prefixes)) == stream._next - 1
            said = max(said, int(tf.reduce_max(progress.live.prefixes.lengths)))
            kept = max(kept, stream._state.encoded.shape[1])
    # However much has been said, only as much is kept as hypotheses are apart.
    assert said > 5 and kept <= (1 if beam == 1 else said)


def test_what_cannot_stream_is_refused():
    source = AudioSpec(sample_rate=8000, bins=8)
    whole = build_model(ModelSpec(width=8, encoder=PyramidEncoderSpec(units=4), decoder=CTCDecoderSpec()), source, 0, 9)
    with pytest.raises(UserError, match=r"model\.encoder\.chunk"):
        Streaming(SpeechToText([whole], TARGET, SearchSpec()))
    joint = speech_model(TransformerDecoderSpec(layers=1, heads=2, ffn=8), weight=0.5)
    with pytest.raises(UserError, match=r"search\.ctc_weight=1"):
        Streaming(joint)


def test_faults_of_a_stream_are_told():
    stream = Streaming(speech_model(CTCDecoderSpec(), beam=1)).open()
    with pytest.raises(UserError, match="sample 2 of this part is no number"):
        stream.accept(np.array([0.0, np.nan]))
    assert stream.finish().texts == [""]
    with pytest.raises(UserError, match="finished"):
        stream.accept(np.zeros(10))
    assert tf.executing_eagerly()
