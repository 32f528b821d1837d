"""The space of a sweep: which settings of a recipe the trials vary, and the values that each can have.

A space file maps keys of a recipe to values:

    training.optimizer.learning_rate: {low: 1e-4, high: 1e-2, log: true}
    model.width: {low: 64, high: 256, step: 64}
    model.encoder.layers: [2, 4]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.recipe import apply_overrides, from_dict, read_values, to_dict
from tfseq2seq.spec import Recipe
from tfseq2seq.state_files import is_number

# Settings that must be the same in all trials, so that their scores can be compared at the same steps.
_FIXED = ("training.steps", "training.evaluate_every", "training.minutes", "training.monitor", "data.holdout")
_FIXED_GROUPS = ("data.validation.",)
# With these, the target has other tokens, and a loss per token means something else.
_TOKENS = ("target.", "share_vocabulary")
_SCIENTIFIC = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
_RANGE = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Choices:
    """One of some values."""

    values: tuple[Any, ...]

    @property
    def examples(self) -> Sequence[Any]:
        return self.values


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`; a whole number if these are whole.

    Attributes:
        log: whether each factor is as likely as another, instead of each difference.
        step: the distance of values; None for any value.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def examples(self) -> Sequence[Any]:
        return self.low, self.high


Space = Mapping[str, Choices | Range]


def load_space(path: str | Path, recipe: Recipe) -> Space:
    """Reads and checks a space file.

    Args:
        path: the YAML or JSON file.
        recipe: the recipe that the trials vary. It must accept each value alone.

    Raises:
        UserError: the file cannot be read, or a key or a value is not valid.
    """
    values = read_values(
        path, "no such space file; it maps keys of a recipe to values, such as `model.width: [64, 128]`"
    )
    if not isinstance(values, Mapping) or not values:
        raise UserError(f"{path}: must map keys of a recipe to values, such as `model.width: [64, 128]`")
    space: dict[str, Choices | Range] = {}
    for key, value in values.items():
        try:
            _check_key(key, recipe)
            space[key] = _parse(value)
        except UserError as error:
            raise UserError(f"{path}: {key}: {error}") from None
        for example in space[key].examples:
            try:
                recipe_of(recipe, {key: example})
            except UserError as error:
                raise UserError(f"{path}: the recipe must accept each value alone: {error}") from None
    return space


def recipe_of(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Returns a recipe with the settings of a trial.

    Raises:
        UserError: the settings do not go together.
    """
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return from_dict(Recipe, apply_overrides(to_dict(recipe), overrides))


def shown(settings: Mapping[str, Any]) -> str:
    """Returns settings as text for people: the last part of each key, with its value in four digits."""
    parts = (
        f"{key.rpartition('.')[2]} {f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in settings.items()
    )
    return ", ".join(parts)


def _check_key(key: str, recipe: Recipe) -> None:
    if key in _FIXED or key.startswith(_FIXED_GROUPS):
        raise UserError("must be the same in all trials, as their scores are compared; set it in the recipe")
    if key.startswith(_TOKENS) and recipe.training.monitor == "loss":
        raise UserError(
            "changes the tokens that the loss is a mean over; set training.monitor to a metric of text, as chrf or wer"
        )


def _parse(value: Any) -> Choices | Range:
    if isinstance(value, list):
        choices = [_number(one) for one in value]
        if not choices or any(isinstance(one, list | dict) for one in choices):
            raise UserError(f"must list plain values, such as [2, 4], got {_brief(value)}")
        if len({json.dumps(one) for one in choices}) < len(choices):
            raise UserError(f"must not list a value twice, got {_brief(value)}")
        return Choices(tuple(choices))
    if not isinstance(value, dict) or not {"low", "high"} <= set(value) <= _RANGE:
        raise UserError(
            f"must be a list of values, or a range with low and high, and with log or step, got {_brief(value)}"
        )
    low, high, log, step = (_number(value.get(name)) for name in ("low", "high", "log", "step"))
    if not all(is_number(one) for one in (low, high)) or not low < high:
        raise UserError(f"low and high must be numbers, low below high, got {_brief(value)}")
    if log not in (None, True, False):
        raise UserError(f"log must be true or false, got {_brief(log)}")
    if log and low <= 0:
        raise UserError(f"low must be above 0 with log, got {low}")
    if step is not None and (log or not is_number(step) or step <= 0):
        raise UserError(f"step must be a number above 0, and without log, got {_brief(value)}")
    found = Range(low, high, bool(log), step)
    if found.whole and step is not None and not isinstance(step, int):
        raise UserError(f"step must be a whole number, as low and high are, got {step}")
    return found


def _number(value: Any) -> Any:
    """A value, and a number where YAML 1.1 has read text, as of 1e-4."""
    return float(value) if isinstance(value, str) and _SCIENTIFIC.fullmatch(value) else value


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."
