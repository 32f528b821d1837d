"""The recipe: all settings of a model, from the data to the search."""

from __future__ import annotations

from dataclasses import dataclass

from tfseq2seq.spec.base import Spec, SpecError, check_needs, group, setting
from tfseq2seq.spec.data import DataSpec
from tfseq2seq.spec.model import ModelSpec
from tfseq2seq.spec.search import SearchSpec
from tfseq2seq.spec.sources import SourceSpec, TextSpec
from tfseq2seq.spec.training import TrainingSpec


@dataclass(frozen=True)
class Recipe(Spec):
    """All settings of a model, from the data to the search."""

    name: str = setting("model", "name of the run and of its export")
    seed: int = setting(1, "random seed of initial weights, shuffling and dropout", low=0, high=2**32 - 1)
    data: DataSpec = group(DataSpec, "corpora and batches")
    source: SourceSpec = group(TextSpec, "source of kind text, audio or none (language model)")
    target: TextSpec = group(TextSpec, "target text")
    share_vocabulary: bool = setting(
        False, "use one vocabulary for source and target; the settings of source apply", needs="vocabulary"
    )
    model: ModelSpec = group(ModelSpec, "encoder and decoder")
    training: TrainingSpec = group(TrainingSpec, "training")
    search: SearchSpec = group(SearchSpec, "search")

    def check(self) -> None:
        provided = self.provides
        check_needs(self, provided)
        self.source.check_recipe(self)
        if self.model.share_embeddings and not self.share_vocabulary:
            raise SpecError("model.share_embeddings", "must be false unless share_vocabulary is true, got true")
        if (
            self.share_vocabulary
            and self.target.begin
            and self.target.begin not in getattr(self.source, "reserved", ())
        ):
            raise SpecError(
                "target.begin",
                f"must be one of source.reserved, as the vocabulary is shared, got {self.target.begin!r}",
            )
        if self.training.distillation.teacher and self.model.scheduled_sampling.schedule != "none":
            raise SpecError(
                "training.distillation",
                "must have no teacher with model.scheduled_sampling, got teacher "
                f"{self.training.distillation.teacher!r}",
            )
        if not self.name.strip() or self.name in (".", "..") or "/" in self.name or not self.name.isprintable():
            raise SpecError("name", f"must be a valid folder name, got {self.name!r}")

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """Keys of `NEEDS` that the kinds of this recipe fulfill."""
        found = self.source.provides | self.model.provides
        return found if "source" in found else found - {"attention"}
