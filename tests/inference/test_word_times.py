"""Word times: alignments against brute force, long recordings in windows against the whole."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from small_models import unprejudiced

from tfseq2seq.data.synthetic.morse import morse_utterance
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.alignment import ctc_alignment, forward_alignment, transducer_alignment
from tfseq2seq.inference.long_audio import transcribe_long, window_search
from tfseq2seq.inference.predictor import SpeechToText
from tfseq2seq.inference.subtitles import Word
from tfseq2seq.inference.transcripts import as_json_line, as_subtitles
from tfseq2seq.inference.word_times import Transcriber, Transcript, group_tokens
from tfseq2seq.models.build import build_model
from tfseq2seq.spec import (
    AudioSpec,
    CTCDecoderSpec,
    ModelSpec,
    PyramidEncoderSpec,
    RecurrentDecoderSpec,
    SearchSpec,
    TextSpec,
    TransducerDecoderSpec,
)


def log_softmax(values):
    return values - np.log(np.exp(values).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("seed", range(4))
def test_a_ctc_alignment_is_the_likeliest_of_all(seed):
    log_probs = log_softmax(np.random.default_rng(seed).normal(size=(6, 3)) * 2)
    tokens = [1, 1] if seed % 2 else [1, 2]
    paths = {}
    for path in itertools.product(range(3), repeat=6):
        said = [token for index, token in enumerate(path) if token and (not index or path[index - 1] != token)]
        if said == tokens:
            paths[path] = sum(log_probs[frame, token] for frame, token in enumerate(path))
    best = max(paths, key=paths.get)
    runs = [(token, len(list(group))) for token, group in itertools.groupby(best)]
    expected, index = [], 0
    for token, length in runs:
        if token:
            expected.append((index, index + length))
        index += length
    assert ctc_alignment(log_probs, tokens) == expected


def test_too_few_positions_are_shared():
    log_probs = log_softmax(np.zeros((2, 3)))
    assert np.ravel(ctc_alignment(log_probs, [1, 1, 1])) == pytest.approx([0, 2 / 3, 2 / 3, 4 / 3, 4 / 3, 2])


@pytest.mark.parametrize("seed", range(3))
def test_a_transducer_alignment_is_the_likeliest_of_all(seed):
    lattice = np.random.default_rng(seed).normal(size=(4, 3, 2)) * 2
    totals = {}
    for indices in itertools.combinations_with_replacement(range(4), 2):
        spoken = sum(lattice[frame, said, 1] for said, frame in enumerate(indices))
        blanks = sum(lattice[frame, sum(index <= frame for index in indices), 0] for frame in range(3))
        totals[indices] = spoken + blanks
    assert tuple(transducer_alignment(lattice, 2)) == max(totals, key=totals.get)


def test_a_forward_alignment_never_goes_back():
    weights = np.log(np.array([[0.8, 0.1, 0.05], [0.1, 0.3, 0.05], [0.05, 0.2, 0.8], [0.05, 0.4, 0.1]]))
    assert [start for start, _ in forward_alignment(weights)] == [0, 1, 2]


def features(texts, scheme="characters", size=300):
    spec = TextSpec(scheme=scheme, vocabulary_size=size)
    return TextFeatures(spec, learn_vocabulary([text.encode() for text in texts], spec))


@pytest.mark.parametrize("scheme", ["characters", "words", "bytes", "bpe"])
def test_tokens_are_grouped_into_words(scheme):
    target = features(["hello you", "you, hello"] * 20, scheme, 30)
    ids = target.tokenize(tf.constant(["hello you"]))[0].numpy().tolist()
    words = group_tokens(target, ids, [(float(index), index + 1.0) for index in range(len(ids))])
    assert [word.text for word in words] == ["hello", "you"]
    assert words[0].start == 0 and words[-1].end == len(ids) and words[0].end <= words[1].start


def test_characters_of_scripts_without_spaces_are_words():
    target = features(["你好 ab"])
    ids = target.tokenize(tf.constant(["你好 ab"]))[0].numpy().tolist()
    words = group_tokens(target, ids, [(float(index), index + 1.0) for index in range(len(ids))])
    assert words == [Word("你", 0, 1), Word("好", 1, 2), Word("ab", 3, 5)]


SOURCE = AudioSpec(sample_rate=8000, bins=8, subsampling=4, normalization="none")
FAMILIES = {
    "ctc": (CTCDecoderSpec(), 0.0),
    "transducer": (TransducerDecoderSpec(units=8, joint=8), 0.0),
    "attention": (RecurrentDecoderSpec(layers=1, units=8, attention_units=8), 0.0),
    "joint": (RecurrentDecoderSpec(layers=1, units=8, attention_units=8), 0.3),
}


def untrained(family, target, **search):
    decoder, weight = FAMILIES[family]
    encoder = PyramidEncoderSpec(layers=2, joins=1, units=8)
    spec = ModelSpec(width=8, encoder=encoder, decoder=decoder, ctc_weight=weight)
    tf.keras.utils.set_random_seed(3)
    model = unprejudiced(build_model(spec, SOURCE, 0, target.size))
    return SpeechToText([model], target, SearchSpec(beam=2, max_length=8, **search))


@pytest.mark.parametrize("family", FAMILIES)
def test_times_lie_within_the_recording_in_order(family):
    model = untrained(family, features(["ab cd"]))
    transcriber = Transcriber(model, 2)
    assert transcriber.step == pytest.approx(0.08)
    generator = np.random.default_rng(0)
    recordings = [generator.normal(size=size).astype("float32") for size in (4000, 8000, 0, 2000)]
    found = transcriber.transcribe(recordings)
    assert found[2].text == "" and found[2].words == []
    assert any(one.words for one in found)
    for one, samples in zip(found, recordings):
        times = [time for word in one.words for time in (word.start, word.end)]
        assert all(0 <= time <= len(samples) / 8000 for time in times)
        starts = [word.start for word in one.words]
        assert starts == sorted(starts)
        assert transcriber.text_of(one.words).split() == one.text.split()


def test_a_model_that_trims_is_refused():
    target = features(["ab"])
    spec = AudioSpec(sample_rate=8000, bins=8, trim=30.0)
    model = SpeechToText(
        [build_model(ModelSpec(width=8, encoder=PyramidEncoderSpec(units=4), decoder=CTCDecoderSpec()), spec, 0, 6)],
        target,
        SearchSpec(max_length=4),
    )
    with pytest.raises(UserError, match=r"source\.trim"):
        Transcriber(model)


class Keyed:
    """Stands for a transcriber that hears all: it finds the words whose middle lies in a window, cut at its edges."""

    def __init__(self, words, rate=100):
        self.words, self.rate = words, rate

    def transcribe(self, recordings):
        found = []
        for samples in recordings:
            begin = float(samples[0]) / self.rate
            end = begin + len(samples) / self.rate
            inside = [word for word in self.words if word.start < end and word.end > begin]
            # What is cut off is misheard.
            words = [
                Word(
                    word.text if begin <= word.start and word.end <= end else "?",
                    max(word.start, begin) - begin,
                    min(word.end, end) - begin,
                )
                for word in inside
            ]
            found.append(Transcript("", words, -1.0))
        return found

    def text_of(self, words):
        return " ".join(word.text for word in words)


@pytest.mark.parametrize("seed", range(5))
def test_windows_are_joined_without_loss_or_repetition(seed):
    generator = np.random.default_rng(seed)
    words, now = [], 0.0
    for number in range(60):
        now += generator.uniform(0.05, 0.6)
        length = generator.uniform(0.1, 0.8)
        words.append(Word(f"w{number}", now, now + length))
        now += length
    samples = np.arange(int((now + 1) * 100), dtype="float32")
    (found,) = transcribe_long(Keyed(words), [samples], window=8.0, overlap=2.0)
    assert found.text == " ".join(word.text for word in words)
    for word, expected in zip(found.words, words):
        assert word.start == pytest.approx(expected.start) and word.end == pytest.approx(expected.end)


def test_each_window_tells_whether_its_text_may_be_cut():
    class Full(Keyed):
        def transcribe(self, recordings):
            return [dataclasses.replace(one, cut=(len(one.words) > 1,)) for one in super().transcribe(recordings)]

    words = [Word(name, at, at + 0.5) for name, at in (("a", 0.5), ("b", 1.5), ("c", 7.0))]
    recordings = [np.arange(count, dtype="float32") for count in (1000, 300)]
    found = transcribe_long(Full(words), recordings, window=4.0, overlap=1.0)
    assert [one.cut for one in found] == [(True, False, False), (True,)]


def test_the_limit_of_a_window_grows_with_it():
    windows = {1.0: 16, 5.0: 16, 5.5: 18, 10.0: 32, 30.0: 96}
    search = SearchSpec(max_length=16, beam=2)
    assert {window: window_search(search, window).max_length for window in windows} == windows
    assert window_search(search, 30.0).beam == 2


def test_an_overlap_of_half_a_window_is_refused():
    with pytest.raises(UserError, match="shorter than half a window"):
        transcribe_long(Keyed([]), [np.zeros(10)], window=2.0, overlap=1.0)


def test_transcripts_are_written_as_json_and_subtitles():
    model = untrained("ctc", features(["ab cd"]))
    transcriber = Transcriber(model)
    (found,) = transcriber.transcribe([morse_utterance("E", np.random.default_rng(0), 8000)])
    line = json.loads(as_json_line("a.wav", found))
    assert line["path"] == "a.wav" and [word["text"] for word in line["words"]] == [word.text for word in found.words]
    assert as_subtitles(found.words, "vtt", transcriber).startswith("WEBVTT")
    assert ("-->" in as_subtitles(found.words, "srt", transcriber)) == bool(found.words)
