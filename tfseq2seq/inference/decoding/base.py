"""What a family of decoders answers about a trained model.

    search              hypotheses for sources
    log_probabilities   of given targets
    loop                step functions for clients with a loop of their own
    evidence, spans     where in the source each token of a target stands
    stream              a search that goes on as positions come in
    token_writer        writes outputs one token at a time

`DECODINGS` in the package's `__init__` has one for each kind of decoder; everything else asks the object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.inference.external_scorers import ExternalScorers
from tfseq2seq.models.memory import Memory
from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.stop_strings import StopStrings
from tfseq2seq.search.suppression import Suppression
from tfseq2seq.sources import Source, SourceInputs
from tfseq2seq.spec import EOS, PAD, SearchSpec


@dataclass(frozen=True)
class Endpoint:
    """A function of tensors that gives a dictionary of tensors, under a name, and what it takes."""

    name: str
    function: Callable[..., dict[str, Any]]
    signature: Sequence[tf.TensorSpec]

    @cached_property
    def graph(self) -> Any:
        """The function, traced once."""
        return tf.function(self.function, input_signature=self.signature, autograph=False).get_concrete_function()


class StreamSearch(Protocol):
    """A search over the positions of a source that come in one chunk after the other."""

    def encoded(self, memory: Any, mask: Any) -> Any:
        """What the search reads of a chunk's memory [1, C, M] with mask [1, C], in graph: [1, C, ...]."""

    def begin(self) -> Any:
        """The state before the first position."""

    def advance(self, state: Any, encoded: Any) -> Any:
        """The state after more positions [1, C, ...]."""

    def finish(self, state: Any) -> Any:
        """The state when no position follows."""

    def ids(self, state: Any) -> Any:
        """Ids [1, L] of the best text so far, which may still change."""

    def best(self, state: Any) -> Hypotheses:
        """The hypotheses of a finished state."""


class TokenWriter(Protocol):
    """Writes outputs of a batch one token at a time. A state is a structure of tensors, each with the batch first."""

    def start(self, given: SourceInputs) -> Any:
        """The state after the tokens that all prompts have."""

    def advance(self, state: Any) -> Any:
        """The state after one more token; outputs that are done stay as they are."""

    def written(self, state: Any) -> Written:
        """What is written so far."""


class Written(NamedTuple):
    """Outputs of which more may follow.

    Attributes:
        ids: [B, L] so far, with <eos> at the end where they are done, padded.
        prompt_lengths: [B], how many of the first tokens are a prompt.
        done: [B] bool.
        log_probs: [B] of the tokens so far.
        scores: [B], the log_probs with the length penalty.
        is_cut: [B] bool, whether the output is as long as the search lets it be.
    """

    ids: Any
    prompt_lengths: Any
    done: Any
    log_probs: Any
    scores: Any
    is_cut: Any


