"""What a modality answers. Everything else asks one of these objects and does not ask which modality it is.

    files        open_corpora, filter_examples, batch       training data: files to batches
    vocabulary   learn, load, save                           what a run's folder keeps of the source
    predictor    signature, pack, inputs, forms              Python values and raw tensors to model inputs, in graph

A new modality is a spec, a frontend (`models/frontends.py`), a subclass of `Source` in `SOURCES`, and what reads it for
commands (`cli/inputs.py`) and for exported models without TensorFlow (`runtime/plain_sources.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import BatchByLength
from tfseq2seq.data.segments import Table, Units
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.models.memory import Memory
from tfseq2seq.spec import DataSpec, Recipe


class SourceInputs(NamedTuple):
    """Sources as models read them.

    Attributes:
        inputs: by the names in the frontend's `reads`.
        empty: [B] bool, True where there is nothing to read; outputs are empty then.
        prefix: [B, P] ids that the outputs begin with, padded; None without.
        words: strings [B, S], what extended ids mean (see `features/copying.py`); None where there are none.
        around: ids [B, P] and [B, S], padded, that stand before and behind what is written where a middle is filled in.
            The prefix then holds both in another order, and is not shown. None where outputs are continued.
        seeds: [B, 2] int32, which determine what is drawn for each example; None for those of the search.
    """

    inputs: dict[str, Any]
    empty: Any
    prefix: Any = None
    words: Any = None
    seeds: Any = None
    around: tuple[Any, Any] | None = None


class Report(Protocol):
    """What a corpus holds, and what was left out of it; its text is for people."""

    @property
    def kept(self) -> int:
        """Examples that are used."""


@dataclass(frozen=True)
class Corpora:
    """Examples to train on and to validate with.

    Attributes:
        train, validation: datasets of dictionaries of raw values, such as {"source": string, "target": string}.
        texts: gives the raw training texts of a side, "source" or "target", for learning a vocabulary.
        faults: of examples that could not be read so far, by "train" and "validation".
        units: the examples to train on in units, where they are too many for the memory; None where they are not.
        texts_told: a sentence about the texts, if they are not those of all examples.
        told: sentences about the files.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    texts: Callable[[str], Iterator[bytes]]
    faults: Mapping[str, Any] = field(default_factory=dict)
    units: Units | None = None
    texts_told: str = ""
    told: Sequence[str] = ()


@dataclass(frozen=True)
class Filtering:
    """What decides which examples of a corpus are left out.

    Attributes:
        target: text features of the target.
        spec: limits.
        name: what the corpus is, for messages, such as "data.train".
        model: tells how many positions a source becomes.
        aligned: whether every token needs a position of its own, as in CTC.
        faults: of examples that could not be read, from `open_corpora`.
        max_input: the longest input that the model answers, as `Recipe.max_input`; 0 for the least default.
    """

    target: TextFeatures
    spec: DataSpec
    name: str
    model: Any
    aligned: bool
    faults: Any
    max_input: int = 0


