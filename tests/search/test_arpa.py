"""n-gram models: distributions sum to one, files come back as they were, and back-off follows the textbook."""

import itertools
import math
import random

import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.search.arpa import read_arpa, train_ngram, write_arpa

WORDS = ["a", "b", "c", "d"]


def corpus(seed=0, count=200):
    generator = random.Random(seed)
    return [[generator.choice("aabbc") for _ in range(generator.randint(1, 7))] for _ in range(count)]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_context_sums_to_one(order):
    model = train_ngram(corpus(), order)
    for size in range(order):
        for context in itertools.product(["<s>", "a", "b", "c"], repeat=size):
            if "<s>" in context[1:]:
                continue
            total = sum(math.exp(model.conditional(context, word)) for word in ("a", "b", "c", "</s>", "<unk>"))
            assert total == pytest.approx(1.0, abs=1e-6)


def test_the_log_probability_of_a_sentence_is_the_sum_of_its_words():
    model = train_ngram(corpus(), 3)
    words = ["a", "b", "x", "c"]
    history, total = ["<s>"], 0.0
    for word in [*words, "</s>"]:
        word = word if word == "</s>" else model.known(word)
        total += model.conditional(tuple(history[-2:]), word)
        history.append(word)
    assert model.log_prob(words) == pytest.approx(total, abs=1e-9)
    perplexity, tokens, unknown = model.perplexity([words])
    assert (tokens, unknown) == (5, 1) and perplexity > 1


@pytest.mark.parametrize(("order", "perplexity"), [(2, 3.961277576), (3, 4.003369723)])
def test_kenlm_finds_the_same_perplexity(order, perplexity):
    """Of lmplz --discount_fallback and query, KenLM 0.3.0, on the same text."""
    assert train_ngram(corpus(), order).perplexity(corpus(1, 30))[0] == pytest.approx(perplexity, rel=1e-5)


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_a_file_comes_back_as_it_was(tmp_path, name):
    model = train_ngram(corpus(), 3)
    write_arpa(model, tmp_path / name)
    loaded = read_arpa(tmp_path / name)
    assert loaded.order == 3
    for words in corpus(1, 30):
        assert loaded.log_prob(words) == pytest.approx(model.log_prob(words), abs=1e-4)


ARPA = r"""\data\
ngram 1=4
ngram 2=2

\1-grams:
-99 <s> -0.30103
-0.5 </s>
-0.7 a -0.1
-0.9 b

\2-grams:
-0.2 <s> a
-0.4 a b

\end\
"""


def test_a_file_written_by_hand_has_the_answers_of_the_textbook(tmp_path):
    (tmp_path / "x.arpa").write_text(ARPA)
    model, ten = read_arpa(tmp_path / "x.arpa"), math.log(10)
    assert model.conditional(("<s>",), "a") == pytest.approx(-0.2 * ten, abs=1e-6)
    assert model.conditional(("<s>",), "b") == pytest.approx((-0.30103 - 0.9) * ten, abs=1e-5)
    assert model.conditional(("a",), "</s>") == pytest.approx((-0.1 - 0.5) * ten, abs=1e-6)
    assert model.conditional(("b",), "a") == pytest.approx(-0.7 * ten, abs=1e-6)


@pytest.mark.parametrize(
    "before, after",
    [
        ("ngram 2=2", "ngram 2=3"),
        ("ngram 2=2", "ngram 2=" + "9" * 5000),
        ("ngram 2=2", "ngram " + "9" * 5000 + "=2"),
        ("-0.4 a b", "x a b"),
        ("\\end\\\n", ""),
        ("\\2-grams:\n", ""),
    ],
)
def test_a_damaged_file_is_told_by_its_name(tmp_path, before, after):
    (tmp_path / "x.arpa").write_text(ARPA.replace(before, after))
    with pytest.raises(UserError, match="x.arpa"):
        read_arpa(tmp_path / "x.arpa")


@pytest.mark.parametrize("number", ["1e300", "nan", "inf", "100"])
def test_a_back_off_weight_is_a_number_of_sensible_size(tmp_path, number):
    (tmp_path / "x.arpa").write_text(ARPA.replace("-0.7 a -0.1", f"-0.7 a {number}"))
    with pytest.raises(
        UserError, match=r"x.arpa, line 8: (expected a number|a back-off weight must be at most 99), got"
    ):
        read_arpa(tmp_path / "x.arpa")
