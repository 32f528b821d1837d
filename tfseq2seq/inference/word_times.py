"""Times of words: the tokens of a transcript aligned with its recording.

The alignment is that of the model's decoding (`inference/decoding`): with a CTC output, alone or beside attention, and
with a transducer, the likeliest alignment that gives the transcript (Viterbi); with attention alone, where the weights
lead, under the condition that it goes forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.inference.subtitles import Word, joined_text, unspaced
from tfseq2seq.spec import EOS, PAD


@dataclass(frozen=True)
class Transcript:
    """The text of a recording after all rules, its words with their times in seconds, and its score.

    `cut` tells of each part that was transcribed by itself whether its text may have been cut off.
    """

    text: str
    words: list[Word]
    score: float
    cut: tuple[bool, ...] = (False,)


class Transcriber:
    """Recordings to transcripts with times.

    Args:
        model: a predictor over recordings.
        batch_size: recordings at a time.

    Raises:
        UserError: the model cuts silence off (`source.trim`), after which the time of a frame is not known.
    """

    def __init__(self, model: Predictor, batch_size: int = 16):
        source = model.source.spec
        if source.trim:
            raise UserError("source.trim: must be 0 for word times, as the time of a frame is not known after trimming")
        self.model, self.batch_size, self.rate = model, batch_size, source.sample_rate
        network = model.models[0]
        # Seconds from one encoder position to the next.
        self.step = network.frontend.features.hop / self.rate * source.subsampling * network.encoder.stride
        self._search = tf.function(self._found, input_signature=model.signature, autograph=False)
        target = tf.TensorSpec([None, None], tf.int32)
        self._align = tf.function(self._evidence, input_signature=[*model.signature, target], autograph=False)

    def transcribe(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        """The best transcript of each recording, samples [N] at the model's rate, in the order given.

        That of a recording without samples is empty.
        """
        found = [Transcript("", [], 0.0) for _ in recordings]
        real = [index for index, samples in enumerate(recordings) if len(samples)]
        order = sorted(real, key=lambda index: -len(recordings[index]))
        for begin in range(0, len(order), self.batch_size):
            indices = order[begin : begin + self.batch_size]
            for index, transcript in zip(indices, self._batch([recordings[index] for index in indices])):
                found[index] = transcript
        return found

    def text_of(self, words: Sequence[Word]) -> str:
        """Words as one text, after the rules of the model."""
        return self.model.rules(tf.constant([joined_text(words)]))[0].numpy().decode("utf-8", "replace")

    def _batch(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        raw = self.model.pack(recordings)
        ids, scores, texts, cut = (part.numpy() for part in self._search(*raw))
        evidence, positions = (part.numpy() for part in self._align(*raw, tf.constant(_closed(ids))))
        transcripts = []
        for row, samples in enumerate(recordings):
            tokens = [int(token) for token in ids[row] if token not in (PAD, EOS)]
            spans = self._spans(evidence[row][: positions[row]], tokens)
            seconds = len(samples) / self.rate
            times = [(min(start * self.step, seconds), min(end * self.step, seconds)) for start, end in spans]
            words = group_tokens(self.model.target, tokens, times)
            text = texts[row].decode("utf-8", "replace")
            transcripts.append(Transcript(text, words, float(scores[row]), (bool(cut[row]),)))
        return transcripts

    def _found(self, *raw: Any) -> tuple[Any, Any, Any, Any]:
        given = self.model.source.inputs(*raw)
        found = self.model.search(given)
        ids = tf.where(tf.expand_dims(given.empty, 1), PAD, found.ids[:, 0])
        cut = tf.logical_and(tf.logical_not(given.empty), self.model.may_be_cut(found)[:, 0])
        return ids, found.scores[:, 0], self.model.rules(self.model.target.detokenize(ids)), cut

    def _evidence(self, *raw_and_labels: Any) -> tuple[Any, Any]:
        *raw, labels = raw_and_labels
        return self.model.decoding.evidence(self.model.source.inputs(*raw).inputs, labels)

    def _spans(self, evidence: np.ndarray, tokens: Sequence[int]) -> list[tuple[float, float]]:
        if not tokens or not len(evidence):
            return [(0.0, 0.0)] * len(tokens)
        return self.model.decoding.spans(evidence, tokens)


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