@dataclass(frozen=True)
class Form:
    """A raw form of the source that exported models take, with signatures of their own.

    Attributes:
        name: of the signature.
        signature: what it takes.
        convert: from that to the tensors of `Source.signature`, and messages [B] ("" for none) by the names "error" and
            "warning"; None where they are these tensors.
    """

    name: str
    signature: Sequence[tf.TensorSpec]
    convert: Callable[..., tuple[Sequence[Any], dict[str, Any]]] | None = None

    def read(self, *raw: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        """The tensors of `Source.signature`, and the messages."""
        return (raw, {}) if self.convert is None else self.convert(*raw)


# The class for each kind of source. `Source` fills it as subclasses are defined.
SOURCES: dict[type, type[Source]] = {}


class Source:
    """Base of all sources.

    Args:
        spec: of the kind this class is registered for.
        features: text features of the source, where it is made of tokens.
    """

    # Batches of training data prepared ahead.
    prefetch = 8
    # The tensors that a predictor takes, and those that a model takes where there are no strings.
    signature: Sequence[tf.TensorSpec] = ()
    features_signature: Sequence[tf.TensorSpec] = ()

    def __init_subclass__(cls, reads: type | None = None, **kwargs: Any):
        """Registers a subclass.

        Args:
            reads: the spec of its kind; None for classes that only share code.
        """
        super().__init_subclass__(**kwargs)
        if reads is not None:
            SOURCES[reads] = cls

    def __init__(self, spec: Any, features: TextFeatures | None = None):
        self.spec, self.features = spec, features

    @property
    def size(self) -> int:
        """Entries of the source vocabulary, or channels of vectors that come precomputed; 0 where there is neither."""
        return self.features.size if self.features else 0

    @property
    def parts(self) -> list[Any]:
        """Layers that `inputs` calls, whose variables exported models hold."""
        return []

    def same_vocabulary(self, other: Source) -> bool:
        """Whether a source is of the same kind, with the same vocabulary."""
        own, others = (one.features and one.features.vocabulary for one in (self, other))
        return type(self) is type(other) and own == others

    # ---- training data ----------------------------------------------------------------------------------------------

    @classmethod
    def open_corpora(cls, recipe: Recipe) -> Corpora:
        """Checks and opens what a recipe trains on.

        Raises:
            UserError: nothing is given, something in a file is wrong, or nothing is left to train or validate with.
        """
        raise NotImplementedError

    @classmethod
    def learn(cls, recipe: Recipe, texts: Callable[[str], Iterator[bytes]]) -> Source:
        """The source of a recipe, with a vocabulary learned from its training texts where it has one."""
        return cls(recipe.source)

    def filter_examples(self, examples: tf.data.Dataset, filtering: Filtering) -> tuple[tf.data.Dataset, Report]:
        """Raw examples to examples of ids and samples, without those that cannot be trained on.

        Args:
            examples: from `open_corpora`.
            filtering: what decides which are left out.

        Raises:
            UserError: no example is left.
        """
        raise NotImplementedError

    def kept_examples(self, examples: tf.data.Dataset, filtering: Filtering) -> tf.data.Dataset:
        """As `filter_examples`, by operations of TensorFlow alone, so that other processes can run them, without a
        report. It is for sources of "pairs"."""
        raise NotImplementedError

    def collector(
        self, examples: tf.data.Dataset, filtering: Filtering, advance: Callable[[int], None]
    ) -> Callable[[], tuple[Table, Report]]:
        """As `filter_examples`, to a table in memory, of which `batch` makes batches, and which may be empty.

        Args:
            examples, filtering: as in `filter_examples`.
            advance: called with the number of examples that are read.

        Returns:
            A function that reads the examples, each time anew. Where `Corpora.units` are given, its reports can be
            added, and have the `total` number of examples.
        """

        def collect() -> tuple[Table, Report]:
            kept, report = self.filter_examples(examples, filtering)
            batch = self.batch(filtering.spec)
            prepared = kept.map(batch.prepare)
            return Table.of_examples(prepared.map(lambda example: (example, batch.length(example)))), report

        return collect

    def rearrangement(
        self, target: TextFeatures, spec: DataSpec
    ) -> Callable[[dict[str, np.ndarray], np.random.Generator], dict[str, np.ndarray]] | None:
        """A function that rearranges a batch of training examples at random; None where there is none."""
        return None

    @property
    def fills_in(self) -> bool:
        """Whether `with_suffix` is there."""
        return False

    def with_suffix(self, text: Any, suffix: Any) -> SourceInputs:
        """The inputs for strings [B] whose outputs are to end with strings [B], and what is between them is written."""
        raise NotImplementedError

    def most_together(self, spec: DataSpec) -> int:
        """How many examples are held in memory together where the corpus is not."""
        raise NotImplementedError

    def batch(self, spec: DataSpec) -> BatchByLength:
        """Makes padded batches of examples of similar size; "target" [B, T] is among their fields."""
        raise NotImplementedError

    def prepare(self, model: Any, batches: tf.data.Dataset, log: Callable[[str], None]) -> None:
        """Sets what a new model takes from its training data before it trains."""

    def values(self, examples: tf.data.Dataset) -> tuple[list[Any], list[str]]:
        """Raw examples as Python values for `pack`, and their target texts."""
        raise NotImplementedError

    def judged(self, examples: tf.data.Dataset) -> tuple[list[Any], list[list[str | None]]]:
        """Raw examples as Python values for `pack`, and reference sets: [r][i], the r-th reference of example i."""
        values, texts = self.values(examples)
        return values, [list(texts)]

    def described(self, example: Mapping[str, Any]) -> Iterator[str]:
        """Yields lines for people about the source of one example of a training batch.

        Args:
            example: arrays by the names of the model's inputs. "target" is not described.
        """
        for name, value in example.items():
            if name != "target":
                yield f"{name}: {value.dtype} {list(value.shape)}"

    # ---- a run's folder ---------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Writes what `load` needs beside the spec into a folder of vocabularies."""

    def save_beside(self, folder: Path) -> None:
        """Writes what a client of an exported model needs beside the spec."""
        self.save(folder)

    @classmethod
    def load(cls, spec: Any, folder: Path) -> Source:
        """Reads what `save` wrote.

        Raises:
            UserError: a file is missing or damaged.
        """
        return cls(spec)

    # ---- predictor --------------------------------------------------------------------------------------------------

    def with_data(self, data: DataSpec) -> None:
        """Tells how a recipe reads examples, for a source whose inputs are read the same way."""

    def with_target(self, target: TextFeatures, copies: bool = False) -> None:
        """Tells the text features of the target, which prompts are written in, and whether the decoder copies."""

    def target_ids(self, target: TextFeatures, text: Any, given: SourceInputs, end: bool = True) -> tf.RaggedTensor:
        """Target strings [B] to ids [B, (tokens)]; where the decoder copies, with the extended ids of the source."""
        return target.ids(text, end)

    def copied_words(self, values: Sequence[Any]) -> Any:
        """Strings [B, S] of Python values, what extended ids mean; None where there are none."""
        return None

    def pack(self, values: Sequence[Any]) -> list[tf.Tensor]:
        """Python values as the tensors of `signature`."""
        raise NotImplementedError

    @staticmethod
    def length(value: Any) -> int:
        """The size of a Python value, for sorting."""
        return len(value)

    def inputs(self, *raw: Any) -> SourceInputs:
        """The tensors of `signature` as model inputs, in graph."""
        raise NotImplementedError

    def from_features(self, *features: Any) -> SourceInputs:
        """The tensors of `features_signature` as model inputs, in graph."""
        raise NotImplementedError

    def output_lengths(self, given: SourceInputs, memory: Memory) -> Any:
        """[B] int32: what output lengths are limited relative to."""
        return memory.lengths

    def clean(self, most: int, *raw: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        """Raw tensors with what is wrong in them replaced, and {"error": messages [B]} of sources that can be wrong.

        There can be "warning": messages [B] too, about sources that are answered.

        Args:
            most: the longest source that is answered, as `search.max_input`. A longer one is replaced by an empty one.
            raw: the tensors of `signature`.
        """
        return raw, {}

    def faults(self, most: int, values: Sequence[Any]) -> list[tuple[int, str]]:
        """(index, message) of the Python values that are longer than `most`."""
        return []

    def served(self, most: int) -> Form:
        """What the signatures of exported models take, for sources no longer than `most`; see `clean`."""
        return Form("serving_default", self.signature, lambda *raw: self.clean(most, *raw))

    def warnings(self, values: Sequence[Any]) -> list[tuple[int, str]]:
        """(index, message) of the Python values of which something is not read."""
        return []

    def forms(self, most: int) -> Sequence[Form]:
        """Further signatures of exported models, of sources no longer than `most`."""
        return ()

    def tokens(self, given: SourceInputs) -> dict[str, Any]:
        """{"source_tokens": strings [B, S]} of sources made of tokens."""
        return {}

    # ---- exported models --------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """What a client of an exported model without strings needs to know of its inputs."""
        raise NotImplementedError

    def client_rows(self, values: Sequence[Any]) -> list[Any]:
        """Python values as a client of a SavedModel gives them.

        These are strings, tuples of strings, arrays, or the bytes of files as arrays [N] uint8.
        """
        return list(values)

    def features_of(self, values: Sequence[Any]) -> list[Any]:
        """Python values as rows for a model without strings: ids, or samples."""
        raise NotImplementedError

    def is_nothing(self, row: Any) -> bool:
        """Whether such a row holds nothing to read."""
        return not len(row)

    def examples(self) -> list[Any]:
        """A few Python values to try a model with, where no data is at hand."""
        raise NotImplementedError

    def raw_example(self) -> dict[str, tf.Tensor]:
        """One example in each raw form that exported models take, by the names of their tensors."""
        packed = self.pack(self.examples()[:1])
        return {str(spec.name): value for spec, value in zip(self.signature, packed, strict=True)}

    # Whether the Python values are strings.
    takes_strings = False

    def check_strings(self) -> None:
        """Raises `UserError` if a model that takes and gives one string cannot have this source."""

    @property
    def reader(self) -> TextFeatures | None:
        """The text features that read the strings of this source; None of sources that are no strings."""
        return self.features

    def ended(self, ids: Any) -> Any:
        """Ids [B, S] of strings as `from_features` takes them."""
        return ids

    def usual_inputs(self, data: DataSpec, count: int) -> list[Any]:
        """The first validation (else training) inputs of a recipe.

        Raises:
            UserError: the data cannot be read.
        """
        raise NotImplementedError
