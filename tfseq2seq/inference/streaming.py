"""Live recognition: samples in as they come, text out as it is found; at the end the same as of the whole recording.

    stream = Streaming(model).open()
    for samples in microphone:
        print(stream.accept(samples))
    print(stream.finish().texts[0])

For models whose encoder hears in chunks (`model.encoder.chunk`), with CTC or a transducer. What a chunk needs of the
past, attention's keys and values, what convolutions reach back to and the beam of the search, is carried along, so that
a chunk takes the same time however long the stream is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.inference.speech import SpeechToText
from tfseq2seq.layers.subsampling import subsampled
from tfseq2seq.models.encoders import ConformerEncoder
from tfseq2seq.models.transducer import TransducerModel
from tfseq2seq.runtime.outputs import Output
from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.ctc import begin, best_prefixes, hear, likeliest_alignment, transcript_of
from tfseq2seq.search.transducer import TransducerSearch, hindmost


class Streaming:
    """A model made ready for streams; each `open` gives a stream of its own.

    Args:
        model: as for whole recordings.

    Raises:
        UserError: the encoder does not hear in chunks, or the search needs attention over the whole recording.
    """

    def __init__(self, model: SpeechToText):
        encoder = model.model.encoder
        if not isinstance(encoder, ConformerEncoder) or not encoder.spec.chunk:
            raise UserError(
                "this model hears a recording as a whole; train one with a conformer and model.encoder.chunk to stream"
            )
        self.model, self.encoder, self.frontend = model, encoder, model.model.frontend
        self.transduces = isinstance(model.model, TransducerModel)
        if model.model.spec.attends and model.spec.ctc_weight != 1.0:
            raise UserError(
                "an attention decoder looks at the whole recording; stream with CTC alone, by search.ctc_weight=1"
            )
        self.chunk = encoder.spec.chunk
        features = self.frontend.features
        self.factor = model.model.source.subsampling
        # Samples from one position to the next, and those behind a frame's first sample that it needs.
        self.stride = features.hop * self.factor
        self.reach = features.window // 2 if features.frames_of(features.window) > 1 else features.window
        # Positions before a chunk from which its own are computed anew: as far as convolutions and a window reach back.
        frames_back = 2 * (self.factor - 1) + -(-features.window // features.hop)
        self.margin = -(-frames_back // self.factor) + 1
        spec = model.spec
        self.search: Any = None
        if self.transduces:
            self.search = TransducerSearch(
                model.model.predictor_step, model.model.logits, spec.max_length, spec.beam, model.fusion
            )
        elif spec.beam > 1 or model.fusion:
            self.search = model.fusion
        self.embed = tf.function(self._embed, autograph=False, reduce_retracing=True)
        self.encode = tf.function(self._encode, autograph=False)
        self.hear = tf.function(self._hear, autograph=False, reduce_retracing=True)
        self.transduce = tf.function(self._transduce, autograph=False, reduce_retracing=True)
        self.best = tf.function(self._best, autograph=False, reduce_retracing=True)

    def open(self) -> Stream:
        """A new stream."""
        return Stream(self)

    def _embed(self, samples: Any) -> Any:
        """Samples [N] to positions [P, D], those of a recording that ends there."""
        frames, lengths = self.frontend.features(tf.expand_dims(samples, 0), tf.expand_dims(tf.size(samples), 0))
        positions, lengths = self.frontend.subsampling(frames, lengths)
        return positions[0, : lengths[0]]

    def _encode(self, positions: Any, count: Any, cache: Any) -> tuple[Any, Any]:
        """A chunk [1, C, D], of which `count` positions are real, to what search hears of it, and the next cache."""
        mask = tf.expand_dims(tf.range(self.chunk) < count, 0)
        memory, cache = self.encoder.stream(positions, mask, cache)
        if self.transduces:
            return self.model.model.project_memory(memory)[:, :count], cache
        return self.model.model.ctc(memory, mask, training=False)[:, :count], cache

    def _hear(self, state: Any, heard: Any) -> Any:
        if self.search is None:
            tokens, total = likeliest_alignment(heard)
            return tf.concat([state[0], tokens], 1), state[1] + total
        return hear(state, heard, self.search)

    def _transduce(self, state: Any, heard: Any, first: Any, frames: Any, known: Any) -> Any:
        """The search's state after more positions are heard, and the first position that it still needs."""
        state = self.search.go_on(state, heard, frames, self.model.kept, first, known)
        return state, hindmost(state.step, state.now.prefixes)

    def _best(self, state: Any) -> Hypotheses:
        if self.transduces:
            return self.search.best(state, self.model.kept)
        if self.search is None:
            tokens, total = state
            return transcript_of(tokens, total, self.model.spec.max_length)
        return best_prefixes(state, self.model.kept, self.search)

    def begin(self) -> Any:
        """The search's state before anything is heard."""
        if self.transduces:
            return self.search.begin(tf.constant(1), self.model.model.start(self.model.spec.beam))
        if self.search is None:
            return tf.zeros([1, 0], tf.int32), tf.zeros([1])
        return begin(tf.constant(1), self.model.spec.beam, tf.constant(self.model.spec.max_length), self.search)


