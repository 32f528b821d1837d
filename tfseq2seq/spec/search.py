"""Settings of the search: how a trained model generates output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, group, setting

# Exported models hold a table of as many rows as stop strings have bytes, and as many columns as there are tokens.
_MOST_STOP_BYTES = 256


@dataclass(frozen=True)
class FusionSpec(Spec):
    """External scorers: language models over the same vocabulary, and phrases that are likely to occur.

    Shallow fusion (Gulcehre et al. 2015): each scorer adds its weighted log-probability or bonus to the score of a
    hypothesis at every step. With `rescore` language models score only complete hypotheses.
    """

    ngram: str = setting("", "ARPA file of an n-gram model over the target tokens, from `tfseq2seq ngram train`")
    ngram_weight: float = setting(0.3, "weight of the n-gram log-probability (0: off)", low=0)
    model: str = setting("", "run folder of a language model (source.kind none) with the same target vocabulary")
    model_weight: float = setting(0.3, "weight of the language model log-probability (0: off)", low=0)
    token_bonus: float = setting(
        0.0, "score added for each token, as language models favor short outputs; negative values shorten outputs"
    )
    phrases: str = setting("", "file of likely phrases, one per line; a weight can follow after a tab")
    phrases_weight: float = setting(1.0, "bonus for each token of a phrase, in nats (0: off)", low=0)
    rescore: bool = setting(False, "apply language models only to the complete hypotheses of the beam")


@dataclass(frozen=True)
class RulesSpec(Spec):
    """Rewriting rules for the output text. Each exported model contains them."""

    patterns: str = setting("", "file of rewriting rules, one per line: regular expression (RE2), tab, replacement")
    lexicon: str = setting("", "file of spellings, one per line: words in any case, tab, correct spelling")


@dataclass(frozen=True)
class SearchSpec(Spec):
    """How a trained model generates output."""

    beam: int = setting(4, "beam width: number of hypotheses kept (1: greedy search, with stop full)", low=1)
    n_best: int = setting(1, "number of hypotheses returned", low=1)
    length_penalty: Literal["none", "average", "gnmt"] = setting(
        "gnmt",
        "divisor of log-probabilities: 1 for none, length^alpha for average, ((5 + length) / 6)^alpha for gnmt, as in "
        "Wu et al. 2016",
        needs="autoregressive",
    )
    alpha: float = setting(0.6, "exponent of the length penalty", low=0, needs="autoregressive")
    stop: Literal["full", "exact"] = setting(
        "full",
        "end of the search: full stops when the number of finished hypotheses equals beam; exact stops when no live "
        "hypothesis can still enter the n_best",
        needs="autoregressive",
    )
    coverage_penalty: float = setting(
        0.0, "weight of the coverage penalty (Wu et al. 2016, eq. 14; 0: off)", low=0, needs="attention"
    )
    min_length: int = setting(0, "minimum output length in tokens without <eos>", low=0, needs="autoregressive")
    max_length: int = setting(
        128,
        "maximum output length in tokens with <eos>; of the windows of `generate --window`, for every 5 seconds",
        low=1,
    )
    max_input: int = setting(
        0,
        "maximum input length in tokens with <eos>, for recordings in seconds, for pictures in megapixels, for clips "
        "in megapixels of all frames together; longer inputs are not answered (0: four times the limit of training, at "
        "least 1024 tokens or 60 s, and at most the learned positions; for pictures and clips 50)",
        low=0,
    )
    min_ratio: float = setting(
        0.0, "minimum output length as a multiple of the source length", low=0, needs=("source", "autoregressive")
    )
    max_ratio: float = setting(
        0.0,
        "maximum output length as a multiple of the source length, plus 10 tokens; max_length also applies (0: off)",
        low=0,
        needs=("source", "autoregressive"),
    )
    no_repeat_ngram: int = setting(
        0, "size of n-grams that must not occur twice in an output (0: off)", low=0, needs="autoregressive"
    )
    max_run: int = setting(
        0, "maximum number of times that a token is repeated in a row (0: no limit)", low=0, needs="autoregressive"
    )
    sample: bool = setting(False, "draw n_best random samples instead of beam search", needs="autoregressive")
    temperature: float = setting(
        1.0,
        "sampling temperature: values below 1 sharpen the distribution, values above 1 flatten it",
        low=0.01,
        needs="autoregressive",
    )
    top_k: int = setting(
        0, "for sampling: number of most probable tokens to draw from (0: all)", low=0, needs="autoregressive"
    )
    top_p: float = setting(
        1.0,
        "for sampling: probability mass of the most probable tokens to draw from (1: all)",
        low=0.0,
        high=1.0,
        needs="autoregressive",
    )
    min_p: float = setting(
        0.0,
        "for sampling: least probability of a token to draw, as a share of that of the most probable token (Nguyen et "
        "al. 2024; 0: off)",
        low=0.0,
        high=1.0,
        needs="autoregressive",
    )
    repetition_penalty: float = setting(
        1.0,
        "for sampling: divisor of the logits of tokens that the text has already, its prompt included (Keskar et al. "
        "2019; negative logits are multiplied; 1: off)",
        low=0.01,
        needs="autoregressive",
    )
    stop_strings: tuple[str, ...] = setting(
        (),
        "texts that end an output: it stops before the first of them that is written after the prompt",
        needs="autoregressive",
    )
    suppress_tokens: tuple[str, ...] = setting(
        (), "tokens of the target vocabulary that no output has after its prompt", needs="autoregressive"
    )
    begin_suppress_tokens: tuple[str, ...] = setting(
        (),
        "tokens of the target vocabulary, such as <eos>, that no output has as the first one after its prompt",
        needs="autoregressive",
    )
    seed: int = setting(1, "random seed for sampling", low=0, high=2**31 - 1)
    ctc_weight: float = setting(
        0.3,
        "weight of the CTC score of a hypothesis; the attention score has the rest",
        low=0,
        high=1,
        needs="two outputs",
    )
    shortlist: str = setting(
        "",
        "file of possible target tokens for each source token, from `tfseq2seq shortlist`; the search excludes other "
        "tokens",
        needs="vocabulary",
    )
    fusion: FusionSpec = group(FusionSpec, "external scorers: language models and likely phrases")
    rules: RulesSpec = group(RulesSpec, "rewriting rules for the output text")

    def check(self) -> None:
        if not self.sample and self.n_best > self.beam:
            raise SpecError("n_best", f"must be at most beam ({self.beam}), got {self.n_best}")
        if self.min_length >= self.max_length:
            raise SpecError(
                "min_length",
                f"must be below max_length ({self.max_length}), which includes <eos>, got {self.min_length}",
            )
        if self.max_ratio and self.min_ratio > self.max_ratio:
            raise SpecError("min_ratio", f"must be at most max_ratio ({self.max_ratio}), got {self.min_ratio}")
        self._check_stop_strings()
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            if self.shortlist and getattr(self, name):
                raise SpecError("shortlist", f"must be empty with {name}, got {self.shortlist!r}")
        if self.sample and self.shortlist:
            raise SpecError(
                "shortlist", f"must be empty with sample, which draws from all tokens, got {self.shortlist!r}"
            )
        if self.sample and self.fusion != FusionSpec():
            raise SpecError(
                "fusion", "must be left out with sample: external scorers need a beam search, got sample true"
            )

    def _check_stop_strings(self) -> None:
        size = sum(len(one.encode("utf-8", "replace")) for one in self.stop_strings)
        if "" in self.stop_strings:
            raise SpecError("stop_strings", "must not have an empty string, which every output has at its begin")
        if size > _MOST_STOP_BYTES:
            raise SpecError("stop_strings", f"must have at most {_MOST_STOP_BYTES} bytes together, got {size}")
        if self.stop_strings and (self.min_length or self.min_ratio):
            name = "min_length" if self.min_length else "min_ratio"
            raise SpecError("stop_strings", f"must be left out with {name}, which an output that stops would miss")
