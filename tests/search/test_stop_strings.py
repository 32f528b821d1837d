"""Stop strings: the automaton against the `in` of strings, and searches that end at them."""

import numpy as np
import pytest
import tensorflow as tf
from test_search_oracle import RandomModel, tokens_of

from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict
from tfseq2seq.search.beam import beam_search
from tfseq2seq.search.constraints import length_limits
from tfseq2seq.search.sampling import sample
from tfseq2seq.search.stop_strings import StopStrings, cut_pattern
from tfseq2seq.spec import BOS, EOS, SearchSpec

# Of the tokens of `RandomModel`; <unk>, 4 and 5 are its words.
SURFACES = [b"", "你".encode(), b"", b"", "好a".encode(), b"ab"]


def text_of(tokens):
    return b"".join(SURFACES[token] for token in tokens).decode()


@pytest.mark.parametrize("strings", [["ba"], ["aba", "你好"], ["好", "ab好"], ["aab", "ab你a", "bb"]])
def test_the_automaton_stops_where_a_string_is_complete(strings):
    stops, random = StopStrings(strings, SURFACES), np.random.default_rng(3)
    found = 0
    for _ in range(60):
        tokens, state = random.choice([1, 4, 5], size=8), tf.zeros([1, 1], tf.int32)
        for count, token in enumerate(tokens, start=1):
            state = stops.advanced(state, tf.constant([[token]]))
            expected = any(text in text_of(tokens[:count]) for text in strings)
            assert (state.numpy()[0, 0] == stops.stopped) == expected
        found += expected
    assert found > 0


def test_characters_whose_bytes_are_in_several_tokens_stop_too():
    stops = StopStrings(["你"], [bytes([byte]) for byte in range(256)])
    state = tf.zeros([1, 1], tf.int32)
    for byte in "他你".encode():
        assert state.numpy()[0, 0] != stops.stopped
        state = stops.advanced(state, tf.constant([[byte]]))
    assert state.numpy()[0, 0] == stops.stopped


def searched(model, spec, prefix=None):
    """A search that stops, as the decoding of a model makes it."""
    limits, count = length_limits(spec, 1, prefix=prefix), spec.n_best if spec.sample else spec.beam
    fixed, cache = model.start(1, count, 1)
    if spec.stop_strings:
        stops = StopStrings(spec.stop_strings, SURFACES)
        lengths = None if prefix is None else tf.fill([1], tf.shape(prefix)[1])
        step, cache = stops.step(model.step, lengths), stops.cache(cache, 1, count)
    else:
        step = model.step
    search = sample if spec.sample else beam_search
    return search(step, fixed, cache, tf.fill([1], BOS), limits, spec, prefix)


@pytest.mark.parametrize("options", [{"beam": 1}, {"beam": 4, "n_best": 4}, {"sample": True, "n_best": 6}])
def test_outputs_end_with_a_stop_string_and_their_log_probability_is_that_of_its_tokens(options):
    spec = SearchSpec(length_penalty="none", max_length=12, stop_strings=("ba", "好"), **options)
    stopped = 0
    for seed in range(24 if spec.n_best == 1 else 8):
        model = RandomModel(seed)
        found = searched(model, spec)
        for rank in range(spec.n_best):
            tokens = tokens_of(found, rank=rank)
            assert tokens[-1] == EOS
            total = model.log_prob(tokens)[0]
            if any(text in text_of(tokens) for text in spec.stop_strings):
                stopped += 1
                assert not any(text in text_of(tokens[:-2]) for text in spec.stop_strings)
                # <eos> is certain after it.
                total = model.log_prob(tokens[:-1])[0]
            assert found.log_probs.numpy()[0, rank] == pytest.approx(total, abs=1e-3)
    assert stopped > 2


def test_a_stop_string_in_the_prompt_does_not_stop():
    spec = SearchSpec(beam=1, max_length=9, stop_strings=("ba",))
    prefix = tf.constant([[5, 5, 5]])
    for seed in range(6):
        without = tokens_of(searched(RandomModel(seed), SearchSpec(beam=1, max_length=9), prefix))
        found = tokens_of(searched(RandomModel(seed), spec, prefix))
        assert found[:3] == [5, 5, 5] and found[:4] == without[:4]
        assert "ba" not in text_of(found[3:-2])


def test_what_is_cut_begins_at_the_first_stop_string():
    text = tf.strings.regex_replace("x(.你 ab 好", cut_pattern(["你", "(."]), "")
    assert text.numpy().decode() == "x"


def test_stop_strings_that_cannot_be_are_refused():
    for strings, reason in ((["a", ""], "empty string"), (["a" * 257], "at most 256 bytes together, got 257")):
        with pytest.raises(UserError, match=f"^stop_strings: .*{reason}"):
            from_dict(SearchSpec, {"stop_strings": strings})
    with pytest.raises(UserError, match="^stop_strings: must be left out with min_length"):
        from_dict(SearchSpec, {"stop_strings": ["a"], "min_length": 2})
