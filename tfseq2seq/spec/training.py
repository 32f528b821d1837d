"""How a model is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, group, setting


@dataclass(frozen=True)
class OptimizerSpec(Spec):
    """Keras optimizer."""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = setting("adam", "optimizer")
    learning_rate: float = setting(1e-3, "peak learning rate; for noam, the factor before width^-0.5", low=0)
    beta_1: float = setting(0.9, "Adam's first decay", low=0, high=1)
    beta_2: float = setting(0.98, "Adam's second decay", low=0, high=1)
    epsilon: float = setting(1e-9, "added to the denominator", low=0)
    momentum: float = setting(0.0, "for sgd and rmsprop", low=0, high=1)
    weight_decay: float = setting(0.0, "decoupled weight decay, for adamw", low=0)
    clip_norm: float = setting(0.0, "scale gradients down to this global norm (0: off)", low=0)
    clip_value: float = setting(0.0, "cut each gradient at this size (0: off)", low=0)
    accumulate: int = setting(1, "batches whose gradients make one update", low=1)
    ema: float = setting(
        0.0, "decay of the moving average of weights used for evaluation (0: off)", low=0, high=0.99999
    )

    def check(self) -> None:
        if self.clip_norm and self.clip_value:
            raise SpecError("clip_value", "clip_norm is on too; Keras clips by one of them, set the other to 0")
        if self.weight_decay and self.name != "adamw":
            raise SpecError("weight_decay", f"is for adamw, not {self.name}")


@dataclass(frozen=True)
class ScheduleSpec(Spec):
    """How the learning rate moves."""

    name: Literal["constant", "noam", "inverse_sqrt", "cosine", "plateau"] = setting(
        "inverse_sqrt", "noam and inverse_sqrt decay with the root of the step; plateau when the score stops improving"
    )
    warmup: int = setting(1000, "steps of linear growth at the beginning", low=0)
    floor: float = setting(0.0, "least learning rate, for cosine and plateau", low=0)
    patience: int = setting(2, "for plateau: evaluations without progress before a cut", low=1)
    factor: float = setting(0.5, "for plateau: the cut", low=0.01, high=0.99)


@dataclass(frozen=True)
class DistillationSpec(Spec):
    """A larger model's probabilities of each token teach beside the labels (Hinton et al. 2015, Kim & Rush 2016)."""

    teacher: str = setting("", "run of text with the same vocabularies, whose probabilities are learned (empty: none)")
    weight: float = setting(0.5, "share of the loss that is the cross entropy with the teacher's", low=0, high=1)
    temperature: float = setting(1.0, "both sides' logits are divided by it; above 1 flatter", low=0.1)


@dataclass(frozen=True)
class PruningSpec(Spec):
    """The smallest numbers of each weight matrix become zero while the model trains (Zhu & Gupta 2017)."""

    sparsity: float = setting(0.0, "share of each weight matrix that is zero in the end (0: off)", low=0, high=0.99)
    start: int = setting(0, "updates before the first numbers go", low=0)
    steps: int = setting(1000, "updates over which the share grows", low=1)
    every: int = setting(100, "updates between one pruning and the next meanwhile", low=1)

    @property
    def end(self) -> int:
        """Updates after which nothing more is pruned."""
        return self.start + self.steps if self.sparsity else 0


@dataclass(frozen=True)
class TrainingSpec(Spec):
    """How long, how fast, what to keep."""

    steps: int = setting(10000, "updates in all", low=1)
    minutes: float = setting(0.0, "stop after so many minutes of training, evaluations included (0: no limit)", low=0)
    evaluate_every: int = setting(500, "updates between evaluations and checkpoints", low=1)
    optimizer: OptimizerSpec = group(OptimizerSpec, "optimizer")
    schedule: ScheduleSpec = group(ScheduleSpec, "learning rate schedule")
    label_smoothing: float = setting(0.1, "probability mass spread over the vocabulary", low=0, high=0.99)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = setting("float32", "Keras dtype policy")
    jit: bool = setting(False, "compile the training step with XLA")
    monitor: str = setting(
        "loss", "what selects the best checkpoint: validation loss, or a metric of generated text, such as bleu or wer"
    )
    generate_pairs: int = setting(500, "validation pairs generated for such a score (0: all)", low=0)
    patience: int = setting(0, "stop after so many evaluations without progress (0: never)", low=0)
    keep: int = setting(5, "last checkpoints kept", low=1)
    average: int = setting(
        1, "last checkpoints averaged into the final weights (1: the best checkpoint instead)", low=1
    )
    tensorboard: bool = setting(True, "write TensorBoard logs")
    distillation: DistillationSpec = group(DistillationSpec, "learning from a larger model", needs="vocabulary")
    pruning: PruningSpec = group(PruningSpec, "weights set to zero while training, for a smaller file")

    def check(self) -> None:
        if self.pruning.end > self.steps:
            raise SpecError("pruning.steps", f"pruning ends at update {self.pruning.end}, training at {self.steps}")
        if self.pruning.sparsity and self.schedule.name == "plateau":
            raise SpecError("schedule.name", "plateau takes what pruning costs at first for the end; choose another")
        if self.average > self.keep:
            raise SpecError("average", f"{self.average} checkpoints cannot be averaged when keep is {self.keep}")
