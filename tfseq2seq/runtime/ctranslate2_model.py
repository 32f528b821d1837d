"""Asks a CTranslate2 folder; needs ctranslate2 and, for SentencePiece, sentencepiece, but not TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.runtime.export_config import read_config
from tfseq2seq.runtime.outputs import Output
from tfseq2seq.runtime.plain_sources import Limited, load_source
from tfseq2seq.runtime.plain_text import PlainText, load_side
from tfseq2seq.spec import EOS, SPECIAL_TOKENS

CONFIG = "tfseq2seq.json"


class CTranslate2Model(Limited):
    """Strings to outputs.

    Args:
        folder: from `export_ctranslate2`.
        batch_size: inputs at a time, sorted by length.
        workers: batches at a time.
        threads: of each.

    Raises:
        UserError: ctranslate2 is not installed, or something in the folder is missing or damaged.
    """

    def __init__(self, folder: str | Path, batch_size: int = 32, workers: int = 1, threads: int = 1):
        ctranslate2 = load_ctranslate2()
        folder = Path(folder)
        self.config = read_config(folder / CONFIG, "target", "search", "options")
        try:
            self.target: PlainText = load_side(folder, "target", self.config)
            self.source: Any = load_source(folder, self.config, self.target)
            self._translator = ctranslate2.Translator(
                str(folder), device="cpu", inter_threads=workers, intra_threads=threads
            )
        except KeyError as error:
            raise UserError(f"{folder}: not a complete export: {CONFIG} lacks {error}") from None
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{folder}: not a complete export: {error}") from None
        self.batch_size = batch_size
        self._places = {token: index for index, token in enumerate(self.target.vocabulary.tokens)}

    def generate(self, inputs: Sequence[str]) -> list[Output]:
        """Outputs for each text, in the order given. Nothing in gives nothing out.

        Raises:
            UserError: a text is longer than the model answers; see `faults`.
        """
        self.check(inputs)
        tokens = self.source.text.vocabulary.tokens
        rows = [self.source.row(text) for text in inputs]
        outputs = [Output.nothing(self.config["search"]["n_best"]) for _ in inputs]
        indices = [index for index, row in enumerate(rows) if not self.source.is_nothing(row)]
        options = {"max_batch_size": self.batch_size, **self.config["options"]}
        given = [[tokens[token] for token in rows[index]] for index in indices]
        if begin := options.get("target_prefix"):
            options["target_prefix"] = [begin] * len(given)
        results = self._translator.translate_batch(given, **options)
        for index, result in zip(indices, results, strict=True):
            texts = [self.target.decode([self._places[token] for token in found]) for found in result.hypotheses]
            log_probs = self._log_probs(result.scores, result.hypotheses)
            cut = len(result.hypotheses[0]) >= options["max_decoding_length"]
            outputs[index] = Output(texts, list(result.scores), log_probs, cut)
        return outputs

    def _log_probs(self, scores: Sequence[float], hypotheses: Sequence[Sequence[str]]) -> list[float]:
        """What hypotheses were ranked by, before it was divided by their lengths, <eos> included where there is one."""
        options = self.config["options"]
        lengths = [min(len(found) + 1, options["max_decoding_length"]) for found in hypotheses]
        return [score * length ** options["length_penalty"] for score, length in zip(scores, lengths, strict=True)]


def search_options(search: dict[str, Any], begin: Sequence[str]) -> dict[str, Any]:
    """Search settings as `ctranslate2.Translator.translate_batch` takes them.

    "target_prefix" has the tokens that each output begins with, `begin`. The engine takes such a list for each input.

    Ours never say <pad> or <bos>. Barring them here would share out their probability among the other tokens and change
    every score; a model that has been trained does not say them anyway.
    """
    # It searches among the candidates of a whole batch, so that an output would depend on its neighbors.
    shortlist = {"use_vmap": True, "max_batch_size": 1} if search["shortlist"] else {}
    return {
        **shortlist,
        **({"target_prefix": list(begin)} if begin else {}),
        "beam_size": search["beam"],
        "num_hypotheses": search["n_best"],
        "length_penalty": search["alpha"] if search["length_penalty"] == "average" else 0.0,
        "min_decoding_length": search["min_length"],
        # Ours counts <eos>, without which an output that is cut off ends there: its score is then of what it has.
        "max_decoding_length": search["max_length"] - 1,
        "max_input_length": 0,
        "no_repeat_ngram_size": search["no_repeat_ngram"],
        "end_token": SPECIAL_TOKENS[EOS],
        "return_scores": True,
    }


def load_ctranslate2() -> Any:
    """The package, or a message that tells how to get it."""
    try:
        import ctranslate2
    except ImportError:
        raise UserError("CTranslate2 is not installed: `pip install 'tfseq2seq[ctranslate2]'`") from None
    return ctranslate2
