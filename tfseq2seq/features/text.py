"""Text to ids and back, in graph.

One layer per side of the model. The same layer runs in the tf.data pipeline and in the exported SavedModel, so training
and serving cannot drift apart. Characters, bytes and words use core TensorFlow operations only.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfseq2seq.features.byte_level_graph import ByteLevelTokenizer
from tfseq2seq.features.normalization import compose, normalize
from tfseq2seq.features.vocabulary import Vocabulary, surfaces, word_space
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import EOS, PAD, UNK, TextSpec
from tfseq2seq.spec.limits import BYTES_PER_TOKEN, too_many_bytes, too_many_tokens

# Tells the wordpiece tokenizer which pieces go inside a word. Text may hold "##", but no word has a space in it.
_INNER = " "
# In bytes; its own limit of 100 would make <unk> of a Chinese sentence written without spaces.
_LONGEST_WORD = 1 << 20
# The end of a text whose last bytes are no character, which more bytes may complete.
_INCOMPLETE = "\ufffd+$"
# The end of a composed text that may change when it goes on: a letter and its marks, or parts of a Korean syllable.
_COMPOSABLE = r"(?s).[\p{M}\x{1161}-\x{1175}\x{11A8}-\x{11C2}]*$"


class TextFeatures(keras.layers.Layer):
    """Strings [B] to ids [B, S] that end with <eos>, padded with <pad>; `detokenize` goes back.

    Where the spec has `begin` tokens, ids begin with them. Those of a string without any token are <eos> alone all the
    same, which is how callers know that a text is empty.

    Detokenization gives the normalized text, composed again where the spec has `compose`, exactly for unigram, bpe,
    byte_bpe, characters and bytes (as far as every character is in the vocabulary), and with single spaces (or `join`)
    for words and wordpiece. Text that spells a special or reserved token is text. The one character SentencePiece
    cannot keep is its own mark of a space, U+2581: it comes back as a space.

    Args:
        spec: scheme, normalization, case, reserved tokens.
        vocabulary: from `learn_vocabulary` or `load_vocabulary`.
        longest: the number of ids with <eos> that longer texts are cut to; 0 to cut none.
    """

    def __init__(self, spec: TextSpec, vocabulary: Vocabulary, longest: int = 0, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        self.spec, self.vocabulary, self.longest = spec, vocabulary, longest
        self.size = len(vocabulary.tokens)
        # Looked up here: tf.data would convert the lookup into a graph.
        self.begin_ids = spec.begin_ids
        # What each token contributes to text, the space before a word included.
        self.surfaces = surfaces(vocabulary, spec)
        self._surfaces = tf.constant(self.surfaces)
        self._tokenizer: Any = None
        self._table: Any = None
        first = spec.first_ordinary_id
        if spec.scheme in ("unigram", "bpe"):
            self._tokenizer = _SentencePiece(vocabulary.model)
        elif spec.scheme == "wordpiece":
            import tensorflow_text

            self._tokenizer = tensorflow_text.FastWordpieceTokenizer(
                # What has a space in it matches no text.
                [f"{token} " if index < first else _wordpiece(token) for index, token in enumerate(vocabulary.tokens)],
                suffix_indicator=_INNER,
                max_bytes_per_word=_LONGEST_WORD,
                token_out_type=tf.int32,
                unknown_token=f"{vocabulary.tokens[UNK]} ",
                no_pretokenization=True,
            )
        elif spec.scheme == "byte_bpe":
            self._tokenizer = ByteLevelTokenizer(vocabulary.tokens, vocabulary.merges)
        elif spec.scheme != "bytes":
            self._table = _lookup(vocabulary.tokens, first)
        self.built = True

    def normalize(self, text: Any) -> tf.Tensor:
        """Strings [B] after Unicode normalization, case folding where asked for, and without space at either end."""
        return normalize(text, self.spec)

    def tokenize(self, text: Any) -> tf.RaggedTensor:
        """Strings [B] to ids [B, (tokens)] of nothing but their text: no begin tokens, <bos> or <eos>; see `ids`."""
        text = self.normalize(text)
        scheme = self.spec.scheme
        if self.spec.prefix_space:
            text = tf.where(tf.equal(text, ""), "", tf.strings.join([" ", text]))
        if scheme in ("unigram", "bpe", "byte_bpe"):
            return self._tokenizer.tokenize(text)
        if scheme == "wordpiece":
            return self._tokenizer.tokenize(tf.strings.split(text)).merge_dims(1, 2)
        if scheme == "bytes":
            split = tf.strings.bytes_split(text)
            codes = tf.reshape(tf.io.decode_raw(split.flat_values, tf.uint8), [-1])
            return split.with_flat_values(tf.cast(codes, tf.int32) + self.spec.first_ordinary_id)
        split = self._split(text)
        return split.with_flat_values(self.word_ids(split.flat_values))

    def _split(self, text: Any) -> tf.RaggedTensor:
        return tf.strings.split(text) if self.spec.scheme == "words" else tf.strings.unicode_split(text, "UTF-8")

    def word_ids(self, words: Any) -> tf.Tensor:
        """The ids of words or characters, strings [N] that are normalized already; for schemes with whole words."""
        return self._table.lookup(words)

    def words(self, text: Any) -> tf.RaggedTensor:
        """Strings [B] to the word or character of each id of `ids`, strings [B, (tokens)]; "" of begin tokens and of
        <eos>. It is for schemes with whole words."""
        return self._cut(self._framed(self._split(self.normalize(text)), [""] * len(self.begin_ids), ""))

    def ids(self, text: Any, end: bool = True) -> tf.RaggedTensor:
        """Strings [B] to ids [B, (tokens)] as a model reads or writes them: begin tokens where the spec has them, the
        text, and <eos> unless `end` is false. `call` gives the same, padded.

        A string without any token has no begin tokens either.
        """
        ids = self._framed(self.tokenize(text), self.begin_ids, EOS if end else None)
        return self._cut(ids) if end else ids

    def surplus(self, text: Any) -> tf.Tensor:
        """How many ids of strings [B] are cut, [B] int32."""
        lengths = tf.cast(self._framed(self.tokenize(text), self.begin_ids, EOS).row_lengths(), tf.int32)
        return tf.maximum(lengths - self.longest, 0) if self.longest else tf.zeros_like(lengths)

    def _cut(self, tokens: tf.RaggedTensor) -> tf.RaggedTensor:
        """Tokens [B, (tokens)] without those between the limit and the last one, which is <eos>."""
        if not self.longest:
            return tokens
        return tf.concat([tokens[:, : self.longest - 1], tokens[:, self.longest - 1 :][:, -1:]], axis=1)

    def _framed(self, tokens: tf.RaggedTensor, begin: Sequence[Any], end: Any) -> tf.RaggedTensor:
        """Tokens [B, (tokens)] with `begin` before each row that has any, and `end` behind each row unless it is
        None."""
        if len(begin):
            counts = tf.cast(tokens.row_lengths() > 0, tokens.row_splits.dtype)
            begins = tf.tile(tf.constant(begin), [tf.reduce_sum(counts)])
            lengths = counts * len(begin)
            tokens = tf.concat([tf.RaggedTensor.from_row_lengths(begins, lengths, validate=False), tokens], axis=1)
        if end is None:
            return tokens
        return tf.concat([tokens, tf.fill(tf.stack([tokens.nrows(out_type=tf.int32), 1]), end)], axis=1)

    def too_long(self, text: Any, most: int, setting: str = "search.max_input") -> tf.Tensor:
        """Messages [B] about strings [B] of more than `most` tokens with <eos>; "" for the others.

        Args:
            text: the strings.
            most: the number of tokens.
            setting: what sets it, for the messages.
        """
        size = tf.strings.length(text)
        huge = size > BYTES_PER_TOKEN * most
        # A text of megabytes is not split: that takes time, and memory for as long as the process lives.
        count = tf.cast(
            self._framed(self.tokenize(tf.where(huge, "", text)), self.begin_ids, EOS).row_lengths(), tf.int32
        )
        counted = around(too_many_tokens(most, setting), count)
        return tf.where(huge, around(too_many_bytes(most, setting), size), tf.where(count > most, counted, ""))

    def call(self, text: Any) -> tf.Tensor:
        ids = self.ids(text)
        # No string at all has a width too: what comes after looks at the first column.
        return ids.to_tensor(PAD, shape=tf.stack([-1, tf.maximum(ids.bounding_shape(axis=1), 1)]))

    def detokenize(self, ids: Any, prompt_lengths: Any = None, cut: str = "", words: Any = None) -> tf.Tensor:
        """Ids [..., L] to strings [...]. Special tokens other than <unk>, and reserved ones, give nothing.

        Args:
            ids: the tokens.
            prompt_lengths: [...], how many of the first tokens are a prompt; None for none.
            cut: a regular expression (RE2) for what is left out behind the prompt, such as a stop string and all after
                it; "" for nothing.
            words: strings [B, S], what the ids from V on mean, for ids [B, N, L] with extended ids (see
                `layers/copying.py`); such outputs are not cut.
        """
        if not cut:
            return self._as_shown(self._spelled(ids, words))
        prompt, rest = self._parts(ids, prompt_lengths)
        return self._as_shown(tf.strings.join([prompt, tf.strings.regex_replace(rest, cut, "")]))

    def filled_in(self, ids: Any, prompt_lengths: Any, cut: str, before: Any, behind: Any) -> tf.Tensor:
        """Strings [...] of what stands before tokens that are filled in, these, and what stands behind them.

        Args:
            ids, prompt_lengths, cut: as for `detokenize`; the prompt is not shown.
            before, behind: ids [..., P] and [..., S], padded.
        """
        _, middle = self._parts(ids, prompt_lengths)
        middle = tf.strings.regex_replace(middle, cut, "") if cut else middle
        return self._as_shown(tf.strings.join([self._spelled(before), middle, self._spelled(behind)]))

    def settled(self, ids: Any, prompt_lengths: Any = None, cut: str = "") -> tf.Tensor:
        """The begin of `detokenize` that stays whatever tokens follow: ids [..., L] to strings [...].

        A character whose bytes are not all there is not part of it, nor, where the output is composed, a letter that
        marks may follow.

        Args:
            ids, prompt_lengths: as for `detokenize`.
            cut: a regular expression (RE2) for what is left out behind the prompt, or may yet be.
        """
        prompt, rest = self._parts(ids, prompt_lengths)
        for pattern in (_INCOMPLETE, cut):
            rest = tf.strings.regex_replace(rest, pattern, "") if pattern else rest
        text = self._as_shown(tf.strings.join([prompt, rest]))
        return tf.strings.regex_replace(text, _COMPOSABLE, "") if self.spec.compose else text

    def _parts(self, ids: Any, prompt_lengths: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The spelled prompt and what follows it."""
        lengths = tf.zeros(tf.shape(ids)[:-1], tf.int32) if prompt_lengths is None else prompt_lengths
        in_prompt = tf.range(tf.shape(ids)[-1]) < tf.expand_dims(lengths, -1)
        return self._spelled(tf.where(in_prompt, ids, PAD)), self._spelled(tf.where(in_prompt, PAD, ids))

    def _spelled(self, ids: Any, words: Any = None) -> tf.Tensor:
        parts = tf.gather(self._surfaces, ids if words is None else tf.minimum(ids, self.size - 1))
        if words is not None:
            copied = tf.gather(words, tf.maximum(ids - self.size, 0), batch_dims=1)
            parts = tf.where(ids < self.size, parts, tf.strings.join([word_space(self.spec), copied]))
        text = tf.strings.reduce_join(parts, axis=-1)
        # Bytes can come in any order: what is no UTF-8 becomes the replacement character.
        return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace", replace_control_characters=False)

    def _as_shown(self, text: Any) -> tf.Tensor:
        if self.spec.scheme not in ("characters", "bytes"):
            text = tf.strings.regex_replace(text, "^ ", "")
        return compose(text) if self.spec.compose else text

    def shown(self, ids: Sequence[int]) -> str:
        """Returns ids [L] for people: the text in quotation marks, and the tokens with spaces between them.

        A space inside of a token is shown as U+2581, and an id that the vocabulary does not have as a number.
        """
        known = [int(index) for index in ids if 0 <= index < self.size]
        text = b"".join(self.surfaces[index] for index in known).decode("utf-8", "replace").strip()
        tokens = (self.vocabulary.tokens[index] if 0 <= index < self.size else f"[{index}]" for index in map(int, ids))
        joined = " ".join(token.replace(" ", "\u2581") for token in tokens)
        return f"{json.dumps(text, ensure_ascii=False)} = {joined}"

    def characters(self) -> frozenset[str] | None:
        """The characters that the tokens of the vocabulary have; None if it has bytes, which write every character."""
        try:
            return frozenset("".join(surface.decode("utf-8") for surface in self.surfaces)) | {" "}
        except UnicodeDecodeError:
            return None

    def writable(self, text: str) -> str:
        """A text as tokens would have its characters: apart where the output is composed."""
        return unicodedata.normalize("NFD", text) if self.spec.compose else text

    def reserved_id(self, token: str) -> int:
        """The id of a reserved token, to put among the ids of text.

        Raises:
            UserError: there is no such reserved token.
        """
        return self.spec.reserved_id(token)

    def with_longest(self, longest: int) -> TextFeatures:
        """These features, with another length that texts are cut to."""
        return self if longest == self.longest else TextFeatures(self.spec, self.vocabulary, longest)

    def with_begin(self, begin: str) -> TextFeatures:
        """These features with other begin tokens, or none: for the other side of a shared vocabulary.

        Raises:
            UserError: there is no such reserved token.
        """
        if begin == self.spec.begin:
            return self
        return TextFeatures(dataclasses.replace(self.spec, begin=begin), self.vocabulary)

    def get_config(self) -> dict[str, Any]:
        model, merges = (
            base64.b64encode(one).decode("ascii") for one in (self.vocabulary.model, self.vocabulary.merges)
        )
        vocabulary = {"tokens": list(self.vocabulary.tokens), "model": model, "merges": merges}
        own = {"spec": to_dict(self.spec), "vocabulary": vocabulary, "longest": self.longest}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TextFeatures:
        saved = config["vocabulary"]
        model, merges = base64.b64decode(saved["model"]), base64.b64decode(saved.get("merges", ""))
        vocabulary = Vocabulary(tuple(saved["tokens"]), model, merges)
        kept = {key: value for key, value in config.items() if key not in ("spec", "vocabulary", "trainable")}
        return cls(from_dict(TextSpec, config["spec"]), vocabulary, **kept)


