"""Everything that makes a model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tfseq2seq.spec.base import Spec, SpecError, group, setting
from tfseq2seq.spec.data import DataSpec
from tfseq2seq.spec.encoders import ConformerEncoderSpec
from tfseq2seq.spec.model import ModelSpec
from tfseq2seq.spec.search import SearchSpec
from tfseq2seq.spec.sources import AudioSpec, SourceSpec, TextSpec
from tfseq2seq.spec.training import TrainingSpec


@dataclass(frozen=True)
class Recipe(Spec):
    """Everything that makes a model, from data to search."""

    name: str = setting("model", "names the run and its export")
    seed: int = setting(1, "of initial weights, shuffling and dropout", low=0, high=2**32 - 1)
    data: DataSpec = group(DataSpec, "corpora and batching")
    source: SourceSpec = group(TextSpec, "source text, or audio")
    target: TextSpec = group(TextSpec, "target text")
    share_vocabulary: bool = setting(False, "one vocabulary for both sides, described by source")
    model: ModelSpec = group(ModelSpec, "encoder and decoder")
    training: TrainingSpec = group(TrainingSpec, "training")
    search: SearchSpec = group(SearchSpec, "search")

    def check(self) -> None:
        if self.model.is_language_model:
            self._check_language_model()
        else:
            self._check_sides()
        if not self.model.attends:
            self._check_alignment_search()
        if self.search.ctc_weight != SearchSpec().ctc_weight and not self.model.ctc_weight:
            raise SpecError("search.ctc_weight", "needs a model with both outputs; set model.ctc_weight")
        if self.model.share_embeddings and not self.share_vocabulary:
            raise SpecError("model.share_embeddings", "needs share_vocabulary: true")
        if isinstance(self.source, AudioSpec):
            self._check_audio(self.source)
        elif not self.model.is_language_model:
            self._check_text()
        text = isinstance(self.source, TextSpec) and not self.model.is_language_model
        if self.training.distillation.teacher and not (text and self.model.scheduled_sampling.schedule == "none"):
            raise SpecError("training.distillation", "is for models of text to text without scheduled sampling")
        if not self.name.strip() or self.name in (".", "..") or "/" in self.name or not self.name.isprintable():
            raise SpecError("name", f"{self.name!r} cannot name a folder")

    def _check_sides(self) -> None:
        for name, corpus in (("train", self.data.train), ("validation", self.data.validation)):
            if bool(corpus.source) != bool(corpus.target):
                missing = "target" if corpus.source else "source"
                raise SpecError(f"data.{name}.{missing}", "source and target files come together")

    def _check_language_model(self) -> None:
        for name, corpus in (("train", self.data.train), ("validation", self.data.validation)):
            for key in ("source", "table", "records", "manifest"):
                if getattr(corpus, key):
                    raise SpecError(f"data.{name}.{key}", f"a language model learns from data.{name}.target alone")
        if self.source != TextSpec() or self.share_vocabulary:
            raise SpecError("source", "a language model (model.encoder.kind none) has no source; describe target")
        if self.training.monitor != "loss":
            raise SpecError("training.monitor", "a language model generates nothing to score; monitor the loss")
        usual = SearchSpec()
        # Presets, which become language models by model.encoder.kind alone, have a length penalty of their own.
        if dataclasses.replace(self.search, length_penalty=usual.length_penalty, alpha=usual.alpha) != usual:
            raise SpecError("search", "a language model is not searched; its weight is set where it is used")

    def _check_alignment_search(self) -> None:
        """What steers a decoder token by token means nothing where time steers it: better told than ignored."""
        usual = SearchSpec()
        for name in (
            *("length_penalty", "alpha", "stop", "coverage_penalty", "min_length", "min_ratio", "max_ratio"),
            *("no_repeat_ngram", "max_run", "sample", "temperature", "top_k", "top_p"),
        ):
            if getattr(self.search, name) != getattr(usual, name):
                raise SpecError(f"search.{name}", f"is for decoders with attention, not for {self.model.decoder.kind}")

    def _check_audio(self, source: AudioSpec) -> None:
        if self.share_vocabulary:
            raise SpecError("share_vocabulary", "needs source text, and the source is audio")
        if self.model.source_vectors:
            raise SpecError("model.source_vectors", "are of words, and the source is audio")
        if self.search.shortlist:
            raise SpecError("search.shortlist", "is of source tokens, and the source is audio")
        encoder = self.model.encoder
        if isinstance(encoder, ConformerEncoderSpec) and encoder.chunk:
            if source.normalization == "utterance" or source.convention == "whisper" or source.trim or source.denoise:
                raise SpecError(
                    "model.encoder.chunk",
                    "a stream is heard before its end: it needs source.normalization global or none, another "
                    "convention than whisper, and neither trim nor denoise",
                )
            if source.deltas:
                raise SpecError("source.deltas", "look ahead, which a stream cannot")

    def _check_text(self) -> None:
        if not self.model.attends:
            raise SpecError("model.decoder.kind", f"{self.model.decoder.kind} needs source.kind audio")
        if self.model.ctc_weight:
            raise SpecError("model.ctc_weight", "needs source.kind audio")
        for name, corpus in (("train", self.data.train), ("validation", self.data.validation)):
            if corpus.manifest:
                raise SpecError(f"data.{name}.manifest", "is of speech; set source.kind to audio")
