"""The generated sentences with names: splits share no name, and targets hold the names of their sources."""

import pytest

from tfseq2seq.data.synthetic.names import CHINESE, ENGLISH, generate_names, write_names
from tfseq2seq.errors import UserError

KNOWN = {
    word
    for language in (ENGLISH, CHINESE)
    for word in " ".join([*(" ".join(pair) for pair in language.patterns), *sum(language.words.values(), ())]).split()
}


def names_of(lines):
    return {word for line in lines for word in line.split() if word not in KNOWN}


def test_splits_share_no_name_and_targets_copy_those_of_their_sources(tmp_path):
    paths = write_names(tmp_path / "names", train=300, validation=50, test=50)
    lines = {name: path.read_text(encoding="utf-8").splitlines() for name, path in paths.items()}
    assert {name: len(each) for name, each in lines.items()} == {
        **dict.fromkeys(("train.source", "train.target"), 300),
        **dict.fromkeys(("validation.source", "validation.target", "test.source", "test.target"), 50),
    }
    found = {split: names_of(lines[f"{split}.source"]) for split in ("train", "validation", "test")}
    assert not found["train"] & (found["validation"] | found["test"]) and not found["validation"] & found["test"]
    for source, target in zip(lines["train.source"], lines["train.target"], strict=True):
        assert names_of([target]) == names_of([source]) and source != target
    assert sum(line.isascii() for line in lines["test.source"]) == 25


def test_equal_seeds_give_equal_sentences():
    assert generate_names(20, 3, set()) == generate_names(20, 3, set()) != generate_names(20, 4, set())


@pytest.mark.parametrize(("sizes", "message"), [({"test": 0}, "at least 1 pair"), ({"test": 20_000}, "at most 10,000")])
def test_sizes_are_checked(sizes, message, tmp_path):
    with pytest.raises(UserError, match=f"test: must have {message}"):
        write_names(tmp_path / "names", **sizes)
    assert not (tmp_path / "names").exists()
