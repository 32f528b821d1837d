"""Settings for the corpora, the length filter and the batches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, group, setting

# The reserved tokens before the begin, the end and the middle of a text that is filled in.
INFILLING_TOKENS = ("<pre>", "<suf>", "<mid>")


def is_address(text: str) -> bool:
    """Whether a text is like HOST:PORT."""
    found = re.fullmatch(r"[^\s:/]+:([0-9]{1,5})", text)
    return bool(found and 0 < int(found[1]) < 2**16)


@dataclass(frozen=True)
class CorpusSpec(Spec):
    """The files of a corpus of pairs: two line files, a table with two columns, TFRecord files, a manifest, or
    dialogues.

    A language model needs only a target file.
    """

    source: str = setting("", "file with one source text per line, plain or .gz", needs="pairs")
    target: str = setting("", "file with one target text per line, plain or .gz")
    table: str = setting("", "TSV file instead of source and target; columns: source text, target text", needs="pairs")
    records: str = setting(
        "",
        "TFRecord file (plain or .gz), glob, or folder of shards, with features 'source' and 'target', or with "
        "recordings",
        needs="records",
    )
    manifest: str = setting(
        "",
        "list of recordings and transcripts: TSV with columns path and text, JSON lines with keys audio_filepath and "
        "text, or Kaldi folder with wav.scp and text; or of pictures or clips with captions: TSV with columns path "
        "and text, or COCO captions (JSON)",
        needs="manifest",
    )
    dialogues: str = setting(
        "",
        "file with one dialogue per line, plain or .gz: turns with source.separator between them, or a JSON list of "
        'texts or of objects such as {"speaker": "A", "text": "Hi"}',
        needs="dialogue",
    )
    split: str = setting(
        "", "value of the column split in a TSV manifest; other rows are skipped (empty: all rows)", needs="manifest"
    )

    def check(self) -> None:
        ways = {
            "source and target": self.source or self.target,
            "table": self.table,
            "records": self.records,
            "manifest": self.manifest,
            "dialogues": self.dialogues,
        }
        given = [way for way, path in ways.items() if path]
        if len(given) > 1:
            raise SpecError("source", f"must be one corpus: give one of {', '.join(ways)}, got {', '.join(given)}")
        if self.split and not self.manifest:
            raise SpecError("split", f"must be empty without a manifest, got {self.split!r}")

    @property
    def given(self) -> bool:
        return any((self.source, self.target, self.table, self.records, self.manifest, self.dialogues))


@dataclass(frozen=True)
class DataSpec(Spec):
    """Corpora, length filter and batches."""

    train: CorpusSpec = group(CorpusSpec, "training pairs")
    validation: CorpusSpec = group(CorpusSpec, "validation pairs")
    holdout: int = setting(
        0, "number of training examples to hold out for validation, if data.validation is not set", low=0
    )
    max_source_length: int = setting(
        128,
        "maximum source length in training, in tokens with <eos>; longer pairs are skipped",
        low=1,
        needs="vocabulary",
    )
    history: int = setting(
        1,
        "number of turns that a model of dialogues reads before the turn that it answers (0: that turn alone)",
        low=0,
        needs="dialogue",
    )
    truncate_source: int = setting(
        0,
        "number of tokens with <eos> that longer sources are cut to, in training and by the trained model (0: none is "
        "cut; of dialogues, the oldest turns are cut to max_source_length)",
        low=0,
        needs="pairs",
    )
    max_target_length: int = setting(
        128, "maximum target length in training, in tokens with <eos>; longer pairs are skipped", low=1
    )
    infilling: float = setting(
        0.0,
        "share of training texts that are rearranged to <pre>, begin, <suf>, end, <mid>, middle, so that a model fills "
        "in the middle (Bavarian et al. 2022); the three tokens must be in target.reserved",
        low=0,
        high=1,
        needs="prompts",
    )
    batch_tokens: int = setting(
        4096,
        "maximum batch size in tokens with padding: number of pairs times the longest source or target",
        low=1,
        needs="token batches",
    )
    batch_pairs: int = setting(
        0, "maximum number of examples in a batch (0: no limit; of pictures, which have no other limit, 64)", low=0
    )
    bucket_width: int = setting(
        2,
        "width of a length bucket in tokens; a batch has examples from one bucket only",
        low=1,
        needs="token batches",
    )
    shapes: Literal["auto", "exact", "few"] = setting(
        "auto",
        "shapes of batches: exact, padded to the longest example; few, padded to one of about ten lengths, for "
        "compilers that compile each shape; auto is few with training.jit and on the JAX backend, else exact",
    )
    service: str = setting(
        "",
        "HOST:PORT of a dispatcher of `tfseq2seq data service`, whose workers prepare the batches of "
        "data.train.records; their order then differs from run to run, and a stopped run goes on at the beginning of "
        "its epoch",
        needs="pairs",
    )
    shuffle_pairs: int = setting(
        0,
        "number of examples that are shuffled together (0: the whole corpus if it is kept in memory, else 100,000 "
        "pairs or recordings of 1 GB)",
        low=0,
    )
    cache: bool = setting(
        True,
        "keep the tokenized corpus in memory; false: read it anew in each epoch, as always with text in shards that "
        "have an index and more than shuffle_pairs pairs",
    )
    vocabulary_lines: int = setting(
        200_000,
        "maximum number of training examples to learn vocabularies from, taken from all over the corpus (0: no limit)",
        low=0,
    )
    min_seconds: float = setting(0.05, "minimum length of a training recording, in seconds", low=0, needs="audio")
    max_seconds: float = setting(30.0, "maximum length of a training recording, in seconds", low=0.01, needs="audio")
    batch_seconds: float = setting(
        160.0, "maximum batch size in seconds of audio with padding", low=0.01, needs="audio"
    )

    def check(self) -> None:
        if self.holdout and self.validation.given:
            raise SpecError("holdout", f"must be 0 with data.validation, got {self.holdout}; leave one of them out")
        if self.service and not self.train.records:
            raise SpecError("service", f"needs data.train.records, which workers read, got {self.service!r} alone")
        if self.service and not is_address(self.service):
            raise SpecError("service", f"must be HOST:PORT, such as localhost:5050, got {self.service!r}")
        if self.truncate_source == 1 or self.truncate_source > self.max_source_length:
            raise SpecError(
                "truncate_source",
                f"must be 0, or from 2 to max_source_length ({self.max_source_length}), got {self.truncate_source}",
            )
        if self.min_seconds > self.max_seconds:
            raise SpecError("min_seconds", f"must be at most max_seconds ({self.max_seconds}), got {self.min_seconds}")
