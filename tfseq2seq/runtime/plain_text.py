"""Text to ids and back in plain Python, for exported models where TensorFlow is not installed.

Gives what `TextFeatures` gives in graph; the tests hold both together on text of many scripts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tfseq2seq.features.byte_level import PlainByteLevel
from tfseq2seq.features.vocabulary import (
    Vocabulary,
    load_vocabulary,
    surfaces,
    unicode_form,
    vocabulary_file,
    word_space,
)
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import EOS, UNK, TextSpec


class PlainText:
    """Strings to ids and back.

    Args:
        spec: scheme, normalization, case, reserved tokens.
        vocabulary: from `load_vocabulary`.
        longest: the number of ids with <eos> that longer texts are cut to; 0 to cut none.
    """

    def __init__(self, spec: TextSpec, vocabulary: Vocabulary, longest: int = 0):
        self.spec, self.vocabulary, self.longest = spec, vocabulary, longest
        self._surfaces = surfaces(vocabulary, spec)
        # Text that spells a special or reserved token is text.
        first = spec.first_ordinary_id
        self._ids = {token: index for index, token in enumerate(vocabulary.tokens) if index >= first}

    def normalize(self, text: str) -> str:
        """After Unicode normalization, case folding where asked for, and without space at either end."""
        text = unicode_form(text, self.spec)
        begin, end = 0, len(text)
        while begin < end and (_is_space(text[begin]) or text[begin] == "\ufeff"):
            begin += 1
        while end > begin and _is_space(text[end - 1]):
            end -= 1
        return text[begin:end]

    def encode(self, text: str) -> list[int]:
        """Ids of a text: begin tokens where the spec has them, the text, <eos>. An empty text has <eos> alone."""
        ids = self._tokenize(self.normalize(text))
        begin = self.spec.begin_ids if ids else ()
        return self._cut([*begin, *ids, EOS])

    def surplus(self, text: str) -> int:
        """How many ids of a text are cut."""
        uncut = PlainText(self.spec, self.vocabulary) if self.longest else self
        return len(uncut.encode(text)) - len(self.encode(text))

    def _cut(self, tokens: list[Any]) -> list[Any]:
        return [*tokens[: self.longest - 1], tokens[-1]] if 0 < self.longest < len(tokens) else tokens

    def words(self, text: str) -> list[str]:
        """The word or character of each id of `encode`; "" of begin tokens and of <eos>. It is for schemes with
        whole words."""
        words = self._split(self.normalize(text))
        return self._cut([*([""] * len(self.spec.begin_tokens) if words else []), *words, ""])

    def copy_ids(self, words: Sequence[str]) -> list[int]:
        """The target ids of source words from `words`, as `features.copying.Copying.copy_ids` gives them. These are the
        text features of the target."""
        first = {word: index for index, word in reversed(list(enumerate(words)))}
        size = len(self._surfaces)
        found = [self._ids.get(word, size + first[word]) if word else UNK for word in words]
        return [*found[:-1], EOS]

    def reserved_id(self, token: str) -> int:
        """The id of a reserved token, to put among the ids of text.

        Raises:
            UserError: there is no such reserved token.
        """
        return self.spec.reserved_id(token)

    def _tokenize(self, text: str) -> list[int]:
        scheme = self.spec.scheme
        if scheme in ("unigram", "bpe"):
            return self._processor.encode(text)
        if scheme == "byte_bpe":
            return self._byte_level.encode(f" {text}" if text and self.spec.prefix_space else text)
        if scheme == "bytes":
            return [byte + self.spec.first_ordinary_id for byte in text.encode("utf-8")]
        words = self._split(text)
        if scheme in ("words", "characters"):
            return [self._ids.get(word, UNK) for word in words]
        return [piece for word in words for piece in self._pieces(word)]

    def _split(self, text: str) -> list[str]:
        if self.spec.scheme == "characters":
            return list(text)
        # As TensorFlow splits: at ASCII's white space alone.
        return [word.decode("utf-8") for word in text.encode("utf-8").split()]

    def decode(
        self,
        ids: Sequence[int],
        prompt_length: int = 0,
        stop_strings: Sequence[str] = (),
        words: Sequence[str] = (),
    ) -> str:
        """The text of ids; special tokens other than <unk>, and reserved ones, give nothing.

        Args:
            ids: the tokens.
            prompt_length: how many of the first tokens are a prompt.
            stop_strings: the text ends before the first of them behind the prompt.
            words: what ids behind the vocabulary mean.
        """
        written = [unicodedata.normalize("NFD", text) if self.spec.compose else text for text in stop_strings]
        prompt, rest = self._spelled(ids[:prompt_length], words), self._spelled(ids[prompt_length:], words)
        places = [place for text in written if (place := rest.find(text)) >= 0]
        text = prompt + rest[: min(places, default=len(rest))]
        if self.spec.scheme not in ("characters", "bytes"):
            text = text.removeprefix(" ")
        return unicodedata.normalize("NFC", text) if self.spec.compose else text

    def _spelled(self, ids: Sequence[int], words: Sequence[str] = ()) -> str:
        written = [*self._surfaces, *((word_space(self.spec) + word).encode() for word in words)]
        return b"".join(written[index] for index in ids).decode("utf-8", "replace")

    @cached_property
    def _byte_level(self) -> PlainByteLevel:
        return PlainByteLevel(self.vocabulary.tokens, self.vocabulary.merges)

    @cached_property
    def _processor(self) -> Any:
        import sentencepiece

        return sentencepiece.SentencePieceProcessor(model_proto=self.vocabulary.model)

    def _pieces(self, word: str) -> list[int]:
        """The longest piece at each place (Wu et al. 2016); a word that no pieces make up is one <unk>."""
        found, index = [], 0
        while index < len(word):
            inner = "##" if index else ""
            for end in range(len(word), index, -1):
                piece = inner + word[index:end]
                # "##..." at the start of a word is text, not an inner piece.
                if piece in self._ids and (index or not re.match("##.", piece)) and piece != "##":
                    found.append(self._ids[piece])
                    index = end
                    break
            else:
                return [UNK]
        return found


def _is_space(letter: str) -> bool:
    return letter in "\t\n\v\f\r" or unicodedata.category(letter).startswith("Z")


def load_side(folder: Path, side: str, config: dict[str, Any]) -> PlainText:
    """Text features of an exported model, from its vocabulary file and its settings.

    Args:
        folder: of the exported model.
        side: source or target.
        config: its settings, with those of text features under the name of the side.

    Raises:
        UserError: the vocabulary is missing or damaged.
        KeyError: there are no such settings.
    """
    return load_text(folder, side, from_dict(TextSpec, config[side], side))


def load_text(folder: Path, side: str, spec: TextSpec) -> PlainText:
    """As `load_side`, given the settings.

    Raises:
        UserError: the vocabulary is missing or damaged.
    """
    return PlainText(spec, load_vocabulary(vocabulary_file(folder, side, spec), spec))