class Decoding:
    """Base of all families.

    Args:
        models: one trained model, or several whose probabilities are averaged.
        source: what they read.
        spec: how output is found.
        external: what ranks hypotheses beside the models.
        shortlist: a function from source ids to the candidates of a search, or None.
        stops: the stop strings of the search, or None.
        suppression: the tokens that the search does not write, or None.
        begun: the number of tokens that outputs and targets begin with. They are given, and have the probability 1.

    Raises:
        UserError: several models, which this family does not average.
    """

    def __init__(
        self,
        models: Sequence[Any],
        source: Source,
        spec: SearchSpec,
        external: ExternalScorers,
        shortlist: Any = None,
        stops: StopStrings | None = None,
        suppression: Suppression | None = None,
        begun: int = 0,
    ):
        self.models, self.model, self.source, self.spec, self.external = list(models), models[0], source, spec, external
        self.shortlist, self.stops, self.suppression, self.begun = shortlist, stops, suppression, begun
        # External scorers that come after the search rank the whole beam.
        self.kept = spec.beam if external.come_after else spec.n_best
        self.check()

    def check(self) -> None:
        """Raises `UserError` where the family cannot do what is asked for."""
        if len(self.models) > 1:
            raise UserError(
                f"{len(self.models)} models: an ensemble needs decoders that write token by token, and the decoder is "
                f"{self.model.spec.decoder.kind}; give one run"
            )

    def search(self, given: SourceInputs, with_attention: bool = False) -> Hypotheses:
        """Finds hypotheses, the `kept` best first, before external scorers that come after the search."""
        raise NotImplementedError

    def log_probabilities(self, inputs: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        """Log-probabilities in nats of labels [B, T] ending with <eos>, [B], and how many tokens they count, [B]."""
        raise NotImplementedError

    def loop(self, encode: Callable[..., Memory], signature: Sequence[tf.TensorSpec]) -> list[Endpoint]:
        """`encode` and, where there is one, `decode_step`; see `export/signatures.py`.

        Args:
            encode: raw tensors to the memory.
            signature: of the raw tensors.
        """
        raise NotImplementedError

    @property
    def takes_prefix(self) -> bool:
        """Whether outputs can be made to begin with given tokens."""
        return False

    @property
    def loop_free(self) -> bool:
        """Whether the search is a fixed number of operations, without a loop over positions."""
        return False

    @property
    def has_attention(self) -> bool:
        """Whether `attention` gives weights over the source."""
        return False

    def attention(self, inputs: dict[str, Any], target: Any) -> Any:
        """Weights [B, T, S] float32 of decoder inputs [B, T] over the memory's positions."""
        raise NotImplementedError

    def evidence(self, inputs: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        """What `spans` aligns labels [B, T] by, [B, F, ...], and how many positions are real, [B]; in graph."""
        raise NotImplementedError

    def spans(self, evidence: np.ndarray, tokens: Sequence[int]) -> list[tuple[float, float]]:
        """The first position and the one behind the last of each token, given the evidence [F, ...] of one source."""
        raise NotImplementedError

    def token_writer(self) -> TokenWriter:
        """What writes outputs one token at a time.

        Raises:
            UserError: this family, or this search, decides on no token before the last; the message says why.
        """
        raise UserError(
            f"a decoder of the kind {self.model.spec.decoder.kind} reads sources position by position and writes no "
            "text token by token"
        )

    def stream(self) -> StreamSearch:
        """A search for streams.

        Raises:
            UserError: this family, or this search, needs the whole source; the message says why.
        """
        raise NotImplementedError


def summed_log_probs(log_probs: Any, labels: Any, begun: int = 0) -> tuple[Any, Any]:
    """Log-probabilities [B, T, V] and padded labels [B, T] to the sum over each row's labels, [B], and their number.

    The first `begun` labels do not count. A row without text has <eos> alone, which counts.
    """
    real = tf.not_equal(labels, PAD)
    if begun:
        chosen = tf.logical_or(tf.range(tf.shape(labels)[1]) >= begun, tf.equal(labels, EOS))
        real = tf.logical_and(real, chosen)
    each = tf.where(real, tf.gather(log_probs, labels, batch_dims=2), 0.0)
    return tf.reduce_sum(each, axis=1), tf.reduce_sum(tf.cast(real, tf.int32), axis=1)


def memory_outputs(memory: Memory) -> dict[str, Any]:
    """The memory as outputs of `encode`."""
    return {"memory": tf.cast(memory.values, tf.float32), "mask": tf.cast(memory.mask, tf.bool)}


def log_softmax(logits: Any) -> Any:
    """Log-probabilities in float32."""
    return tf.nn.log_softmax(tf.cast(logits, tf.float32))


def numbered(name: str, tensors: Sequence[Any]) -> dict[str, Any]:
    """Tensors under the names `name_0`, `name_1`, ..."""
    return {f"{name}_{index}": tensor for index, tensor in enumerate(tensors)}


def numbered_specs(outputs: dict[str, Any], name: str) -> list[tf.TensorSpec]:
    """The signature that takes the outputs `name_0`, `name_1`, ...; any batch, length and number of positions fit."""
    count = sum(output.startswith(f"{name}_") for output in outputs)
    tensors = [outputs[f"{name}_{index}"] for index in range(count)]
    return [
        # What is kept per position begins with none.
        tf.TensorSpec([None, *(size or None for size in tensor.shape[1:])], tensor.dtype, name=f"{name}_{index}")
        for index, tensor in enumerate(tensors)
    ]
