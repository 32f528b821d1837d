"""The recipe that is proposed for a corpus: it fits the corpus, gives its reasons, and is complete."""

import random

import pytest

from tfseq2seq.data.proposal import propose_recipe
from tfseq2seq.errors import UserError
from tfseq2seq.recipe import dump_recipe, load_recipe
from tfseq2seq.spec import TextSpec

WORDS = [f"w{index}" for index in range(2000)]


@pytest.fixture
def corpus(tmp_path):
    """Writes parallel files of lines, and gives their names."""

    def write(source, target):
        paths = tmp_path / "a.source", tmp_path / "a.target"
        for path, lines in zip(paths, (source, target)):
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return tuple(map(str, paths))

    return write


def test_a_larger_corpus_gets_a_larger_model_and_vocabulary(corpus):
    draw = random.Random(0)
    found = []
    for pairs in (100, 12_000):
        lines = [" ".join(draw.choices(WORDS, k=6)) for _ in range(pairs)]
        found.append(propose_recipe(*corpus(lines, lines), "my")[0])
    small, large = found
    assert small.model.width < large.model.width
    assert small.target.vocabulary_size < large.target.vocabulary_size <= 12_000 * 6 / 40
    assert small.training.steps < large.training.steps and small.data.holdout < large.data.holdout


def test_chinese_without_spaces_has_room_for_its_characters(corpus):
    draw = random.Random(0)
    characters = [chr(0x4E00 + index) for index in range(1500)]
    lines = ["".join(draw.choices(characters, k=10)) for _ in range(2000)]
    recipe, reasons = propose_recipe(*corpus(lines, ["a b c"] * 2000), "my")
    assert recipe.source.scheme == "unigram" and recipe.source.vocabulary_size >= 1600
    assert "1,500 characters" in reasons[0]


def test_letters_to_phonemes_are_characters_and_words(corpus):
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=7)) for _ in range(500)]
    recipe, _ = propose_recipe(*corpus(words, [" ".join(word.upper()) for word in words]), "my")
    assert (recipe.source, recipe.target) == (TextSpec(scheme="characters"), TextSpec(scheme="words"))


def test_long_texts_are_not_skipped(corpus):
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, k=400)) for _ in range(60)]
    recipe, reasons = propose_recipe(*corpus(lines, ["short"] * 60), "my")
    assert recipe.data.max_source_length >= 520 and recipe.data.max_target_length == 128
    assert any(reason.startswith("lengths: ") for reason in reasons)


def test_what_is_printed_can_be_read(corpus, tmp_path):
    recipe, _ = propose_recipe(*corpus(["a b"] * 40, ["c d e"] * 40), "my")
    (tmp_path / "my.yaml").write_text(dump_recipe(recipe, everything=False))
    assert load_recipe(tmp_path / "my.yaml") == recipe


def test_faults_are_told(corpus):
    with pytest.raises(UserError, match="must have at least 20 pairs to train on, got 3"):
        propose_recipe(*corpus(["a"] * 3, ["b"] * 3), "my")
    with pytest.raises(UserError, match="has 30 lines and .* has 31"):
        propose_recipe(*corpus(["a"] * 30, ["b"] * 31), "my")
