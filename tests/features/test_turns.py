"""Turns of dialogues: from lines and Python values to contexts, and from contexts to ids."""

import random

import pytest
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.features.contexts import ContextFeatures
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.turns import Context, Turn, examples_of, parse_line, turns_of
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.runtime.plain_sources import PlainDialogues
from tfseq2seq.runtime.plain_text import PlainText
from tfseq2seq.sources.dialogue import DialogueSource
from tfseq2seq.spec import DataSpec, DialogueSpec

TOKENS = ("<self>", "<other>", "<third>")
SPEC = DialogueSpec(scheme="words", reserved=TOKENS, speakers=TOKENS)
VOCABULARY = learn_vocabulary(["a b c d e f g"], SPEC.text)
TEXT = TextFeatures(SPEC.text, VOCABULARY)


def source(history=3, most=20):
    return DialogueSource(SPEC, TEXT, DataSpec(history=history, max_source_length=most))


def shown(dialogue, **options):
    (row,) = source(**options).features_of([dialogue])
    return " ".join(VOCABULARY.tokens[token] for token in row)


@pytest.mark.parametrize(
    ("line", "turns"),
    [
        ("Hi __eou__ Hello .", [Turn("Hi"), Turn("Hello .")]),
        ("Hi __eou__ __eou__ Yes __eou__", [Turn("Hi"), Turn(""), Turn("Yes")]),
        ("", []),
        ("[sighs] So __eou__ What ?", [Turn("[sighs] So"), Turn("What ?")]),
        ('["Hi", "a\\nb"]', [Turn("Hi"), Turn("a b")]),
        (' [{"speaker": "A", "text": "Hi"}, {"text": "Yes", "speaker": "B"}]', [Turn("Hi", "A"), Turn("Yes", "B")]),
        ("[]", []),
        ("a \x1e b\x1f1 __eou__ c", [Turn("a   b 1"), Turn("c")]),
    ],
)
def test_a_line_is_a_json_list_or_has_separators(line, turns):
    assert parse_line(line, "__eou__") == turns


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('["Hi", ', "not a JSON list of turns"),
        ('["Hi", 3]', 'turn 2: must be a text or an object with the key "text", got 3'),
        ('[{"speaker": "A"}]', 'turn 1: must be a text or an object with the key "text"'),
        ('[{"text": "Hi", "name": "A"}]', "turn 1: must have the keys speaker and text alone, got 'name'"),
        ('[{"text": "Hi", "speaker": " "}]', "turn 1: the speaker must be a name"),
        ('[{"text": "Hi", "speaker": "A"}, "Yes"]', "turn 2: must have a speaker, as other turns"),
        ('["a", ' + "[" * 100_000, "not a JSON list of turns"),
    ],
)
def test_a_json_list_of_something_else_is_refused(line, message):
    with pytest.raises(UserError) as error:
        parse_line(line, "__eou__")
    assert message in str(error.value)


def test_each_turn_after_the_first_is_an_answer_to_the_turns_before_it():
    turns = turns_of(["a", "b", "c", "d"])
    assert examples_of(turns, 1) == [(("a",), "b"), (("a", "b"), "c"), (("b", "c"), "d")]
    assert examples_of(turns, 0) == [(("a",), "b"), (("b",), "c"), (("c",), "d")]
    assert examples_of(turns[:1], 1) == []


def test_turns_without_names_are_of_two_speakers_who_take_turns():
    assert shown(["a", "b", "c"]) == "<other> a <self> b <other> c <eos>"
    assert shown(["a", "b"]) == "<self> a <other> b <eos>"


def test_named_speakers_are_numbered_from_the_last_turn_backward():
    said = [{"speaker": name, "text": text} for name, text in zip("ABCBD", "abcde", strict=True)]
    # B answers: the last speaker before the one of the last turn.
    assert shown(said[:3]) == "<third> a <self> b <other> c <eos>"
    # The fourth speaker has the last token too.
    assert shown(said, history=4) == "<third> a <self> b <third> c <self> d <other> e <eos>"
    answers = examples_of(turns_of(said), 4)
    assert shown(answers[3][0], history=4) == "<third> a <other> b <third> c <other> d <eos>"


def test_the_speaker_of_an_answer_decides_whose_turns_are_its_own():
    said = turns_of([{"speaker": "A", "text": "a"}, {"speaker": "A", "text": "b"}])
    ((context, answer),) = examples_of(said, 0)
    assert answer == "b" and shown(context) == "<self> a <eos>"


def test_text_cannot_spell_a_speaker():
    assert shown(["<self> a", "\x1f0b"]) == "<self> <unk> a <other> <unk> <eos>"


def test_the_oldest_turns_are_cut_as_a_whole_and_only_a_last_turn_at_its_beginning():
    turns = ["a a a", "b b", "c"]
    assert shown(turns, most=10) == "<other> a a a <self> b b <other> c <eos>"
    assert shown(turns, most=9) == "<self> b b <other> c <eos>"
    assert shown(["a", "b c d e f"], most=5) == "<other> d e f <eos>"
    assert source(most=9).warnings([turns, ["a"]]) == [
        (0, "1 turns were cut, oldest first, as at most 9 tokens are read (data.max_source_length)")
    ]
    assert shown(turns, history=1) == "<self> b b <other> c <eos>"
    assert source(history=1).warnings([turns]) == []


def random_dialogue(draw):
    texts = [" ".join(draw.choices("abcdefgx", k=draw.choice([0, 1, 1, 2, 3, 8]))) for _ in range(draw.randint(0, 5))]
    if texts and draw.random() < 0.1:
        texts[draw.randrange(len(texts))] = "a " * 400
    if draw.random() < 0.5:
        return [{"speaker": draw.choice("ABCD"), "text": text} for text in texts]
    return texts


@pytest.mark.parametrize(("history", "most"), [(0, 4), (1, 8), (3, 20)])
def test_plain_python_reads_dialogues_as_the_graph_does(history, most):
    draw = random.Random(history)
    dialogues = [random_dialogue(draw) for _ in range(150)]
    graph, plain = source(history, most), PlainDialogues(SPEC, PlainText(SPEC.text, VOCABULARY), history, most)
    rows = [row.tolist() for row in graph.features_of(dialogues)]
    assert rows == [plain.row(dialogue).tolist() for dialogue in dialogues]
    assert max(map(len, rows)) <= most

    def messages(ask):
        return [(index, ask(dialogue)) for index, dialogue in enumerate(dialogues) if ask(dialogue)]

    assert graph.warnings(dialogues) == messages(plain.warning) != []
    for limit in (3, 1000):
        found = graph.faults(limit, dialogues)
        assert found == messages(lambda dialogue, limit=limit: plain.fault(limit, dialogue)) != []


def test_padding_behind_the_turns_changes_nothing():
    features = ContextFeatures(TEXT, TOKENS, 2, 20)
    ids, _ = features.ids(tf.constant([["a", "b", "c", "d"], ["e", "f", "g", "a"]]), tf.constant([4, 2]))
    alone, _ = features.ids(tf.constant([["e", "f"]]), tf.constant([2]))
    assert ids[1].numpy().tolist() == alone[0].numpy().tolist()
    nothing, _ = features.ids(tf.zeros([2, 0], tf.string), tf.constant([0, 0]))
    assert nothing.to_list() == [[3], [3]]


def test_a_context_keeps_the_marks_of_its_speakers():
    context = Context.of([{"speaker": "A", "text": "a"}, {"speaker": "B", "text": "b"}])
    assert context == ("\x1f0a", "\x1f1b") and Context.of(context) is context
