"""Sources of strings: text, and the prompts of a language model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import (
    BatchByLength,
    batch_by_tokens,
    filter_pairs,
    kept_pairs,
    pair_collector,
    tokenize,
)
from tfseq2seq.data.corpora import TrainingCorpora, iterate_side, line_corpora, most_pairs, training_corpora
from tfseq2seq.data.infilling import Infilling
from tfseq2seq.data.segments import Table
from tfseq2seq.errors import UserError
from tfseq2seq.features.copying import Copying
from tfseq2seq.features.text import TextFeatures, around
from tfseq2seq.features.vocabulary import (
    Vocabulary,
    learn_vocabulary,
    load_vocabulary,
    save_vocabulary,
    unreachable_tokens,
    vocabulary_file,
)
from tfseq2seq.files import expanded_path
from tfseq2seq.models.memory import Memory
from tfseq2seq.progress import counted, progress_bar
from tfseq2seq.recipe import to_dict
from tfseq2seq.sources.base import Corpora, Filtering, Report, Source, SourceInputs
from tfseq2seq.spec import EOS, INFILLING_TOKENS, PAD, DataSpec, NoSourceSpec, Recipe, TextSpec
from tfseq2seq.spec.limits import cut_tokens

# What a model that copies takes beside ids where there are no strings.
COPY_IDS = tf.TensorSpec([None, None], tf.int32, name="copy_ids")
_EXAMPLE_TOKENS = 8
# Texts whose tokens are counted in one call.
_COUNTED_AT_ONCE = 1024


class _Strings(Source):
    """What sources of strings share: one string per input."""

    takes_strings = True
    signature: Sequence[tf.TensorSpec] = (tf.TensorSpec([None], tf.string, name="text"),)
    features_signature: Sequence[tf.TensorSpec] = (tf.TensorSpec([None, None], tf.int32, name="ids"),)

    def filter_examples(self, examples: tf.data.Dataset, filtering: Filtering) -> tuple[tf.data.Dataset, Report]:
        spec = filtering.spec
        return filter_pairs(self.chunks(examples, filtering), self.limits(spec), spec.cache, filtering.name)

    def kept_examples(self, examples: tf.data.Dataset, filtering: Filtering) -> tf.data.Dataset:
        return kept_pairs(self.chunks(examples, filtering), self.limits(filtering.spec))

    def collector(
        self, examples: tf.data.Dataset, filtering: Filtering, advance: Callable[[int], None]
    ) -> Callable[[], tuple[Table, Report]]:
        return pair_collector(self.chunks(examples, filtering), self.limits(filtering.spec), advance)

    def chunks(self, examples: tf.data.Dataset, filtering: Filtering) -> tf.data.Dataset:
        """Raw examples to chunks of ids, as `filter_pairs` takes them."""
        return tokenize(self.tokenized(filtering.target))(examples)

    def most_together(self, spec: DataSpec) -> int:
        return most_pairs(spec)

    def tokenized(self, target: TextFeatures) -> dict[str, TextFeatures]:
        """The text features of each field of an example."""
        raise NotImplementedError

    def batch(self, spec: DataSpec) -> BatchByLength:
        return batch_by_tokens(spec, self.limits(spec))

    def limits(self, spec: DataSpec) -> dict[str, int]:
        """Most tokens of each field of an example."""
        raise NotImplementedError

    def pack(self, values: Sequence[str]) -> list[tf.Tensor]:
        return [tf.constant(list(values), tf.string)]

    def clean(self, most: int, text: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        assert self.reader is not None
        error = self.reader.too_long(text, most)
        return (tf.where(tf.equal(error, ""), text, ""),), {"error": error}

    def faults(self, most: int, values: Sequence[str]) -> list[tuple[int, str]]:
        reader = self.reader
        assert reader is not None
        return self._messages(values, lambda text: reader.too_long(text, most))

    def _messages(self, values: Sequence[Any], ask: Callable[..., Any]) -> list[tuple[int, str]]:
        """(index, message) of the values about which `ask` has one, given the tensors of `signature`."""
        found = []
        for begin in range(0, len(values), _COUNTED_AT_ONCE):
            messages = ask(*self.pack(values[begin : begin + _COUNTED_AT_ONCE])).numpy()
            found += [(begin + index, one.decode("utf-8")) for index, one in enumerate(messages) if one]
        return found

    def is_nothing(self, row: Any) -> bool:
        # <eos> stands alone.
        return len(row) < 2


def corpora_of(found: TrainingCorpora, told: Sequence[str] = ()) -> Corpora:
    """Corpora of texts, with sentences about their files."""
    texts_told = found.texts_told
    return Corpora(found.train, found.validation, found.texts, units=found.units, texts_told=texts_told, told=told)


class TextSource(_Strings, reads=TextSpec):
    """Source text.

    Args:
        spec: scheme and normalization.
        features: of the source.
    """

    features: TextFeatures
    # What the decoder can copy; None for a decoder that does not copy.
    copying: Copying | None = None

    def __init__(self, spec: TextSpec, features: TextFeatures | None = None):
        if features is None:
            raise ValueError("a text source needs text features")
        super().__init__(spec, features)

    @classmethod
    def open_corpora(cls, recipe: Recipe) -> Corpora:
        return corpora_of(training_corpora(recipe.data, recipe.seed))

    @classmethod
    def learn(cls, recipe: Recipe, texts: Callable[[str], Iterator[bytes]]) -> TextSource:
        sides = ("source", "target") if recipe.share_vocabulary else ("source",)
        lines = (line for side in sides for line in texts(side))
        assert isinstance(recipe.source, TextSpec)
        return cls(recipe.source, learn_features("source", recipe.source.text, lines))

    def limits(self, spec: DataSpec) -> dict[str, int]:
        return {"source": spec.max_source_length, "target": spec.max_target_length}

    def tokenized(self, target: TextFeatures) -> dict[str, TextFeatures]:
        return {"source": self.features, "target": target}

    def with_data(self, data: DataSpec) -> None:
        self.features = self.features.with_longest(data.truncate_source)

    def chunks(self, examples: tf.data.Dataset, filtering: Filtering) -> tf.data.Dataset:
        if self.features.longest:
            counted = examples.batch(_COUNTED_AT_ONCE).map(
                lambda lines: {**lines, "cut": self.features.surplus(lines["source"])}
            )
            examples = counted.unbatch()
        return tokenize(self.tokenized(filtering.target), self.copying)(examples)

    def clean(self, most: int, *raw: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        clean, messages = super().clean(most, *raw)
        return clean, {**messages, "warning": self._told(clean[0])} if self.features.longest else messages

    def warnings(self, values: Sequence[str]) -> list[tuple[int, str]]:
        return self._messages(values, self._told) if self.features.longest else []

    def _told(self, text: Any) -> tf.Tensor:
        """Messages [B] about strings that are cut; "" for others."""
        surplus = self.features.surplus(text)
        return tf.where(surplus > 0, around(cut_tokens(self.features.longest), surplus), "")

    def values(self, examples: tf.data.Dataset) -> tuple[list[str], list[str]]:
        chunks = list(examples.batch(2048).as_numpy_iterator())
        sides = ([line.decode() for chunk in chunks for line in chunk[side]] for side in ("source", "target"))
        sources, targets = sides
        return sources, targets

    def described(self, example: Mapping[str, Any]) -> Iterator[str]:
        ids = example["source"][example["source"] != PAD]
        yield f"source: {len(ids):,} tokens: {self.features.shown(ids)}"

    def save(self, folder: Path) -> None:
        save_vocabulary(self.features.vocabulary, folder / "source.txt")

    @classmethod
    def load(cls, spec: TextSpec, folder: Path) -> TextSource:
        text = spec.text
        return cls(spec, TextFeatures(text, load_vocabulary(vocabulary_file(folder, "source", text), text)))

    def with_target(self, target: TextFeatures, copies: bool = False) -> None:
        self.copying = Copying(self.features, target, self.spec.extends_copies) if copies else None
        ids = _Strings.features_signature
        self.features_signature = (*ids, COPY_IDS) if self.copying and self.copying.extended else ids

    def inputs(self, text: Any) -> SourceInputs:
        if self.copying is None or not self.copying.extended:
            return self.from_features(self.features(text))
        words = self.features.words(text)
        given = self.from_features(self.features(text), self.copying.copy_ids(words).to_tensor(PAD))
        return given._replace(words=words.to_tensor(""))

    def from_features(self, ids: Any, copy_ids: Any = None) -> SourceInputs:
        inputs = {"source": ids}
        if self.copying is not None:
            inputs["copy_ids"] = self.copying.mapped(ids) if copy_ids is None else copy_ids
        return SourceInputs(inputs, tf.equal(ids[:, 0], EOS))

    def target_ids(self, target: TextFeatures, text: Any, given: SourceInputs, end: bool = True) -> tf.RaggedTensor:
        if self.copying is None or given.words is None:
            return target.ids(text, end)
        return self.copying.target_ids(text, tf.RaggedTensor.from_tensor(given.words), end)

    def copied_words(self, values: Sequence[str]) -> Any:
        return self.inputs(*self.pack(values)).words

    def ended(self, ids: Any) -> Any:
        kept = ids[:, : self.features.longest - 1] if self.features.longest else ids
        return tf.pad(kept, [[0, 0], [0, 1]], constant_values=EOS)

    def output_lengths(self, given: SourceInputs, memory: Memory) -> Any:
        return tf.reduce_sum(tf.cast(tf.not_equal(given.inputs["source"], PAD), tf.int32), axis=1) - 1

    def tokens(self, given: SourceInputs) -> dict[str, Any]:
        return {"source_tokens": tf.gather(tf.constant(list(self.features.vocabulary.tokens)), given.inputs["source"])}

    def config(self) -> dict[str, Any]:
        cut = {"truncate_source": self.features.longest} if self.features.longest else {}
        return {"inputs": [spec.name for spec in self.features_signature], "source": to_dict(self.spec), **cut}

    def features_of(self, values: Sequence[str]) -> list[Any]:
        given = self.inputs(*self.pack(values)).inputs
        names = ("source", "copy_ids")[: len(self.features_signature)]
        columns = np.stack([given[name].numpy() for name in names], axis=-1)
        rows = [row[row[:, 0] != PAD] for row in columns]
        return rows if len(names) > 1 else [row[:, 0] for row in rows]

    def examples(self) -> list[str]:
        return [some_text(self.features, start) for start in (0, 1)]

    def usual_inputs(self, data: DataSpec, count: int) -> list[str]:
        corpus = data.validation if data.validation.given else data.train
        return [line.decode("utf-8") for line in itertools.islice(iterate_side(corpus, "source"), count)]


class NoSource(_Strings, reads=NoSourceSpec):
    """No source. The strings of an input are prompts: the target begins with them, and the model continues."""

    def __init__(self, spec: Any, features: TextFeatures | None = None):
        super().__init__(spec)
        self.target: TextFeatures | None = features

    @classmethod
    def open_corpora(cls, recipe: Recipe) -> Corpora:
        return corpora_of(line_corpora(recipe.data, recipe.seed))

    def limits(self, spec: DataSpec) -> dict[str, int]:
        return {"target": spec.max_target_length}

    def tokenized(self, target: TextFeatures) -> dict[str, TextFeatures]:
        return {"target": target}

    def values(self, examples: tf.data.Dataset) -> tuple[list[str], list[str]]:
        targets = [line["target"].decode() for line in examples.as_numpy_iterator()]
        return [""] * len(targets), targets

    def with_target(self, target: TextFeatures, copies: bool = False) -> None:
        self.target = target

    def collector(
        self, examples: tf.data.Dataset, filtering: Filtering, advance: Callable[[int], None]
    ) -> Callable[[], tuple[Table, Report]]:
        collect = super().collector(examples, filtering, advance)
        infilling = self.rearrangement(filtering.target, filtering.spec)
        if infilling is None:
            return collect

        def measured() -> tuple[Table, Report]:
            table, report = collect()
            return infilling.measured(table), report

        return measured

    def rearrangement(self, target: TextFeatures, spec: DataSpec) -> Infilling | None:
        if not spec.infilling:
            return None
        return Infilling(spec.infilling, list(map(target.reserved_id, INFILLING_TOKENS)), spec.max_target_length)

    @property
    def fills_in(self) -> bool:
        return set(INFILLING_TOKENS) <= set(self._target_features.spec.reserved)

    def with_suffix(self, text: Any, suffix: Any) -> SourceInputs:
        features = self._target_features
        before, behind = self._prompt_ids(text), self._prompt_ids(suffix)

        def tag(token: str) -> Any:
            return tf.fill(tf.stack([tf.size(text), 1]), features.reserved_id(token))

        first, second, third = map(tag, INFILLING_TOKENS)
        prefix = tf.concat([first, before, second, behind, third], axis=1).to_tensor(PAD)
        around = before.to_tensor(PAD), behind.to_tensor(PAD)
        return self.from_features(prefix)._replace(around=around)

    def inputs(self, text: Any) -> SourceInputs:
        return self.from_features(self._prompt_ids(text).to_tensor(PAD))

    def from_features(self, ids: Any) -> SourceInputs:
        # No prompt at all is something to continue too.
        return SourceInputs({"target": ids}, tf.zeros([tf.shape(ids)[0]], tf.bool), ids)

    def config(self) -> dict[str, Any]:
        return {"inputs": ["ids"], "source": to_dict(self.spec)}

    def features_of(self, values: Sequence[str]) -> list[Any]:
        rows = self._prompt_ids(tf.constant(list(values))).to_list()
        # A model is given at least one column.
        return [np.array(row or [PAD], "int32") for row in rows]

    def is_nothing(self, row: Any) -> bool:
        return False

    @property
    def reader(self) -> TextFeatures:
        return self._target_features

    def examples(self) -> list[str]:
        return ["", some_text(self._target_features)]

    def usual_inputs(self, data: DataSpec, count: int) -> list[str]:
        corpus = data.validation if data.validation.given else data.train
        lines = (line.decode("utf-8") for line in itertools.islice(iterate_side(corpus, "target"), count))
        # The first half of a line is a prompt; a whole line would leave nothing to continue.
        return [line[: len(line) // 2] for line in lines]

    def _prompt_ids(self, text: Any) -> tf.RaggedTensor:
        return self._target_features.ids(text, end=False)

    @property
    def _target_features(self) -> TextFeatures:
        assert self.target is not None, "prompts are read by the target's text features: call with_target first"
        return self.target


def learn_features(side: str, spec: TextSpec, lines: Iterable[bytes]) -> TextFeatures:
    """Text features of a side, with the vocabulary file that its spec names or one learned from lines.

    Raises:
        UserError: the vocabulary cannot be read or learned; the message begins with the side.
    """
    try:
        if spec.vocabulary:
            vocabulary = load_vocabulary(expanded_path(spec.vocabulary), spec)
            if 2 * len(unreachable_tokens(vocabulary, spec)) > len(vocabulary.tokens) - spec.first_ordinary_id:
                # Almost all text would become <unk>, and training would look fine.
                raise UserError(unreachable_report(vocabulary, spec))
        else:
            # SentencePiece learns after it has read all lines, and the bar shows that time too.
            with progress_bar(f"learning the vocabulary of {side}") as advance:
                vocabulary = learn_vocabulary(counted(lines, advance), spec)
    except UserError as error:
        raise UserError(f"{side}: {error}") from None
    return TextFeatures(spec, vocabulary)


def unreachable_report(vocabulary: Vocabulary, spec: TextSpec) -> str:
    """Returns a line about the tokens that text never gives because it is normalized; empty if there are none."""
    lost = unreachable_tokens(vocabulary, spec)
    if not lost:
        return ""
    count = len(vocabulary.tokens) - spec.first_ordinary_id
    return (
        f"{spec.vocabulary or 'vocabulary'}: {len(lost):,} of {count:,} tokens are never used, as normalization "
        f"{spec.normalization}{' and lowercase' if spec.lowercase else ''} change them, such as {lost[0]!r}"
    )


def some_text(features: TextFeatures, start: int = 0) -> str:
    """A few tokens from all over a vocabulary, as text."""
    surfaces = features.surfaces[features.spec.first_ordinary_id + start :]
    chosen = surfaces[:: max(1, len(surfaces) // _EXAMPLE_TOKENS)][:_EXAMPLE_TOKENS]
    return b"".join(chosen).decode("utf-8", "replace").strip() or "a"
