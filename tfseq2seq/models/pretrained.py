"""Pretrained backbones of keras-hub: how they are found and loaded, and how much of them is trained.

A preset is a folder that keras-hub can read: one that it wrote (`backbone.save_to_preset`), or one of Hugging Face with
config.json and model.safetensors. Any other text is the name of a preset that keras-hub looks for in its cache or
downloads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras

from tfseq2seq.errors import UserError, first_line
from tfseq2seq.files import expanded_path
from tfseq2seq.spec import Tuning


def import_keras_hub(key: str) -> Any:
    """Returns the module keras_hub. It takes seconds to import, so only models with a pretrained part do it.

    Args:
        key: the setting that needs it, for the message.

    Raises:
        UserError: it is not installed.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise UserError(
            f"{key}: must be of another kind, as keras-hub cannot be imported ({first_line(error)}); install it with "
            "`pip install 'tfseq2seq[hub]'`"
        ) from None
    return keras_hub


def preset_folder(preset: str) -> Path | None:
    """Returns the folder that a preset is, with `~` and `$VARIABLES` replaced; None if it is the name of one.

    Raises:
        UserError: a variable is not set.
    """
    path = expanded_path(preset)
    return Path(path) if os.path.isdir(path) else None


def load_backbone(preset: str, key: str) -> Any:
    """Returns the backbone of a preset, a Keras model.

    Args:
        preset: a folder, or a name.
        key: the setting that has it, such as "model.encoder.preset", for messages.

    Raises:
        UserError: keras-hub is not installed, or there is no such preset, or it is damaged.
    """
    if not preset:
        raise UserError(f"{key}: must be a folder or the name of a preset, got ''")
    keras_hub = import_keras_hub(key)
    folder = preset_folder(preset)
    if folder is None and _is_path(preset):
        raise UserError(f"{key}: must be a folder that exists or the name of a preset, got {preset!r}")
    try:
        return keras_hub.models.Backbone.from_preset(str(folder or preset))
    except ImportError as error:
        raise UserError(
            f"{key}: {preset!r} cannot be loaded ({first_line(error)}); install what is missing with "
            "`pip install 'tfseq2seq[hub]'`"
        ) from None
    except Exception as error:  # keras-hub, its readers of files and its downloads raise many different errors
        raise UserError(f"{key}: {preset!r} cannot be loaded: {first_line(error)}") from None


def _is_path(preset: str) -> bool:
    """Whether a text that is no folder means one: names have no separator at their beginning, and a scheme before."""
    return preset.startswith((".", "~", "/", "$")) or ("/" in preset and "://" not in preset)


def set_trainable(backbone: Any, tuning: Tuning, rank: int, key: str) -> None:
    """Sets how much of a backbone is trained.

    Args:
        backbone: from `load_backbone`.
        tuning: "false" for nothing, "true" for all, and "lora" for low-rank adapters of the query and value
            projections of its attention (Hu et al. 2022) and the biases of these.
        rank: of the adapters.
        key: the setting, for messages.

    Raises:
        UserError: the backbone has no layers that can have adapters.
    """
    if tuning != "lora":
        backbone.trainable = tuning == "true"
        return
    backbone.enable_lora(rank)
    if not adapter_weights(backbone):
        raise UserError(f"{key}: must be false or true for {type(backbone).__name__}, got lora: nothing can have it")


def adapter_weights(model: keras.Model) -> list[Any]:
    """Returns the variables of low-rank adapters. Weights files do not have them: Keras adds their product to the
    matrix that they adapt."""
    return [weight for weight in model.weights if weight.path.rsplit("/", 1)[-1].startswith("lora_kernel_")]
