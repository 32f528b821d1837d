"""Text while it is written: functions of a model for one token after the other, and pieces of text from them.

A piece is text that no later token changes. A character whose bytes stand in several tokens, the begin of what may
become a stop string, or a letter that marks may follow, is held back until it is decided. All pieces together are the
whole text, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.inference.decoding.base import Endpoint, TokenWriter, numbered, numbered_specs
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.runtime.outputs import Output, length_limit
from tfseq2seq.search.stop_strings import open_pattern
from tfseq2seq.sources.base import Form

START, STEP = "stream_start", "stream_step"
SEED = tf.TensorSpec([None], tf.int32, name="seed")
_SEED_PAIRS = tf.TensorSpec([None, 2], tf.int32, name="seeds")
_STATE = "stream"


class Piece(NamedTuple):
    """A part of a text.

    Attributes:
        text: what is decided since the last piece; it may be empty in the last one.
        output: the whole output, of the last piece; None of the others.
    """

    text: str
    output: Output | None = None


def stream_endpoints(model: Predictor, by_pairs: bool = False, form: Form | None = None) -> list[Endpoint]:
    """`stream_start` and `stream_step`; `export/signatures.py` tells what they take and give.

    Args:
        model: whose functions they are.
        by_pairs: take the seeds of a model that draws as `Predictor.texts` does, [B, 2], instead of [B].
        form: what `stream_start` takes, instead of the tensors of the predictor's signature.

    Raises:
        UserError: outputs of this model are decided as a whole; the message says why.
    """
    writer = model.decoding.token_writer()
    if model.rules:
        raise UserError("search.rules: may rewrite any part of an output, so that no part is decided before the end")
    # The structure that flat lists of tensors are packed into; it is the same for every batch.
    structure: dict[str, Any] = {}
    draws = model.spec.sample

    def start(*raw_and_seed: Any) -> dict[str, Any]:
        raw, seed = (raw_and_seed[:-1], raw_and_seed[-1]) if draws else (raw_and_seed, None)
        clean, errors = model.source.clean(model.spec.max_input, *raw) if form is None else form.read(*raw)
        given = model.given(*clean, seeds=seed if seed is None or by_pairs else model.seed_pairs(seed))
        structure["state"] = writer.start(given)
        return {**numbered(_STATE, tf.nest.flatten(structure["state"])), **errors}

    seeds = [_SEED_PAIRS if by_pairs else SEED] if draws else []
    first = Endpoint(START, start, [*(model.signature if form is None else form.signature), *seeds])

    def step(*flat: Any) -> dict[str, Any]:
        state = writer.advance(tf.nest.pack_sequence_as(structure["state"], flat))
        return {**numbered(_STATE, tf.nest.flatten(state)), **_shown(model, writer, state)}

    return [first, Endpoint(STEP, step, numbered_specs(first.graph.structured_outputs, _STATE))]


def _shown(model: Predictor, writer: TokenWriter, state: Any) -> dict[str, Any]:
    """What is shown of a state, see `stream_endpoints`."""
    written = writer.written(state)
    held = open_pattern(model.stops.strings) if model.stops else ""
    whole = model.target.detokenize(written.ids, written.prompt_lengths, model.cut)
    settled = model.target.settled(written.ids, written.prompt_lengths, held)
    is_cut = written.is_cut
    if model.stops:
        # An output that a stop string ends is whole.
        is_cut = tf.logical_and(is_cut, tf.equal(whole, model.target.detokenize(written.ids)))
    limit = f"the output reached {length_limit(model.spec.max_length, model.spec.max_ratio)} and may be cut"
    return {
        "text": tf.where(written.done, whole, settled),
        "done": written.done,
        "score": written.scores,
        "log_prob": written.log_probs,
        "warning": tf.where(is_cut, limit, ""),
    }


class TextStream:
    """Writes texts of a live model piece by piece.

    Args:
        model: to ask.

    Raises:
        UserError: outputs of this model are decided as a whole; the message says why.
    """

    def __init__(self, model: Predictor):
        self.model = model
        self._start, self._step = (endpoint.graph for endpoint in stream_endpoints(model, by_pairs=True))

    def pieces(self, value: Any, stream: int = 0) -> Iterator[Piece]:
        """Yields the pieces of the output for a Python value as they are decided.

        Args:
            value: one input, no longer than the model answers.
            stream: with search.sample, the number of the stream of random numbers, as for `Generator.generate`.
        """
        seeds = [tf.constant([[self.model.spec.seed, stream]])] if self.model.spec.sample else []
        state = only_state(self._start(*self.model.pack([value]), *seeds))
        sent, done = b"", False
        while not done:
            found = self._step(**state)
            state, text, done = only_state(found), found["text"].numpy()[0], bool(found["done"][0])
            piece, sent = text[len(sent) :].decode("utf-8", "replace"), text
            if done:
                scores = [float(found[name][0]) for name in ("score", "log_prob")]
                whole = text.decode("utf-8", "replace")
                yield Piece(piece, Output([whole], [scores[0]], [scores[1]], bool(found["warning"].numpy()[0])))
            elif piece:
                yield Piece(piece)


def only_state(found: Mapping[str, Any]) -> dict[str, Any]:
    """What `stream_step` takes of what it or `stream_start` gives."""
    return {name: part for name, part in found.items() if name.startswith(f"{_STATE}_")}
