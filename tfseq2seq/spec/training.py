"""Settings of the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfseq2seq.spec.base import Spec, SpecError, group, setting
from tfseq2seq.spec.low_rank import LoraSpec


@dataclass(frozen=True)
class OptimizerSpec(Spec):
    """Settings of the Keras optimizer."""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = setting("adam", "optimizer")
    learning_rate: float = setting(
        1e-3, "peak learning rate; with schedule noam the factor of width^-0.5 (Vaswani et al. 2017)", low=0
    )
    beta_1: float = setting(0.9, "decay rate of the first moment, for adam and adamw", low=0, high=1)
    beta_2: float = setting(0.98, "decay rate of the second moment, for adam and adamw", low=0, high=1)
    epsilon: float = setting(1e-9, "constant added to the denominator, for adam, adamw and rmsprop", low=0)
    momentum: float = setting(0.0, "momentum, for sgd and rmsprop", low=0, high=1)
    weight_decay: float = setting(0.0, "decoupled weight decay, for adamw", low=0)
    clip_norm: float = setting(0.0, "maximum global norm of the gradients (0: no limit)", low=0)
    clip_value: float = setting(0.0, "maximum absolute value of each gradient entry (0: no limit)", low=0)
    accumulate: int = setting(1, "number of batches of one update; its gradient is that of the joined batch", low=1)
    ema: float = setting(
        0.0, "decay rate of the moving average of the weights, used in evaluation (0: off)", low=0, high=0.99999
    )

    def check(self) -> None:
        if self.clip_norm and self.clip_value:
            raise SpecError(
                "clip_value",
                f"must be 0 with clip_norm, as Keras clips by only one of them, got {self.clip_value}",
            )
        if self.weight_decay and self.name != "adamw":
            raise SpecError("weight_decay", f"must be 0 unless the optimizer is adamw, got {self.weight_decay}")


@dataclass(frozen=True)
class ScheduleSpec(Spec):
    """Settings of the learning rate schedule."""

    name: Literal["constant", "noam", "inverse_sqrt", "cosine", "plateau"] = setting(
        "inverse_sqrt",
        "learning rate schedule: noam and inverse_sqrt decay with the square root of the step; cosine decays to floor; "
        "plateau decays when the score stops improving",
    )
    warmup: int = setting(1000, "number of steps in which the learning rate grows linearly", low=0)
    floor: float = setting(0.0, "minimum learning rate, for cosine and plateau", low=0)
    patience: int = setting(2, "number of evaluations without improvement before a reduction, for plateau", low=1)
    factor: float = setting(0.5, "factor of each reduction, for plateau", low=0.01, high=0.99)


@dataclass(frozen=True)
class DistillationSpec(Spec):
    """Word-level distillation: the student also learns token probabilities of a teacher (Kim & Rush 2016)."""

    teacher: str = setting("", "run folder of a text model with the same vocabularies (empty: no distillation)")
    weight: float = setting(0.5, "weight of the distillation loss; the loss of the labels has the rest", low=0, high=1)
    temperature: float = setting(
        1.0, "divisor of the logits of student and teacher; values above 1 flatten the distributions", low=0.1
    )


@dataclass(frozen=True)
class PruningSpec(Spec):
    """Magnitude pruning: the smallest entries of each weight matrix become zero in training (Zhu & Gupta 2017)."""

    sparsity: float = setting(0.0, "final share of zeros in each weight matrix (0: off)", low=0, high=0.99)
    start: int = setting(0, "training step at which pruning starts", low=0)
    steps: int = setting(1000, "number of training steps in which the share of zeros grows", low=1)
    every: int = setting(100, "number of training steps from one pruning to the next", low=1)

    @property
    def end(self) -> int:
        """The training step after which no more weights are pruned. 0 without pruning."""
        return self.start + self.steps if self.sparsity else 0


@dataclass(frozen=True)
class WatchSpec(Spec):
    """What TensorBoard shows beside the scalars: attention and generated text of validation examples, and lengths."""

    share: float = setting(
        0.2,
        "largest share of the time of evaluations that writing pictures, texts and lengths for TensorBoard may take; "
        "the first evaluation writes them in any case (0: never write them)",
        low=0,
        high=1,
    )
    pictures: int = setting(
        2, "number of validation examples of which TensorBoard shows the attention", low=0, needs="attention"
    )
    texts: int = setting(
        4, "number of validation examples of which TensorBoard shows the generated text and the reference", low=0
    )


@dataclass(frozen=True)
class TrainingSpec(Spec):
    """Length, optimization and results of the training."""

    steps: int = setting(10000, "total number of training steps, each one update of the weights", low=1)
    minutes: float = setting(0.0, "maximum training time in minutes, with evaluations (0: no limit)", low=0)
    evaluate_every: int = setting(500, "number of training steps from one evaluation and checkpoint to the next", low=1)
    checkpoint_every: int = setting(
        0, "number of training steps after which the state is saved between evaluations (0: no such number)", low=0
    )
    checkpoint_minutes: float = setting(
        10.0, "number of minutes after which the state is saved between evaluations (0: no such number)", low=0
    )
    resume: Literal["never", "auto"] = setting(
        "never", "auto: the same command again continues the run in its folder, as with --resume, until it has ended"
    )
    start_from: str = setting(
        "", "folder of a run with the same model, whose weights and vocabularies a new training begins with"
    )
    freeze: tuple[str, ...] = setting(
        (),
        "weights that the training leaves as they are: patterns of their paths, as of file names, for example "
        "[encoder/*]",
    )
    lora: LoraSpec = group(LoraSpec, "low-rank adapters, which are trained instead of the weights of start_from")
    optimizer: OptimizerSpec = group(OptimizerSpec, "optimizer")
    schedule: ScheduleSpec = group(ScheduleSpec, "learning rate schedule")
    label_smoothing: float = setting(
        0.1, "probability mass of each label that is spread over the vocabulary", low=0, high=0.99
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = setting("float32", "Keras dtype policy")
    rematerialize: bool = setting(
        False,
        "compute the activations of blocks again in the backward pass, which needs less memory and more time",
        needs="blocks",
    )
    steps_per_execution: int = setting(
        1,
        "number of training steps that run in one call of Keras; measure whether it is faster for your model. Signals "
        "and the loss are looked at after each call",
        low=1,
    )
    jit: bool = setting(False, "compile the training step with XLA")
    strategy: Literal["one", "mirrored", "workers"] = setting(
        "one",
        "distribution: one device, all devices of this machine, or several processes as TF_CONFIG describes them",
        refused={
            "parameter_server": "Keras 3 does not support it (keras-team/keras#18624)",
            "dtensor": "Keras 3 does not support it on TensorFlow (keras-team/keras#18624)",
        },
    )
    devices: int = setting(
        0, "number of devices for mirrored: GPUs, or logical CPU devices where there is no GPU (0: all GPUs)", low=0
    )
    cluster: Literal["auto", "tf_config", "slurm", "kubernetes"] = setting(
        "auto", "what describes the workers; auto is the variable TF_CONFIG, or Slurm if it is not set"
    )
    communication: Literal["auto", "ring", "nccl"] = setting("auto", "collective operations between workers")
    monitor: str = setting(
        "loss", "score that selects the best checkpoint: loss, or a metric of generated text such as bleu or wer"
    )
    generate_pairs: int = setting(
        500, "number of validation pairs to generate text for, if monitor is not loss (0: all)", low=0
    )
    patience: int = setting(
        0, "number of evaluations without improvement after which training stops (0: no limit)", low=0
    )
    loss_limit: float = setting(
        1e5,
        "largest training loss, as a mean since the last evaluation; above it, training stops (0: no limit). A loss "
        "that is not finite always stops it",
        low=0,
    )
    keep: int = setting(5, "number of latest checkpoints to keep", low=1)
    keep_best: int = setting(1, "number of checkpoints with the best scores to keep", low=1)
    average: int = setting(
        1, "number of checkpoints to average into the final weights (1: use the best checkpoint)", low=1
    )
    average_of: Literal["latest", "best"] = setting(
        "latest", "checkpoints to average: the latest ones, or those with the best scores"
    )
    tensorboard: bool = setting(True, "write TensorBoard logs")
    watch: WatchSpec = group(WatchSpec, "pictures, texts and lengths in TensorBoard")
    loggers: tuple[Literal["mlflow", "wandb"], ...] = setting(
        (), "other services that log the values of each evaluation; their packages must be installed"
    )
    profile: tuple[int, ...] = setting(
        (),
        "first and last training step whose times the TensorFlow profiler writes to the logs, for example [100, 110] "
        "(empty: none)",
        low=1,
    )
    distillation: DistillationSpec = group(DistillationSpec, "distillation from a larger model", needs="vocabulary")
    pruning: PruningSpec = group(PruningSpec, "pruning of weights in training, for smaller files")

    def check(self) -> None:
        if self.pruning.end > self.steps:
            raise SpecError(
                "pruning.steps",
                f"must let pruning end by training step {self.steps}, the last one, got an end at {self.pruning.end}",
            )
        if self.pruning.sparsity and self.freeze:
            raise SpecError("freeze", f"must be empty with pruning, which changes all weights, got {list(self.freeze)}")
        if self.pruning.sparsity and self.schedule.name == "plateau":
            raise SpecError(
                "schedule.name",
                "must not be plateau with pruning, as pruning makes the score worse at first, got plateau",
            )
        if self.devices and self.strategy != "mirrored":
            raise SpecError("devices", f"must be 0 unless strategy is mirrored, got {self.devices}")
        for name in ("cluster", "communication"):
            if getattr(self, name) != "auto" and self.strategy != "workers":
                raise SpecError(name, f"must be auto unless strategy is workers, got {getattr(self, name)}")
        self._check_executions()
        self._check_adapters()
        name, most = ("keep", self.keep) if self.average_of == "latest" else ("keep_best", self.keep_best)
        if self.average > most:
            raise SpecError("average", f"must be at most {name} ({most}), got {self.average}")
        if not self.tensorboard and self.watch != WatchSpec():
            raise SpecError("watch", "must have its defaults unless training.tensorboard is true, as nothing is shown")
        if len(set(self.loggers)) < len(self.loggers):
            raise SpecError("loggers", f"must not have a logger twice, got {', '.join(self.loggers)}")
        if self.profile and not (len(self.profile) == 2 and self.profile[0] <= self.profile[1] <= self.steps):
            raise SpecError(
                "profile",
                f"must be two training steps [first, last], the last at most {self.steps} (training.steps), got "
                f"{list(self.profile)}",
            )

    def _check_adapters(self) -> None:
        """Raises `SpecError` if something else of the training does not go together with adapters."""
        rank = self.lora.rank
        if not rank:
            return
        if not self.start_from:
            raise SpecError("lora.rank", f"must be 0 without training.start_from, whose weights it adapts, got {rank}")
        if self.freeze:
            raise SpecError("freeze", f"must be empty with lora, which trains adapters alone, got {list(self.freeze)}")
        if self.pruning.sparsity:
            raise SpecError(
                "pruning.sparsity", f"must be 0 with lora, which changes no weight, got {self.pruning.sparsity}"
            )
        if self.average > 1:
            raise SpecError(
                "average", f"must be 1 with lora, as no mean of adapters is that of their products, got {self.average}"
            )

    def _check_executions(self) -> None:
        """Raises `SpecError` if something must happen between the training steps of one call."""
        together = self.steps_per_execution
        for name in ("steps", "evaluate_every", "checkpoint_every"):
            if getattr(self, name) % together:
                raise SpecError("steps_per_execution", f"must divide {name} ({getattr(self, name)}), got {together}")
        if together > 1 and self.pruning.sparsity:
            raise SpecError(
                "steps_per_execution", f"must be 1 with pruning, which comes between training steps, got {together}"
            )