class Stream:
    """One recording as it comes in; from `Streaming.open`."""

    def __init__(self, streaming: Streaming):
        self.streaming = streaming
        self._samples = np.zeros(0, "float32")
        # Position of the first sample kept, and the next position to encode.
        self._first, self._next, self._total = 0, 0, 0
        self._cache = streaming.encoder.start_stream(1)
        self._state = streaming.begin()
        # Of a transducer: positions that its search still needs, and the number of the first.
        self._heard: Any = None
        self._unread = 0
        self._finished = False

    def accept(self, samples: np.ndarray) -> str:
        """Takes more samples [N] float32 at the model's rate and tells the text found so far, which may still change.

        Raises:
            UserError: the stream is finished, or a sample is no number.
        """
        self._take(samples)
        streaming = self.streaming
        while True:
            # The last frame of the chunk, and what its window reaches to.
            last = (self._next + streaming.chunk - 1) * streaming.stride + streaming.reach
            if self._total <= last:
                break
            embedded = streaming.embed(tf.constant(self._since(last)))
            self._encode(embedded[self._next - self._first :][: streaming.chunk], streaming.chunk)
            self._forget()
        return self.text()

    def finish(self) -> Output:
        """Ends the stream. The outputs are those of the whole recording.

        Raises:
            UserError: it is finished already.
        """
        self._take(np.zeros(0, "float32"))
        self._finished = True
        streaming, model = self.streaming, self.streaming.model
        features = streaming.frontend.features
        positions = int(subsampled(features.frames_of(self._total), streaming.factor))
        if positions > self._next:
            embedded = streaming.embed(tf.constant(self._samples))[self._next - self._first :]
            while self._next < positions:
                count = min(streaming.chunk, positions - self._next)
                self._encode(embedded[:count], count)
                embedded = embedded[count:]
        if not positions:
            return Output.nothing(model.spec.n_best)
        if streaming.transduces:
            self._transduce(frames=self._next, known=self._next)
        found = model.external.rank(streaming.best(self._state), model.spec.n_best)
        texts = model.rules(model.target.detokenize(found.ids))[0].numpy()
        return Output(
            [text.decode("utf-8", "replace") for text in texts],
            found.scores[0].numpy().tolist(),
            found.log_probs[0].numpy().tolist(),
        )

    def text(self) -> str:
        """The text found so far."""
        streaming, model = self.streaming, self.streaming.model
        if not self._next:
            return ""
        if streaming.transduces:
            now = self._state.now
            best = int(tf.argmax(tf.where(now.prefixes.used, now.sums + now.added, -np.inf)[0]))
            ids = now.prefixes.ids[:, best]
        else:
            ids = streaming.best(self._state).ids[:, 0]
        return model.rules(model.target.detokenize(ids))[0].numpy().decode("utf-8", "replace")

    def _take(self, samples: np.ndarray) -> None:
        if self._finished:
            raise UserError("this stream is finished; open another")
        samples = np.asarray(samples, "float32")
        if not np.isfinite(samples).all():
            raise UserError(f"sample {int(np.argmin(np.isfinite(samples))) + 1} of this part is no number")
        self._samples = np.concatenate([self._samples, samples])
        self._total += len(samples)

    def _since(self, last: int) -> np.ndarray:
        """The samples kept, up to sample `last` of the stream."""
        return self._samples[: last + 1 - self._first * self.streaming.stride]

    def _encode(self, positions: Any, count: int) -> None:
        streaming = self.streaming
        padded = tf.pad(positions, [[0, streaming.chunk - count], [0, 0]])
        heard, self._cache = streaming.encode(tf.expand_dims(padded, 0), tf.constant(count), self._cache)
        self._next += count
        if streaming.transduces:
            self._heard = heard if self._heard is None else tf.concat([self._heard, heard], 1)
            # The last position is left until it is known whether it is the last.
            self._transduce(frames=np.iinfo("int32").max, known=self._next - 1)
        else:
            self._state = streaming.hear(self._state, heard)

    def _transduce(self, frames: int, known: int) -> None:
        arguments = tf.constant(self._unread), tf.constant([frames]), tf.constant(known)
        self._state, needed = self.streaming.transduce(self._state, self._heard, *arguments)
        self._heard = self._heard[:, int(needed) - self._unread :]
        self._unread = int(needed)

    def _forget(self) -> None:
        """Drops samples that no later chunk needs."""
        first = max(self._next - self.streaming.margin, self._first)
        self._samples = self._samples[(first - self._first) * self.streaming.stride :]
        self._first = first
