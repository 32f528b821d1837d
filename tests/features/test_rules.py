"""Rules after search: expressions in order, whole words of a lexicon, faults by file and line."""

import pytest
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.features.rules import Rules, load_rules
from tfseq2seq.spec import RulesSpec


def applied(text, patterns=(), lexicon=()):
    return Rules(patterns, lexicon)(tf.constant([[text]]))[0, 0].numpy().decode()


def test_expressions_are_applied_in_order_with_groups():
    rules = [(r"(\d+) percent", r"\1 %"), ("%", "pct")]
    assert applied("5 percent of 10 percent", rules) == "5 pct of 10 pct"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i saw anna in new york", "i saw Anna in New York"),
        ("new york new york", "New York New York"),
        ("ANNA, anna's", "Anna, anna's"),
        ("hannah annab", "hannah annab"),
        ("new  york!", "New York!"),
        ("", ""),
        ("mueller", "Müller"),
        ("Zoë zoë", "Zoe Zoe"),
    ],
)
def test_whole_words_are_spelt_as_the_lexicon_has_them(text, expected):
    lexicon = [("anna", "Anna"), ("new york", "New York"), ("new", "NEW"), ("mueller", "Müller"), ("zoë", "Zoe")]
    assert applied(text, lexicon=lexicon[:2] + lexicon[3:]) == expected


def test_several_words_come_before_one_of_them():
    assert applied("new york is new", lexicon=[("new york", "NYC"), ("new", "NEW")]) == "NYC is NEW"


def test_backslashes_of_a_spelling_are_text():
    assert applied("a b", lexicon=[("a b", r"x\1")]) == r"x\1"


def test_it_runs_in_a_graph_on_any_shape():
    rules = Rules([("a", "b")], [("b", "Q")])
    found = tf.function(rules, input_signature=[tf.TensorSpec([None, 2], tf.string)])(tf.constant([["a", "c"]] * 3))
    assert found.numpy().tolist() == [[b"Q", b"c"]] * 3


def test_files_are_read_and_their_faults_are_told(tmp_path):
    patterns, lexicon = tmp_path / "rules.tsv", tmp_path / "names.tsv"
    patterns.write_text("# units\n\nkilo ?meters?\tkm\n")
    lexicon.write_text("anna\tAnna\n")
    rules = load_rules(RulesSpec(patterns=str(patterns), lexicon=str(lexicon)))
    assert rules(tf.constant(["anna ran 5 kilometers"])).numpy() == [b"Anna ran 5 km"]
    assert not load_rules(RulesSpec())
    for content, message in (
        ("a(\tb\n", r"rules\.tsv, line 1: 'a\(' is not a valid regular expression"),
        ("a\tb\nno tab\n", r"rules\.tsv, line 2: expected 2 columns \(.*\), separated by a tab, got 1"),
        ("(a)\t\\2\n", r"rules\.tsv, line 1: .* refers to group 2, but the number of groups in '\(a\)' is 1"),
    ):
        patterns.write_text(content)
        with pytest.raises(UserError, match=message):
            load_rules(RulesSpec(patterns=str(patterns)))
    lexicon.write_text("anna\t\n")
    with pytest.raises(UserError, match=r"names\.tsv, line 1: both columns must not be empty"):
        load_rules(RulesSpec(lexicon=str(lexicon)))


def test_control_characters_of_the_text_stay():
    text = "a\0b \x02 a \0"
    assert applied(text, lexicon=[("a", "X"), ("b c", "Y")]) == "X\0b \x02 X \0"
