"""Services other than TensorBoard that log a training: MLflow, and Weights & Biases, by their own Keras callbacks.

Where they log to is set as always, by their environment variables such as MLFLOW_TRACKING_URI and WANDB_MODE.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Sequence

import keras

from tfseq2seq.errors import UserError, first_line
from tfseq2seq.files import write_whole
from tfseq2seq.recipe import dump_recipe, to_dict
from tfseq2seq.run import Run

# The file in the logs of a run with the run that each logger has for it, so that a resumed training continues it.
_IDENTIFIERS = "loggers.json"


def _open_mlflow(run: Run, identifier: str | None, stack: contextlib.ExitStack) -> tuple[keras.callbacks.Callback, str]:
    import mlflow
    import mlflow.keras

    # A run that the caller has opened is the caller's to close.
    active = mlflow.active_run()
    if active is None:
        opened = mlflow.start_run(run_id=identifier) if identifier else mlflow.start_run(run_name=run.recipe.name)
        active = stack.enter_context(opened)
    mlflow.log_text(dump_recipe(run.recipe), "recipe.yaml")
    return mlflow.keras.MlflowCallback(), active.info.run_id


def _open_wandb(run: Run, identifier: str | None, stack: contextlib.ExitStack) -> tuple[keras.callbacks.Callback, str]:
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    active = wandb.run
    if active is None:
        options = {"id": identifier, "resume": "allow"} if identifier else {}
        project = os.environ.get("WANDB_PROJECT", "tfseq2seq")
        folder, config = str(run.folder / "logs"), to_dict(run.recipe)
        active = stack.enter_context(
            wandb.init(project=project, name=run.recipe.name, config=config, dir=folder, **options)
        )
    return WandbMetricsLogger(), active.id


# For each logger, a function from a run, the identifier of the logger's own run if there is one already, and what
# closes it, to a callback and that identifier.
_LOGGERS: dict[str, Callable[[Run, str | None, contextlib.ExitStack], tuple[keras.callbacks.Callback, str]]] = {
    "mlflow": _open_mlflow,
    "wandb": _open_wandb,
}


def check_loggers(names: Sequence[str]) -> None:
    """Checks that the packages of loggers are installed.

    Raises:
        UserError: one is not.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"training.loggers: {name} needs its package, which is missing; run `pip install {name}`")


def open_loggers(run: Run, stack: contextlib.ExitStack) -> list[keras.callbacks.Callback]:
    """Opens the loggers of the recipe of a run. Those of a run that is resumed go on with what they have logged.

    Args:
        run: the run.
        stack: closes the loggers.

    Returns:
        Their callbacks.

    Raises:
        UserError: a logger cannot start, for example because its server does not answer.
    """
    names = run.recipe.training.loggers
    if not names:
        return []
    path, callbacks = run.folder / "logs" / _IDENTIFIERS, []
    path.parent.mkdir(parents=True, exist_ok=True)
    identifiers: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        identifiers = dict(json.loads(path.read_bytes()))
    for name in names:
        try:
            callback, identifiers[name] = _LOGGERS[name](run, identifiers.get(name), stack)
        except Exception as error:  # each service has errors of its own, and those of its network
            raise UserError(
                f"training.loggers: {name} cannot start ({first_line(error)}); correct its settings, or remove it from "
                "the list"
            ) from error
        callbacks.append(callback)
    write_whole(path, json.dumps(identifiers).encode("utf-8"))
    return callbacks
