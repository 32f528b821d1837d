"""Where examples come from, which are used, and how they are batched."""

from __future__ import annotations

from dataclasses import dataclass

from tfseq2seq.spec.base import Spec, SpecError, group, setting


@dataclass(frozen=True)
class CorpusSpec(Spec):
    """Where pairs come from: two line files, or a table with a column each, or TFRecord files; of speech a manifest.

    A language model takes a target file alone.
    """

    source: str = setting("", "file with one source text per line, plain or .gz", needs="vocabulary")
    target: str = setting("", "file with one target text per line, plain or .gz")
    table: str = setting(
        "", "TSV file instead of source and target: source, tab, target on each line", needs="vocabulary"
    )
    records: str = setting(
        "", "TFRecord file or glob: features 'source' and 'target', or shards of recordings", needs="source"
    )
    manifest: str = setting(
        "",
        "recordings with transcripts: TSV with the columns path and text, JSON lines with audio_filepath and text, or "
        "a Kaldi folder with wav.scp and text",
        needs="manifest",
    )
    split: str = setting(
        "", "rows of a TSV manifest with this value in the column split (empty: all rows)", needs="audio"
    )

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
    holdout: int = setting(0, "training examples to draw for validation, where data.validation is not given", low=0)
    max_source_length: int = setting(
        128, "longest source used in training, in tokens with <eos>", low=1, needs="vocabulary"
    )
    max_target_length: int = setting(128, "longest target used in training, in tokens with <eos>", low=1)
    batch_tokens: int = setting(
        4096, "padded tokens in a batch: pairs times the longer side", low=1, needs="token batches"
    )
    batch_pairs: int = setting(0, "most examples in a batch (0: no limit of their number)", low=0)
    bucket_width: int = setting(
        2, "lengths that differ by less than this many tokens share a batch", low=1, needs="token batches"
    )
    shuffle_pairs: int = setting(0, "examples in the shuffle buffer (0: the whole corpus)", low=0)
    cache: bool = setting(True, "keep the tokenized corpus in memory after the first pass")
    min_seconds: float = setting(0.05, "shortest recording used in training", low=0, needs="audio")
    max_seconds: float = setting(30.0, "longest recording used in training", low=0.01, needs="audio")
    batch_seconds: float = setting(160.0, "padded seconds of recordings in a batch", low=0.01, needs="audio")

    def check(self) -> None:
        if self.holdout and self.validation.given:
            raise SpecError("holdout", "data.validation is given too; leave one of them out")
        if self.min_seconds > self.max_seconds:
            raise SpecError("min_seconds", f"{self.min_seconds} is above max_seconds ({self.max_seconds})")
