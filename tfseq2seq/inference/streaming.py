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
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.layers.subsampling import subsampled
from tfseq2seq.runtime.outputs import Output


class Streaming:
    """A model made ready for streams; each `open` gives a stream of its own.

    Args:
        model: a predictor over recordings.

    Raises:
        UserError: the encoder needs the whole recording, or the search does.
    """

    def __init__(self, model: Predictor):
        network = model.models[0]
        if not network.spec.encoder.streams:
            raise UserError(
                "model.encoder.chunk: must be above 0 for streams, with a conformer; this model reads a recording as a "
                "whole"
            )
        self.model, self.encoder, self.frontend = model, network.encoder, network.frontend
        self.search = model.decoding.stream()
        self.chunk = self.encoder.spec.chunk
        features = self.frontend.features
        self.factor = network.source.subsampling
        # Samples from one position to the next, and those behind a frame's first sample that it needs.
        self.stride = features.hop * self.factor
        self.reach = features.window // 2 if features.frames_of(features.window) > 1 else features.window
        # Positions before a chunk from which its own are computed anew: as far as convolutions and a window reach back.
        frames_back = 2 * (self.factor - 1) + -(-features.window // features.hop)
        self.margin = -(-frames_back // self.factor) + 1
        self.embed = tf.function(self._embed, autograph=False, reduce_retracing=True)
        self.encode = tf.function(self._encode, autograph=False)

    def open(self) -> Stream:
        """A new stream."""
        return Stream(self)

    def _embed(self, samples: Any) -> Any:
        """Samples [N] to positions [P, D], those of a recording that ends there."""
        frames, lengths = self.frontend.features(tf.expand_dims(samples, 0), tf.expand_dims(tf.size(samples), 0))
        positions, lengths = self.frontend.subsampling(frames, lengths)
        return positions[0, : lengths[0]]

    def _encode(self, positions: Any, count: Any, cache: Any) -> tuple[Any, Any]:
        """A chunk [1, C, D], of which `count` positions are real, to what the search reads, and the next cache."""
        mask = tf.expand_dims(tf.range(self.chunk) < count, 0)
        memory, cache = self.encoder.stream(positions, mask, cache)
        return self.search.encoded(memory, mask)[:, :count], cache


class Stream:
    """One recording as it comes in; from `Streaming.open`."""

    def __init__(self, streaming: Streaming):
        self.streaming = streaming
        self._samples = np.zeros(0, "float32")
        # Position of the first sample kept, and the next position to encode.
        self._first, self._next, self._total = 0, 0, 0
        self._cache = streaming.encoder.start_stream(1)
        self._state = streaming.search.begin()
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
        self._state = streaming.search.finish(self._state)
        found = model.external.rank(streaming.search.best(self._state), model.spec.n_best)
        texts = model.rules(model.target.detokenize(found.ids))[0].numpy()
        return Output(
            [text.decode("utf-8", "replace") for text in texts],
            found.scores[0].numpy().tolist(),
            found.log_probs[0].numpy().tolist(),
            bool(model.may_be_cut(found)[0, 0]),
        )

    def text(self) -> str:
        """The text found so far."""
        streaming, model = self.streaming, self.streaming.model
        if not self._next:
            return ""
        ids = streaming.search.ids(self._state)
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
        encoded, self._cache = streaming.encode(tf.expand_dims(padded, 0), tf.constant(count), self._cache)
        self._next += count
        self._state = streaming.search.advance(self._state, encoded)

    def _forget(self) -> None:
        """Drops samples that no later chunk needs."""
        first = max(self._next - self.streaming.margin, self._first)
        self._samples = self._samples[(first - self._first) * self.streaming.stride :]
        self._first = first
