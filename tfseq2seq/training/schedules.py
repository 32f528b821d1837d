"""Learning rate schedules, optimizers, and the schedules of scheduled sampling and guided attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfseq2seq.spec import GuidedAttentionSpec, OptimizerSpec, ScheduledSamplingSpec, ScheduleSpec


@keras.saving.register_keras_serializable("tfseq2seq")
class InverseSqrt(keras.optimizers.schedules.LearningRateSchedule):
    """Linear growth to `peak` in `warmup` steps, then decay with the inverse square root of the step.

    With peak = factor * (width * warmup)^-0.5 it is the schedule of Vaswani et al. 2017, eq. 3 ("noam").
    """

    def __init__(self, peak: float, warmup: int):
        self.peak, self.warmup = peak, max(warmup, 1)

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32") + 1.0
        return self.peak * ops.minimum(step / self.warmup, (self.warmup / step) ** 0.5)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup": self.warmup}


@keras.saving.register_keras_serializable("tfseq2seq")
class OfUpdates(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of updates that have several batches each. Keras calls schedules with the number of batches."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, accumulate: int):
        self.schedule, self.accumulate = schedule, accumulate

    def __call__(self, step: Any) -> Any:
        return self.schedule(step // self.accumulate)

    def get_config(self) -> dict[str, Any]:
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {"schedule": schedule, "accumulate": self.accumulate}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OfUpdates:
        return cls(keras.optimizers.schedules.deserialize(config["schedule"]), config["accumulate"])


def learning_rate(rate: float, spec: ScheduleSpec, steps: int, width: int) -> Any:
    """Returns a constant learning rate or a Keras schedule.

    Args:
        rate: the peak learning rate, or the factor for noam.
        spec: the settings of the schedule.
        steps: the total number of training steps, at which cosine ends.
        width: the width of the model, for noam.
    """
    if spec.name == "noam":
        return InverseSqrt(rate * (width * max(spec.warmup, 1)) ** -0.5, spec.warmup)
    if spec.name == "inverse_sqrt":
        return InverseSqrt(rate, spec.warmup)
    if spec.name == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            0.0 if spec.warmup else rate,
            max(steps - spec.warmup, 1),
            alpha=spec.floor / rate if rate else 0.0,
            warmup_target=rate if spec.warmup else None,
            warmup_steps=spec.warmup,
        )
    return rate


def build_optimizer(spec: OptimizerSpec, rate: Any) -> keras.optimizers.Optimizer:
    """Returns the Keras optimizer of a spec, with the given learning rate or schedule.

    With `accumulate` an update has several batches. Schedules and the moving average of the weights count updates.
    """
    if spec.accumulate > 1 and isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = OfUpdates(rate, spec.accumulate)
    optimizer = _keras_optimizer(spec, rate)
    if spec.accumulate > 1 and spec.ema:
        # Keras would move the average at each batch, also where the weights did not change.
        move = optimizer._update_model_variables_moving_average

        def move_after_update(variables: Any) -> None:
            is_update = ops.equal((optimizer._iterations + 1) % spec.accumulate, 0)
            ops.cond(is_update, lambda: move(variables), lambda: None)

        optimizer._update_model_variables_moving_average = move_after_update
    return optimizer


def scale_learning_rates(optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> None:
    """Lets variables with an attribute `learning_rate_scale` have that multiple of the learning rate.

    Keras has one learning rate for all variables. Scaled gradients would not do, as Adam divides by their size.

    Args:
        optimizer: built with these variables; the optimizer of a compiled model, with its loss scale if it has one.
        variables: the trainable variables of the model.
    """
    # A loss scale (mixed_float16) has the optimizer inside of it update the variables.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    scales = [getattr(variable, "learning_rate_scale", 1.0) for variable in variables]
    if set(scales) <= {1.0}:
        return
    update_step = optimizer.update_step

    def scaled(gradient: Any, variable: Any, learning_rate: Any) -> Any:
        scale = scales[optimizer._get_variable_index(variable)]
        return update_step(gradient, variable, learning_rate * ops.cast(scale, learning_rate.dtype))

    optimizer.update_step = scaled


def _keras_optimizer(spec: OptimizerSpec, rate: Any) -> keras.optimizers.Optimizer:
    shared = {
        "learning_rate": rate,
        "global_clipnorm": spec.clip_norm or None,
        "clipvalue": spec.clip_value or None,
        "use_ema": bool(spec.ema),
        "ema_momentum": spec.ema or 0.99,
        "gradient_accumulation_steps": spec.accumulate if spec.accumulate > 1 else None,
    }
    adam = {"beta_1": spec.beta_1, "beta_2": spec.beta_2, "epsilon": spec.epsilon}
    if spec.name == "adam":
        return keras.optimizers.Adam(**adam, **shared)
    if spec.name == "adamw":
        optimizer = keras.optimizers.AdamW(weight_decay=spec.weight_decay, **adam, **shared)
        # Weight decay is for matrices only, and not for biases and the scales of layer normalization.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    if spec.name == "sgd":
        return keras.optimizers.SGD(momentum=spec.momentum, **shared)
    return keras.optimizers.RMSprop(momentum=spec.momentum, epsilon=spec.epsilon, **shared)


def guidance_share(spec: GuidedAttentionSpec, step: int) -> float:
    """Returns the remaining share of the guided attention loss at a step: from 1 to 0, or always 1 without fading."""
    return max(1.0 - step / spec.steps, 0.0) if spec.steps else 1.0


def sampling_share(spec: ScheduledSamplingSpec, step: int) -> float:
    """Returns the share of predicted inputs at a step, from 0 to `spec.share` (Bengio et al. 2015, section 2.4)."""
    done = min(max((step - spec.start) / spec.steps, 0.0), 1.0)
    if spec.schedule == "constant":
        return spec.share * (step >= spec.start)
    if spec.schedule == "linear":
        return spec.share * done
    if spec.schedule == "exponential":
        # 1 - k^i, with k so that it is 0.99 at the end. The division scales this to 1.
        return spec.share * (1.0 - 0.01**done) / 0.99
    if spec.schedule == "inverse_sigmoid":
        # A sigmoid with its center at half of the steps, scaled to go from 0 to 1.
        rise = [1.0 / (1.0 + 2.718281828 ** (-12.0 * (x - 0.5))) for x in (0.0, done, 1.0)]
        return spec.share * (rise[1] - rise[0]) / (rise[2] - rise[0])
    return 0.0
