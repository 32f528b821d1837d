"""Where examples come from, which are used, and how they are batched."""

from __future__ import annotations

from dataclasses import dataclass

from tfseq2seq.spec.base import Spec, SpecError, group, setting


@dataclass(frozen=True)
class CorpusSpec(Spec):
    """Where pairs come from: two line files, or a table with a column each, or TFRecord files; of speech a manifest.

    A language model takes a target file alone.
    """

    source: str = setting("", "line file with one source sentence a line, plain or .gz")
    target: str = setting("", "line file with one target sentence a line, plain or .gz")
    table: str = setting("", "TSV file, instead of source and target: source, tab, target on each line")
    records: str = setting("", "TFRecord file or glob with features 'source' and 'target', instead of the others")
    manifest: str = setting(
        "",
        "of speech: TSV with the columns path and text, JSON lines with audio_filepath and text, or a Kaldi folder "
        "with wav.scp and text",
    )
    split: str = setting("", "rows of a TSV manifest whose column split says so (empty: all rows)")

    def check(self) -> None:
        ways = [bool(self.source or self.target), bool(self.table), bool(self.records), bool(self.manifest)]
        if sum(ways) > 1:
            raise SpecError("source", "give one of: source and target, table, records, manifest")
        if self.split and not self.manifest:
            raise SpecError("split", "is for a manifest, and none is given")

    @property
    def given(self) -> bool:
        return bool(self.source or self.target or self.table or self.records or self.manifest)


@dataclass(frozen=True)
class DataSpec(Spec):
    """Corpora, length filter and batching."""

    train: CorpusSpec = group(CorpusSpec, "training pairs")
    validation: CorpusSpec = group(CorpusSpec, "validation pairs")
    holdout: int = setting(
        0, "without validation pairs: so many training pairs drawn by the seed to serve as them", low=0
    )
    max_source_length: int = setting(128, "longest source kept in training, in tokens with <eos>", low=1)
    max_target_length: int = setting(128, "longest target kept in training, in tokens with <eos>", low=1)
    batch_tokens: int = setting(4096, "padded tokens in a batch: pairs times the longer side", low=1)
    batch_pairs: int = setting(0, "at most so many pairs in a batch (0: no limit but batch_tokens)", low=0)
    bucket_width: int = setting(2, "lengths within so many tokens share a batch", low=1)
    shuffle_pairs: int = setting(0, "pairs held for shuffling (0: the whole corpus)", low=0)
    cache: bool = setting(True, "keep the tokenized corpus in memory after the first pass")
    min_seconds: float = setting(0.05, "of speech: shortest recording kept in training", low=0)
    max_seconds: float = setting(30.0, "of speech: longest recording kept in training", low=0.01)
    batch_seconds: float = setting(160.0, "of speech: padded seconds in a batch, in place of batch_tokens", low=0.01)

    def check(self) -> None:
        if self.holdout and self.validation.given:
            raise SpecError("holdout", "data.validation is given too; leave one of them out")
        if self.min_seconds > self.max_seconds:
            raise SpecError("min_seconds", f"{self.min_seconds} is above max_seconds ({self.max_seconds})")
