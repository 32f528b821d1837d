"""Rewriting rules for the output text of a model, in the graph: regular expressions in order, then a lexicon.

They correct spellings that differ between the training data and the desired text, such as names, abbreviations and
units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.features.normalization import lower
from tfseq2seq.files import expanded_path, read_lines
from tfseq2seq.spec import RulesSpec

# `_EDGE` marks both sides of a word during the look-up in the lexicon. `_DONE` marks spellings that were inserted, so
# that they are not looked up again. Unicode keeps both out of text, for such use inside of programs.
_EDGE, _DONE = "\ufdd0", "\ufdd1"
# The largest file of rules in bytes. Each rule is a pass over every output.
_LARGEST_FILE = 1 << 24
_WORD = r"([\p{L}\p{M}\p{N}_']+)"


class Rules(tf.Module):
    """Applies rewriting rules to strings [...] and returns strings [...].

    Args:
        patterns: pairs of a regular expression in RE2's syntax and a replacement with \\1 to \\9 for groups. Each one
            is applied to all matches, in order.
        lexicon: pairs of words as the model writes them, ignoring case, and the desired words. Only whole words are
            replaced. If several entries match, the one with the most words is used.

    Raises:
        UserError: an expression is not valid in RE2.
    """

    def __init__(self, patterns: Sequence[tuple[str, str]] = (), lexicon: Sequence[tuple[str, str]] = ()):
        super().__init__(name="rules")
        for pattern, replacement in patterns:
            check_pattern(pattern, replacement)
        self.patterns, self.phrases = list(patterns), []
        entries = [(words.lower().split(), spelling) for words, spelling in lexicon]
        # The longest come first, so that "new york" does not match inside of "new york city".
        for words, spelling in sorted((pair for pair in entries if len(pair[0]) > 1), key=lambda pair: -len(pair[0])):
            phrase_pattern = r"\s+".join(f"{_EDGE}{re.escape(word)}{_EDGE}" for word in words)
            self.phrases.append((f"(?i){phrase_pattern}", _DONE + spelling.replace("\\", r"\\") + _EDGE))
        # A table must not be empty.
        single = {"": "", **{words[0]: spelling for words, spelling in entries if len(words) == 1}}
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
        return text if self._table is None else self._apply_lexicon(text, self._table)

    def _apply_lexicon(self, text: tf.Tensor, table: tf.lookup.StaticHashTable) -> tf.Tensor:
        """Replaces words by their spellings in the lexicon."""
        marked = tf.strings.regex_replace(tf.reshape(text, [-1]), _WORD, rf"{_EDGE}\1{_EDGE}")
        for pattern, replacement in self.phrases:
            marked = tf.strings.regex_replace(marked, pattern, replacement)
        pieces = tf.strings.split(marked, _EDGE)
        spelling = table.lookup(lower(pieces.flat_values))
        chosen = tf.where(tf.equal(spelling, ""), pieces.flat_values, spelling)
        joined = tf.strings.reduce_join(pieces.with_flat_values(chosen), axis=1)
        return tf.reshape(tf.strings.regex_replace(joined, _DONE, ""), tf.shape(text))


def load_rules(spec: RulesSpec) -> Rules:
    """Reads the files that a spec names.

    Raises:
        UserError: a file cannot be read, or a line is not valid; the message has the file and the line.
    """
    patterns = _pairs(spec.patterns, "a regular expression and its replacement")
    for number, (pattern, replacement) in patterns:
        try:
            check_pattern(pattern, replacement)
        except UserError as error:
            raise UserError(f"{expanded_path(spec.patterns)}, line {number}: {error}") from None
    lexicon = _pairs(spec.lexicon, "the words of the model and their spelling")
    for number, (words, spelling) in lexicon:
        if not words.strip() or not spelling:
            raise UserError(f"{expanded_path(spec.lexicon)}, line {number}: both columns must not be empty")
    return Rules([pair for _, pair in patterns], [pair for _, pair in lexicon])


def check_pattern(pattern: str, replacement: str) -> None:
    """Raises a `UserError` if an expression is not valid in RE2, or if the replacement refers to a missing group."""
    try:
        tf.strings.regex_replace(tf.constant("x"), pattern, replacement)
        groups = re.compile(pattern).groups if _is_python_pattern(pattern) else 9
    except tf.errors.InvalidArgumentError as error:
        reason = str(error.message).split(", error ")[-1]
        raise UserError(f"{pattern!r} is not a valid regular expression (RE2): {reason}") from None
    group = max((int(digit) for digit in re.findall(r"(?<!\\)\\(\d)", replacement)), default=0)
    if group > groups:
        raise UserError(f"{replacement!r} refers to group {group}, but the number of groups in {pattern!r} is {groups}")


def _is_python_pattern(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _pairs(path: str, expected: str) -> list[tuple[int, tuple[str, str]]]:
    """Returns line numbers and both columns of a file of rules. Empty lines and lines that begin with # are skipped."""
    if not path:
        return []
    path = expanded_path(path)
    pairs = []
    for number, line in enumerate(read_lines(path, _LARGEST_FILE), start=1):
        if line.strip() and not line.startswith("#"):
            columns = line.split("\t")
            if len(columns) != 2:
                raise UserError(
                    f"{path}, line {number}: expected 2 columns ({expected}), separated by a tab, got {len(columns)}"
                )
            pairs.append((number, (columns[0], columns[1])))
    return pairs
