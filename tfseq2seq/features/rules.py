"""Rules for text that a model has found, in graph: regular expressions in order, then proper spellings of words.

They repair what training data spell otherwise than readers want it: names, abbreviations, units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.files import expanded_path, read_lines
from tfseq2seq.spec import RulesSpec

# What stands on both sides of a word while the lexicon is looked up, and what keeps spellings from being words again.
_EDGE, _DONE = "\x00", "\x02"
_WORD = r"([\p{L}\p{M}\p{N}_']+)"


class Rules(tf.Module):
    """Strings [...] to strings [...].

    Args:
        patterns: (regular expression in RE2's syntax, replacement with \\1 to \\9 for groups), applied one after the
            other to all places.
        lexicon: (words as found, case aside, words as wanted). Only whole words are replaced; where several fit, the
            one of most words.

    Raises:
        UserError: an expression that RE2 does not take.
    """

    def __init__(self, patterns: Sequence[tuple[str, str]] = (), lexicon: Sequence[tuple[str, str]] = ()):
        super().__init__(name="rules")
        for pattern, replacement in patterns:
            check_pattern(pattern, replacement)
        self.patterns, self.several = list(patterns), []
        words = [(found.lower().split(), wanted) for found, wanted in lexicon]
        # The longest first, so that "new york city" is not taken apart by "new york".
        for found, wanted in sorted((pair for pair in words if len(pair[0]) > 1), key=lambda pair: -len(pair[0])):
            within = r"\s+".join(f"{_EDGE}{re.escape(word)}{_EDGE}" for word in found)
            self.several.append((f"(?i){within}", _DONE + wanted.replace("\\", r"\\") + _EDGE))
        # A table cannot be empty.
        single = {"": "", **{found[0]: wanted for found, wanted in words if len(found) == 1}}
        self._table: tf.lookup.StaticHashTable | None = None
        if lexicon:
            pairs = tf.lookup.KeyValueTensorInitializer(
                tf.constant(list(single), tf.string), tf.constant(list(single.values()), tf.string)
            )
            self._table = tf.lookup.StaticHashTable(pairs, default_value="")

    def __bool__(self) -> bool:
        return bool(self.patterns) or self._table is not None

    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        for pattern, replacement in self.patterns:
            text = tf.strings.regex_replace(text, pattern, replacement)
        return text if self._table is None else self._spelt(text, self._table)

    def _spelt(self, text: tf.Tensor, table: tf.lookup.StaticHashTable) -> tf.Tensor:
        """Words as the lexicon wants them."""
        marked = tf.strings.regex_replace(tf.reshape(text, [-1]), _WORD, rf"{_EDGE}\1{_EDGE}")
        for pattern, replacement in self.several:
            marked = tf.strings.regex_replace(marked, pattern, replacement)
        pieces = tf.strings.split(marked, _EDGE)
        wanted = table.lookup(tf.strings.lower(pieces.flat_values, encoding="utf-8"))
        chosen = tf.where(tf.equal(wanted, ""), pieces.flat_values, wanted)
        joined = tf.strings.reduce_join(pieces.with_flat_values(chosen), axis=1)
        return tf.reshape(tf.strings.regex_replace(joined, _DONE, ""), tf.shape(text))


def load_rules(spec: RulesSpec) -> Rules:
    """Reads the files a spec names.

    Raises:
        UserError: a file cannot be read, a line is not as it should be; the message has file and line.
    """
    patterns = _pairs(spec.patterns, "a regular expression and its replacement")
    for number, (pattern, replacement) in patterns:
        try:
            check_pattern(pattern, replacement)
        except UserError as error:
            raise UserError(f"{expanded_path(spec.patterns)}, line {number}: {error}") from None
    lexicon = _pairs(spec.lexicon, "words as found and words as wanted")
    for number, (found, wanted) in lexicon:
        if not found.strip() or not wanted:
            raise UserError(f"{expanded_path(spec.lexicon)}, line {number}: nothing on one side of the tab")
    return Rules([pair for _, pair in patterns], [pair for _, pair in lexicon])


def check_pattern(pattern: str, replacement: str) -> None:
    """Raises a `UserError` where RE2 does not take an expression or the replacement names a group it does not have."""
    try:
        tf.strings.regex_replace(tf.constant("x"), pattern, replacement)
        groups = re.compile(pattern).groups if _python_takes(pattern) else 9
    except tf.errors.InvalidArgumentError as error:
        reason = str(error.message).split(", error ")[-1]
        raise UserError(f"{pattern!r} is no regular expression (RE2): {reason}") from None
    named = max((int(digit) for digit in re.findall(r"(?<!\\)\\(\d)", replacement)), default=0)
    if named > groups:
        raise UserError(f"{replacement!r} names group {named}, and {pattern!r} has {groups}")


def _python_takes(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _pairs(path: str, what: str) -> list[tuple[int, tuple[str, str]]]:
    """Line numbers and both columns of a file of rules; empty lines and those that begin with # are left out."""
    if not path:
        return []
    path = expanded_path(path)
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip() and not line.startswith("#"):
            columns = line.split("\t")
            if len(columns) != 2:
                raise UserError(f"{path}, line {number}: {len(columns)} columns; {what} with one tab are expected")
            pairs.append((number, (columns[0], columns[1])))
    return pairs
