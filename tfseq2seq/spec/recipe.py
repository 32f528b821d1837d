"""The recipe: all settings of a model, from the data to the search."""

from __future__ import annotations

from dataclasses import dataclass

from tfseq2seq.spec.base import Spec, SpecError, check_needs, group, setting
from tfseq2seq.spec.data import DataSpec
from tfseq2seq.spec.model import ModelSpec
from tfseq2seq.spec.search import FusionSpec, SearchSpec
from tfseq2seq.spec.sources import SourceSpec, TextSpec
from tfseq2seq.spec.training import TrainingSpec

# The default of `max_scored` is at least so many tokens.
LEAST_SCORED = 1024


@dataclass(frozen=True)
class Recipe(Spec):
    """All settings of a model, from the data to the search."""

    name: str = setting("model", "name of the run and of its export")
    seed: int = setting(1, "random seed of initial weights, shuffling and dropout", low=0, high=2**32 - 1)
    data: DataSpec = group(DataSpec, "corpora and batches")
    source: SourceSpec = group(TextSpec, "source of kind text, audio, dialogue, image, video or none (language model)")
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
        self._check_output_positions()
        if self.model.share_embeddings and not self.share_vocabulary:
            raise SpecError("model.share_embeddings", "must be false unless share_vocabulary is true, got true")
        known = getattr(self.source, "reserved", ())
        if self.share_vocabulary and (other := [token for token in self.target.begin_tokens if token not in known]):
            raise SpecError(
                "target.begin", f"must be of source.reserved, as the vocabulary is shared, got {other[0]!r}"
            )
        if self.model.decoder.copies:
            self._check_copying()
        if self.training.distillation.teacher and self.model.scheduled_sampling.schedule != "none":
            raise SpecError(
                "training.distillation",
                "must have no teacher with model.scheduled_sampling, got teacher "
                f"{self.training.distillation.teacher!r}",
            )
        self._check_executions()
        for side in ("source", "target"):
            if self.training.start_from and (vectors := getattr(self.model, f"{side}_vectors")):
                raise SpecError(
                    f"model.{side}_vectors",
                    f"must be empty with training.start_from, which has embeddings already, got {vectors!r}",
                )
        if self.data.service and self.training.strategy == "workers":
            raise SpecError(
                "data.service",
                "must be empty with training.strategy workers, which all need the same batches, got "
                f"{self.data.service!r}",
            )
        if not self.name.strip() or self.name in (".", "..") or "/" in self.name or not self.name.isprintable():
            raise SpecError("name", f"must be a valid folder name, got {self.name!r}")

    def _check_copying(self) -> None:
        """Raises `SpecError` if tokens of the source cannot be those of the target, or something cannot rank them."""
        source = self.source
        assert isinstance(source, TextSpec)
        if not self.share_vocabulary and source.scheme != self.target.scheme:
            raise SpecError(
                "target.scheme",
                f"must be source.scheme ({source.scheme}) with model.decoder.copy, as other tokens cannot be copied, "
                f"got {self.target.scheme}",
            )
        if self.search.shortlist:
            raise SpecError(
                "search.shortlist",
                f"must be empty with model.decoder.copy, which also writes tokens outside of a shortlist, got "
                f"{self.search.shortlist!r}",
            )
        if source.extends_copies and self.search.stop_strings:
            raise SpecError(
                "search.stop_strings",
                f"must be left out with model.decoder.copy and scheme {source.scheme}, as copied words that the "
                "vocabulary lacks are not compared with them",
            )
        if source.extends_copies and self.search.fusion != FusionSpec():
            raise SpecError(
                "search.fusion",
                f"must be left out with model.decoder.copy and scheme {source.scheme}: external scorers have no score "
                "for copied words that the vocabulary lacks",
            )

    def _check_executions(self) -> None:
        """Raises `SpecError` if a share that changes with each training step must change inside of a call."""
        together, model = self.training.steps_per_execution, self.model
        changes = {
            "model.scheduled_sampling.schedule": model.scheduled_sampling.schedule not in ("none", "constant"),
            "model.guided_attention.steps": bool(model.guided_attention.weight and model.guided_attention.steps),
        }
        for name, changing in changes.items():
            if together > 1 and changing:
                raise SpecError(
                    "training.steps_per_execution",
                    f"must be 1 with {name}, which changes the model before each training step, got {together}",
                )

    def _check_output_positions(self) -> None:
        """Raises `SpecError` if outputs can have more positions than the decoder can tell apart."""
        limit, longest = self.model.decoder.position_limit, self.data.max_target_length
        if limit and longest > limit:
            raise SpecError(
                "model.decoder.max_positions",
                f"must be at least {longest} for data.max_target_length ({longest}), as later positions would share a "
                f"row, got {limit}",
            )
        if limit and self.search.max_length > limit:
            raise SpecError(
                "search.max_length",
                f"must be at most model.decoder.max_positions ({limit}), as later positions would share a row, got "
                f"{self.search.max_length}",
            )

    @property
    def max_input(self) -> int:
        """The longest input that a trained model answers, in the unit of `search.max_input`; 0 for no limit."""
        return self.search.max_input or self.source.default_max_input(self)

    @property
    def max_scored(self) -> int:
        """The longest target that a trained model scores, in tokens with <eos>: as a source of text by default, and at
        least `search.max_length`."""
        usual = max(LEAST_SCORED, 4 * self.data.max_target_length, self.search.max_length)
        limit = self.model.decoder.position_limit
        return min(usual, limit) if limit else usual

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """Keys of `NEEDS` that the kinds of this recipe fulfill."""
        found = self.source.provides | self.model.provides
        return found | self.model.encoder.provides if "source" in found else found - {"attention"}
