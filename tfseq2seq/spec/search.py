"""How output is found, given a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, group, setting


@dataclass(frozen=True)
class FusionSpec(Spec):
    """What counts beside the model: language models over the same vocabulary, and phrases that are likely to come.

    Each adds its log-probability or bonus, times a weight, to what hypotheses are ranked by (shallow fusion, Gulcehre
    et al. 2015): as they grow, or once they are complete (rescoring of the beam).
    """

    ngram: str = setting("", "ARPA file over the target vocabulary's tokens, as `tfseq2seq ngram train` writes it")
    ngram_weight: float = setting(0.3, "times its log-probability (0: off)", low=0)
    model: str = setting("", "run of a language model (model.encoder.kind none) with the same target vocabulary")
    model_weight: float = setting(0.3, "times its log-probability (0: off)", low=0)
    token_bonus: float = setting(0.0, "added for each token: language models alone prefer short outputs")
    phrases: str = setting("", "file of phrases to listen for, one a line; after a tab a weight of its own, if any")
    phrases_weight: float = setting(1.0, "bonus in nats for each token of such a phrase (0: off)", low=0)
    rescore: bool = setting(False, "language models rank the complete hypotheses of the beam only")


@dataclass(frozen=True)
class RulesSpec(Spec):
    """What is done to the text after search, inside every artefact."""

    patterns: str = setting("", "file of rules, one a line: regular expression (RE2), tab, replacement")
    lexicon: str = setting("", "file of proper spellings, one a line: as found (case aside), tab, as wanted")


@dataclass(frozen=True)
class SearchSpec(Spec):
    """How output is found, given a trained model."""

    beam: int = setting(4, "hypotheses kept; 1 is greedy", low=1)
    n_best: int = setting(1, "hypotheses returned", low=1)
    length_penalty: Literal["none", "average", "gnmt"] = setting(
        "gnmt",
        "what log-probabilities are divided by: nothing, length^alpha, or ((5 + length) / 6)^alpha (Wu et al. 2016)",
        needs="autoregressive",
    )
    alpha: float = setting(0.6, "strength of the length penalty", low=0, needs="autoregressive")
    stop: Literal["full", "exact"] = setting(
        "full",
        "full: stop when as many hypotheses as the beam is wide are finished; exact: when none can become better",
        needs="autoregressive",
    )
    coverage_penalty: float = setting(
        0.0, "strength of the coverage penalty (Wu et al. 2016, eq. 14)", low=0, needs="attention"
    )
    min_length: int = setting(0, "fewest tokens before <eos>", low=0, needs="autoregressive")
    max_length: int = setting(128, "most tokens, <eos> included", low=1)
    min_ratio: float = setting(
        0.0, "fewest tokens as a multiple of the source's", low=0, needs=("source", "autoregressive")
    )
    max_ratio: float = setting(
        0.0,
        "most tokens as a multiple of the source's, plus ten (0: max_length alone)",
        low=0,
        needs=("source", "autoregressive"),
    )
    no_repeat_ngram: int = setting(0, "no n-gram of this size is repeated (0: off)", low=0, needs="autoregressive")
    max_run: int = setting(
        0, "most times that a token is repeated in a row (0: no limit)", low=0, needs="autoregressive"
    )
    sample: bool = setting(False, "draw n_best samples instead of searching", needs="autoregressive")
    temperature: float = setting(
        1.0, "for sampling: below 1 sharper, above 1 flatter", low=0.01, needs="autoregressive"
    )
    top_k: int = setting(0, "for sampling: only the k likeliest tokens (0: all)", low=0, needs="autoregressive")
    top_p: float = setting(
        1.0,
        "for sampling: only the likeliest tokens that make up this probability mass",
        low=0.0,
        high=1.0,
        needs="autoregressive",
    )
    seed: int = setting(1, "for sampling", low=0, high=2**31 - 1)
    ctc_weight: float = setting(
        0.3, "weight of CTC beside attention in the ranking of hypotheses", low=0, high=1, needs="two outputs"
    )
    shortlist: str = setting(
        "",
        "file of the target tokens that may translate each source token, written by `tfseq2seq shortlist`; others are "
        "excluded",
        needs="vocabulary",
    )
    fusion: FusionSpec = group(FusionSpec, "language models and phrases to listen for")
    rules: RulesSpec = group(RulesSpec, "rules for the text found")

    def check(self) -> None:
        if not self.sample and self.n_best > self.beam:
            raise SpecError("n_best", f"{self.n_best} hypotheses cannot come from a beam of {self.beam}")
        if self.min_length >= self.max_length:
            raise SpecError(
                "min_length", f"{self.min_length} leaves no room for <eos> within max_length ({self.max_length})"
            )
        if self.max_ratio and self.min_ratio > self.max_ratio:
            raise SpecError("min_ratio", f"{self.min_ratio} is above max_ratio ({self.max_ratio})")
        if self.sample and self.shortlist:
            raise SpecError("shortlist", "narrows a beam search, and sample draws from all tokens")
        if self.sample and self.fusion != FusionSpec():
            raise SpecError("fusion", "ranks hypotheses of a beam, and sample draws instead")
