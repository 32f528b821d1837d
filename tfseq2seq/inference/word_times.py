"""When words are said: a transcript's tokens laid along its recording.

With a CTC output, alone or beside attention, and with a transducer, each token stands where the likeliest alignment
that gives the transcript has it (Viterbi). With attention alone it stands where the weights lead, under the condition
that it goes forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.inference.speech import SpeechToText
from tfseq2seq.inference.subtitles import Word, joined_text, unspaced
from tfseq2seq.models.ctc import CTCModel
from tfseq2seq.models.transducer import TransducerModel
from tfseq2seq.spec import BLANK, EOS, PAD

_LOWEST = -1e30


@dataclass(frozen=True)
class Transcript:
    """What was found in a recording: its text after all rules, its words with their times in seconds, and its score."""

    text: str
    words: list[Word]
    score: float


class Transcriber:
    """Recordings to transcripts with times.

    Args:
        model: what to ask.
        batch_size: recordings at a time.

    Raises:
        UserError: the model cuts silence off (`source.trim`), after which nothing tells when a frame was.
    """

    def __init__(self, model: SpeechToText, batch_size: int = 16):
        source = model.model.source
        if source.trim:
            raise UserError("word times cannot be told of a model with source.trim: what was cut off is not known")
        self.model, self.batch_size = model, batch_size
        # Seconds from one encoder position to the next.
        self.step = model.model.frontend.features.hop / source.sample_rate * _stride(model)
        self._search = tf.function(self._found, input_signature=model.signature, autograph=False)
        target = tf.TensorSpec([None, None], tf.int32)
        self._look = tf.function(self._evidence, input_signature=[*model.signature, target], autograph=False)

    def transcribe(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        """The best transcript of each recording, samples [N] at the model's rate, in the order given.

        That of a recording without samples is empty.
        """
        found = [Transcript("", [], 0.0) for _ in recordings]
        heard = [index for index, samples in enumerate(recordings) if len(samples)]
        order = sorted(heard, key=lambda index: -len(recordings[index]))
        for begin in range(0, len(order), self.batch_size):
            indices = order[begin : begin + self.batch_size]
            for index, transcript in zip(indices, self._batch([recordings[index] for index in indices])):
                found[index] = transcript
        return found

    def text_of(self, words: Sequence[Word]) -> str:
        """Words as one text, after the rules of the model."""
        return self.model.rules(tf.constant([joined_text(words)]))[0].numpy().decode("utf-8", "replace")

    def _batch(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        audio, length = self.model.pack(recordings)
        ids, scores, texts = (part.numpy() for part in self._search(audio, length))
        evidence, positions = (part.numpy() for part in self._look(audio, length, tf.constant(_closed(ids))))
        transcripts = []
        for row, samples in enumerate(recordings):
            tokens = [int(token) for token in ids[row] if token not in (PAD, EOS)]
            spans = self._spans(evidence[row][: positions[row]], tokens)
            seconds = len(samples) / self.model.rate
            times = [(min(start * self.step, seconds), min(end * self.step, seconds)) for start, end in spans]
            words = group_tokens(self.model.target, tokens, times)
            transcripts.append(Transcript(texts[row].decode("utf-8", "replace"), words, float(scores[row])))
        return transcripts

    def _found(self, audio: Any, length: Any) -> tuple[Any, Any, Any]:
        found = self.model.hypotheses(audio, length)
        ids = tf.where(tf.expand_dims(tf.equal(length, 0), 1), PAD, found.ids[:, 0])
        return ids, found.scores[:, 0], self.model.rules(self.model.target.detokenize(ids))

    def _evidence(self, audio: Any, length: Any, labels: Any) -> tuple[Any, Any]:
        """What the alignment is made of, [B, F, ...], and how many positions are real, [B]."""
        model = self.model.model
        memory = model.encode(audio, length)
        positions = tf.reduce_sum(tf.cast(memory[1], tf.int32), axis=1)
        inputs = {"source": audio, "source_length": length, "target": decoder_input(labels)}
        if isinstance(model, TransducerModel):
            logits = model(inputs, training=False)
            log_probs = tf.nn.log_softmax(logits)
            # Of each number of tokens said: the blank, and the next token.
            said = tf.gather(
                log_probs, tf.expand_dims(tf.repeat(labels[:, tf.newaxis], tf.shape(logits)[1], 1), 3), batch_dims=3
            )
            return tf.concat([log_probs[..., BLANK : BLANK + 1], said], axis=3), positions
        if model.ctc is not None:
            return tf.nn.log_softmax(model.ctc(memory[0], memory[1], training=False)), positions
        weights = model.with_attention()(inputs, training=False)["attention"]
        return tf.transpose(tf.math.log(tf.cast(weights, tf.float32) + 1e-9), [0, 2, 1]), positions

    def _spans(self, evidence: np.ndarray, tokens: Sequence[int]) -> list[tuple[float, float]]:
        if not tokens or not len(evidence):
            return [(0.0, 0.0)] * len(tokens)
        if isinstance(self.model.model, TransducerModel):
            return [(index, index + 1) for index in transducer_alignment(evidence, len(tokens))]
        if isinstance(self.model.model, CTCModel) or self.model.model.ctc is not None:
            return ctc_alignment(evidence, tokens)
        return forward_alignment(evidence[:, : len(tokens)])


def ctc_alignment(log_probs: np.ndarray, tokens: Sequence[int]) -> list[tuple[float, float]]:
    """Where the likeliest alignment of [F, V] has each token: positions from the first to behind the last.

    Where there are fewer positions than the tokens need, they are spread evenly.
    """
    states = np.full(2 * len(tokens) + 1, BLANK)
    states[1::2] = tokens
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(len(states), _LOWEST)
    best[:2] = log_probs[0, states[:2]]
    moves = np.zeros((len(log_probs), len(states)), "int8")
    for frame in range(1, len(log_probs)):
        stay, one, two = best, np.append(_LOWEST, best[:-1]), np.append([_LOWEST] * 2, best[:-2])
        ways = np.stack([stay, one, np.where(skips, two[: len(states)], _LOWEST)])
        moves[frame] = ways.argmax(axis=0)
        best = ways.max(axis=0) + log_probs[frame, states]
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    if best[state] <= _LOWEST / 2:
        return _evenly(len(log_probs), len(tokens))
    spans = [[0, 0] for _ in tokens]
    for frame in range(len(log_probs) - 1, -1, -1):
        if state % 2:
            span = spans[state // 2]
            span[0], span[1] = frame, span[1] or frame + 1
        state -= moves[frame, state]
    return [(start, end) for start, end in spans]


def transducer_alignment(log_probs: np.ndarray, count: int) -> list[int]:
    """The position at which the likeliest path through a lattice says each of `count` tokens.

    Args:
        log_probs: [F, U, 2], of the blank and of the next token at each position after each number of tokens.
    """
    frames = len(log_probs)
    best, said = np.full((frames, count + 1), _LOWEST), np.zeros((frames, count + 1), bool)
    best[0, 0] = 0.0
    for frame in range(frames):
        if frame:
            best[frame] = best[frame - 1] + log_probs[frame - 1, : count + 1, 0]
        for index in range(1, count + 1):
            way = best[frame, index - 1] + log_probs[frame, index - 1, 1]
            if way > best[frame, index]:
                best[frame, index], said[frame, index] = way, True
    indices, frame, index = [0] * count, frames - 1, count
    while index:
        if said[frame, index]:
            index -= 1
            indices[index] = frame
        else:
            frame -= 1
    return indices


def forward_alignment(weights: np.ndarray) -> list[tuple[float, float]]:
    """Positions of tokens by log attention weights [F, T], none before that of the token before; each token lasts until
    the next one begins."""
    frames, count = weights.shape
    best, came = weights[:, 0], np.zeros((count, frames), "int64")
    for index in range(1, count):
        reachable = np.maximum.accumulate(best)
        is_best = best >= reachable
        came[index] = np.maximum.accumulate(np.where(is_best, np.arange(frames), 0))
        best = reachable + weights[:, index]
    starts = [int(best.argmax())]
    for index in range(count - 1, 0, -1):
        starts.append(int(came[index, starts[-1]]))
    starts.reverse()
    ends = [max(after, start + 1) for start, after in zip(starts, [*starts[1:], starts[-1] + 1])]
    return list(zip(map(float, starts), map(float, ends)))


def group_tokens(target: TextFeatures, tokens: Sequence[int], times: Sequence[tuple[float, float]]) -> list[Word]:
    """Words of a transcript: from space to space, from the start of the first token to the end of the last.

    In scripts without spaces each token is a word.
    """
    surfaces = [target.surfaces[token] for token in tokens]
    words: list[tuple[bytes, float, float]] = []
    begun = False
    for surface, (start, end) in zip(surfaces, times):
        if not surface.strip():
            begun = False
            continue
        first_letter = surface.strip().decode("utf-8", "replace")[0]
        if surface[:1].isspace() or not begun or unspaced(first_letter):
            words.append((surface.lstrip(), start, end))
        else:
            text, earlier, _ = words[-1]
            words[-1] = (text + surface, earlier, max(end, earlier))
        begun = not surface[-1:].isspace()
    found: list[Word] = []
    for text, start, end in words:
        # No word begins before the one before it, whatever attention says.
        start = max(start, found[-1].start if found else 0.0)
        found.append(Word(text.decode("utf-8", "replace").strip(), start, max(start, end)))
    return found


def _closed(ids: np.ndarray) -> np.ndarray:
    """Ids [B, L] without <eos> or with it to ids [B, L + 1] with one each."""
    bare = np.where(ids == EOS, PAD, ids)
    closed = np.pad(bare, ((0, 0), (0, 1)), constant_values=PAD)
    closed[np.arange(len(ids)), (bare != PAD).sum(axis=1)] = EOS
    return closed.astype("int32")


def _evenly(frames: int, count: int) -> list[tuple[float, float]]:
    edges = np.linspace(0, frames, count + 1)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist()))


def _stride(model: SpeechToText) -> int:
    """Frames that become one encoder position."""
    frames = 1 << 16
    encoder, factor = model.model.encoder, model.model.source.subsampling
    return frames // int(encoder.positions(frames // factor))