def around(message: tuple[str, str], number: tf.Tensor) -> tf.Tensor:
    """A message about numbers [B], given what stands before and after a number; strings [B]."""
    before, after = message
    return tf.strings.join([before, tf.strings.as_string(number), after])


class _SentencePiece(tf.saved_model.experimental.TrackableResource):
    """A SentencePiece model in TensorFlow's resource manager.

    tensorflow-text's own tokenizer leaves the model to the kernel that made it, and dies with that kernel when
    `keras.utils.set_random_seed` or `tf.random.set_seed` drops TensorFlow's kernels. A shared name gives the model to
    the resource manager: it lives as long as the process, once however many layers use it.
    """

    def __init__(self, model: bytes):
        super().__init__()
        self.model, self.name = model, f"sentencepiece_{hashlib.sha256(model).hexdigest()}"
        _ = self.resource_handle  # made now, while outside of any function's graph

    def _create_resource(self) -> Any:
        return _sentencepiece_kernels().sentencepiece_op(model=self.model, shared_name=self.name)

    def tokenize(self, text: Any) -> tf.RaggedTensor:
        """Strings [B] to ids [B, (tokens)]."""
        ids, splits = _sentencepiece_kernels().sentencepiece_tokenize_op(
            self.resource_handle, text, nbest_size=0, alpha=1.0, add_bos=False, add_eos=False, reverse=False
        )
        return tf.RaggedTensor.from_row_splits(ids, splits, validate=False)


def _sentencepiece_kernels() -> Any:
    # Importing registers the kernels; only these schemes need them.
    from tensorflow_text.python.ops import sentencepiece_tokenizer

    return sentencepiece_tokenizer.gen_sentencepiece_tokenizer


def _lookup(tokens: tuple[str, ...], first: int) -> tf.lookup.StaticHashTable:
    # Text that spells a special or reserved token is text: it must not become that token.
    known = tf.lookup.KeyValueTensorInitializer(list(tokens[first:]), tf.range(first, len(tokens), dtype=tf.int32))
    return tf.lookup.StaticHashTable(known, default_value=UNK)


def _wordpiece(token: str) -> str:
    """An ordinary token as the wordpiece tokenizer is to know it; "##" with nothing behind matches no text."""
    if token == "##":
        return f"{token} "
    return _INNER + token[2:] if token.startswith("##") else token
