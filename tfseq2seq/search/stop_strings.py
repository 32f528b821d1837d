"""Stop strings: texts that end an output wherever its tokens spell them, across the borders of tokens or not.

Inside the loop of a search an automaton over the bytes of tokens (Aho & Corasick 1975) tells when a stop string is
complete. From then on a hypothesis can only end: <eos> has the probability 1, so that the log-probability is that of
the tokens up to the one that completed the stop string. What is shown ends before the stop string; `cut_pattern` is for
that.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.search.beam import StepFunction
from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.spec import EOS


class StopStrings(tf.Module):
    """The automaton of stop strings over a vocabulary.

    Args:
        strings: the stop strings, at least one, none of them empty.
        surfaces: the bytes that each token contributes to text.
    """

    def __init__(self, strings: Sequence[str], surfaces: Sequence[bytes]):
        super().__init__(name="stop_strings")
        self.strings = tuple(strings)
        by_byte = _byte_automaton([text.encode("utf-8") for text in strings])
        self.stopped, self._size = len(by_byte) - 1, len(surfaces)
        self._next = tf.constant(_by_token(by_byte, surfaces).reshape(-1))

    def advanced(self, states: Any, tokens: Any) -> tf.Tensor:
        """States [B, K] after tokens [B, K]. A state `stopped` stays."""
        return tf.gather(self._next, states * self._size + tokens)

    def step(self, step: StepFunction, prompt_lengths: Any = None, tokens: Any = None) -> StepFunction:
        """Wraps a step function, so that hypotheses end after a stop string; see `cache`.

        Args:
            step: the step function. The fourth of its ids is <eos>.
            prompt_lengths: [B], the number of first tokens in which no stop string is looked for.
            tokens: [C], the tokens that its ids are indices of; None where its ids are those of the vocabulary.
        """

        def stopping(ids: Any, index: Any, visible: Any, fixed: Any, cache: Any) -> tuple[Any, Any, Any]:
            model = {"state": cache["state"]["model"], "history": cache["history"]}
            logits, model, attention = step(ids, index, visible, fixed, model)
            states = cache["state"]["stop"]
            # The first ids are <bos>; those of a step at `index` stand at the position before it.
            written = index > (0 if prompt_lengths is None else tf.expand_dims(prompt_lengths, 1))
            read = ids if tokens is None else tf.gather(tokens, ids)
            states = tf.where(written, self.advanced(states, read), states)
            is_end = tf.equal(tf.range(tf.shape(logits)[2]), EOS)
            ended = tf.where(is_end, 0.0, FORBIDDEN)
            logits = tf.where(tf.expand_dims(tf.equal(states, self.stopped), 2), ended, tf.cast(logits, tf.float32))
            state = {"model": model["state"], "stop": states}
            return logits, {"state": state, "history": model["history"]}, attention

        return stopping

    def cache(self, cache: dict[str, Any], batch: Any, beam: int) -> dict[str, Any]:
        """The first cache of the wrapped step function, from that of the step function."""
        states = tf.zeros(tf.stack([batch, beam]), tf.int32)
        return {"state": {"model": cache["state"], "stop": states}, "history": cache["history"]}


def cut_pattern(strings: Sequence[str]) -> str:
    """A regular expression (of RE2 and of Python) for what is not shown: the first stop string, and all after it."""
    return f"(?s)(?:{'|'.join(map(re.escape, strings))}).*"


def open_pattern(strings: Sequence[str]) -> str:
    """A regular expression (RE2) for what is not shown yet of a text that goes on: what `cut_pattern` is for, or at the
    end the begin of a stop string, which may yet become one."""
    begins = {text[:size] for text in strings for size in range(1, len(text))}
    ordered = sorted(begins, key=lambda text: (-len(text), text))
    at_end = f"|(?:{'|'.join(map(re.escape, ordered))})$" if ordered else ""
    return cut_pattern(strings) + at_end


def _byte_automaton(strings: Sequence[bytes]) -> np.ndarray:
    """Next states [S, 256] after each byte. State 0 is the first. The last one, where a string is complete, stays."""
    children: list[dict[int, int]] = [{}]
    complete = {0: False}
    for text in strings:
        state = 0
        for byte in text:
            if byte not in children[state]:
                children[state][byte] = len(children)
                complete[len(children)] = False
                children.append({})
            state = children[state][byte]
        complete[state] = True
    count = len(children)
    table, suffixes = np.zeros((count + 1, 256), "int32"), [0] * count
    queue = deque([0])
    while queue:
        state = queue.popleft()
        # What the longest suffix of a state that is a state too does, a state does where it has no child.
        if state:
            table[state] = table[suffixes[state]]
            complete[state] |= complete[suffixes[state]]
        for byte, child in children[state].items():
            suffixes[child] = table[suffixes[state], byte] if state else 0
            table[state, byte] = child
            queue.append(child)
    table[count] = count
    final = np.array([count if complete[state] else state for state in range(count)] + [count], "int32")
    return final[table]


def _by_token(by_byte: np.ndarray, surfaces: Sequence[bytes]) -> np.ndarray:
    """The next state [S, V] after each token, int32."""
    count = len(by_byte)
    lengths = np.array([len(surface) for surface in surfaces])
    padded = np.zeros((len(surfaces), max(lengths.max(), 1)), "uint8")
    for row, surface in zip(padded, surfaces, strict=True):
        row[: len(surface)] = np.frombuffer(surface, "uint8")
    states = np.repeat(np.arange(count, dtype="int32")[:, np.newaxis], len(surfaces), axis=1)
    for position in range(padded.shape[1]):
        inside = position < lengths
        states[:, inside] = by_byte[states[:, inside], padded[inside, position]]
    return states
