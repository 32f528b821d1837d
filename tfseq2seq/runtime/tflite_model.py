"""Asks a TFLite folder; needs ai-edge-litert and, for SentencePiece, sentencepiece, but not TensorFlow.

A file of strings is the exception: its operations are tensorflow-text's, made for TensorFlow's own interpreter.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.runtime.export_config import read_config
from tfseq2seq.runtime.outputs import Output
from tfseq2seq.runtime.plain_sources import Limited, load_source
from tfseq2seq.runtime.plain_text import load_side
from tfseq2seq.spec import PAD

MODEL, CONFIG = "model.tflite", "config.json"


class TFLiteModel(Limited):
    """Strings, or arrays of samples at the model's rate, to outputs.

    Args:
        folder: from `export_tflite`.
        batch_size: inputs at a time, sorted by length; one, of a file of strings.
        threads: of the interpreter.

    Raises:
        UserError: ai-edge-litert, or tensorflow-text where it is needed, is not installed, or something in the folder
            is missing or damaged.
    """

    def __init__(self, folder: str | Path, batch_size: int = 1, threads: int = 1):
        folder = Path(folder)
        self.config = read_config(folder / CONFIG, "outputs", "target", "search")
        try:
            content = (folder / MODEL).read_bytes()
            self.strings = "text" in self.config["outputs"]
            self.target = load_side(folder, "target", self.config)
            self.source = load_source(folder, self.config, self.target)
        except KeyError as error:
            raise UserError(f"{folder}: not a complete export: {CONFIG} lacks {error}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: not a complete export: {error}") from None
        self.batch_size = batch_size
        make = _string_interpreter if self.strings else _interpreter
        try:
            self._interpreter = make(content, threads)
            self._ask = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{folder / MODEL}: damaged: {str(error).splitlines()[0]}") from None

    def generate(self, inputs: Sequence[Any]) -> list[Output]:
        """Outputs for each input, in the order given. An empty input gives empty texts.

        Raises:
            UserError: an input is longer than the model answers; see `faults`.
        """
        self.check(inputs)
        if self.strings:
            return [self._one(one) for one in inputs]
        rows = [self.source.row(one) for one in inputs]
        outputs = [Output.nothing(self.config["search"]["n_best"]) for _ in inputs]
        real = [index for index, row in enumerate(rows) if not self.source.is_nothing(row)]
        order = sorted(real, key=lambda index: -len(rows[index]))
        for begin in range(0, len(order), self.batch_size):
            indices = order[begin : begin + self.batch_size]
            found = self._ask(**self.source.packed([rows[index] for index in indices]))
            for row, index in enumerate(indices):
                prompt, stops = self.source.prompt_length(rows[index]), self.config["search"]["stop_strings"]
                words = self.source.copied_words(inputs[index])
                ids = [[int(token) for token in each] for each in found["ids"][row]]
                texts = [self.target.decode(each, prompt, stops, words) for each in ids]
                cut = int(np.count_nonzero(found["ids"][row][0] != PAD)) >= self.config["search"]["max_length"]
                # An output that a stop string ends is whole.
                cut = cut and texts[0] == self.target.decode(ids[0], words=words)
                outputs[index] = Output(texts, found["score"][row].tolist(), found["log_prob"][row].tolist(), cut)
        return outputs

    def _one(self, one: Any) -> Output:
        """The best output for one input of a file of strings."""
        given = self.source.string(one)
        if not given:
            return Output.nothing(1)
        found = self._ask(**given)
        # Files of earlier versions do not tell.
        cut = bool(found["cut"][0]) if "cut" in found else False
        return Output([found["text"][0].decode("utf-8")], found["score"].tolist(), found["log_prob"].tolist(), cut)


def _interpreter(content: bytes, threads: int) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise UserError("TFLite needs ai-edge-litert: `pip install 'tfseq2seq[tflite]'`") from None
    return Interpreter(model_content=content, num_threads=threads)


def _string_interpreter(content: bytes, threads: int) -> Any:
    # Of the same release as tensorflow-text: with that of another one, registering its operations ends the process.
    try:
        from tensorflow.lite.python.interpreter import InterpreterWithCustomOps
        from tensorflow_text import tflite_registrar
    except ImportError:
        raise UserError("a TFLite file of strings needs tensorflow-text: `pip install tensorflow-text`") from None
    operations = tflite_registrar.SELECT_TFTEXT_OPS
    with warnings.catch_warnings():
        # It advises the interpreter of LiteRT, which is of another release.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        return InterpreterWithCustomOps(operations, model_content=content, num_threads=threads)
