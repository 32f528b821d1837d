"""Files of dialogues."""

import pytest

from tfseq2seq.data.dialogues import dialogue_corpora, open_dialogues
from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import CorpusSpec, DataSpec, DialogueSpec, Recipe

SPEC = DialogueSpec()
LINES = ["a __eou__ b __eou__ c", "", "alone", '["d", "e"]', '["", " "]', "f __eou__ g __eou__"]


@pytest.fixture
def write(tmp_path):
    def write(lines, name="train"):
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(path)

    return write


def pairs(dataset):
    return [(one["source"].decode(), one["target"].decode()) for one in dataset.as_numpy_iterator()]


def test_a_file_gives_an_example_for_each_turn_after_the_first(write):
    found = open_dialogues(write(LINES), SPEC, 1, "data.train")
    assert list(found.pairs()) == [(b"a", b"b"), (b"a\x1eb", b"c"), (b"d", b"e"), (b"f", b"g")]
    assert list(found.texts("source")) == [b"a", b"b", b"d", b"f"]
    assert list(found.texts("target")) == [b"b", b"c", b"e", b"g"]


def test_lines_without_an_answer_are_counted_and_told(write):
    told = open_dialogues(write(LINES), SPEC, 1, "data.train").told("data.train")
    assert told == (
        "data.train.dialogues: 3 dialogues with 4 answers; left out are 2 lines without text, the first is line 2; "
        "left out are 1 lines of one turn, which has no answer, the first is line 3"
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a __eou__ b", '["c", 1]', '["d"'], r"train, line 2: turn 2: .* got 1; 2 lines of the file have such faults"),
        (["a", "b"], "train: must have a dialogue of at least two turns; .*'__eou__'"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(write, lines, message):
    with pytest.raises(UserError, match=message):
        open_dialogues(write(lines), SPEC, 1, "data.train")


@pytest.mark.parametrize("cache", [True, False])
def test_dialogues_are_held_out_as_a_whole(write, cache):
    lines = [f"{letter}1 __eou__ {letter}2 __eou__ {letter}3" for letter in "abcdefgh"]
    data = DataSpec(train=CorpusSpec(dialogues=write(lines)), holdout=3, history=1, cache=cache)
    corpora, told = dialogue_corpora(data, SPEC, seed=1)
    train, validation = pairs(corpora.train), pairs(corpora.validation)
    assert len(validation) == corpora.validation_count == 4 and len(train) == corpora.train_count == 12
    letters = [{text[0] for pair in side for text in pair} for side in (train, validation)]
    assert not letters[0] & letters[1]
    assert {text[:1].decode() for text in corpora.texts("target")} == letters[0]
    assert "of these answers 4, of whole dialogues, are held out" in told[0]
    assert bool(corpora.units) is not cache
    again, _ = dialogue_corpora(data, SPEC, seed=1)
    assert pairs(again.validation) == validation


def test_dialogues_held_out_leave_some_to_train_on(write):
    data = DataSpec(train=CorpusSpec(dialogues=write(LINES)), holdout=4)
    with pytest.raises(UserError, match="data.holdout: 4 of 4 answers leave no dialogue to train on"):
        dialogue_corpora(data, SPEC, seed=1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataSpec(), "data.train.dialogues: no file is given"),
        (DataSpec(train=CorpusSpec(dialogues="train")), "data.validation.dialogues: no file is given"),
    ],
)
def test_files_that_are_not_given_are_asked_for(write, monkeypatch, tmp_path, data, message):
    write(LINES)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        dialogue_corpora(data, SPEC, seed=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": {"history": 2}}, "data.history: needs dialogues (source.kind dialogue)"),
        ({"data": {"train": {"dialogues": "a"}}}, "data.train.dialogues: needs dialogues"),
        (
            {"source": {"kind": "dialogue"}, "data": {"train": {"table": "a"}}},
            "data.train.table: needs pairs of texts (source.kind text)",
        ),
        (
            {"source": {"kind": "dialogue"}, "data": {"train": {"target": "a"}}},
            "data.train.target: must be empty with source.kind dialogue; give data.train.dialogues, got 'a'",
        ),
        ({"source": {"kind": "dialogue", "speakers": ["<self>"]}}, "source.speakers: must be 2 to 10 different"),
        (
            {"source": {"kind": "dialogue", "speakers": ["<self>", "<othr>"]}},
            "source.speakers[1]: must be one of the tokens in reserved, got '<othr>'; did you mean '<other>'?",
        ),
        ({"source": {"kind": "dialogue", "separator": " "}}, "source.separator: must be text without white space"),
        ({"source": {"kind": "dialogue", "begin": "<self>"}}, "source.begin: must be empty, as turns begin"),
        ({"source": {"kind": "dialogue"}, "data": {"history": -1}}, "data.history: must be at least 0, got -1"),
    ],
)
def test_a_recipe_with_a_wrong_setting_of_dialogues_is_refused(values, message):
    with pytest.raises(UserError) as error:
        from_dict(Recipe, values)
    assert message in str(error.value)
