"""The command that finds good settings by trials."""

from __future__ import annotations

import signal
from typing import Any

import click

from tfseq2seq.cli.exit import Stopped
from tfseq2seq.cli.options import POSITIVE, seed_option, settings_option


@click.command("sweep")
@click.argument("recipe")
@click.option(
    "--space",
    required=True,
    type=click.Path(),
    help="YAML file of the settings to vary: a list of values, or a range such as {low: 1e-4, high: 1e-2, log: true}, "
    "for each key.",
)
@click.option("--trials", required=True, type=POSITIVE, help="Number of trials in all.")
@click.option("--run", "folder", required=True, type=click.Path(), help="Folder of the sweep, with a run per trial.")
@click.option(
    "--workers",
    type=POSITIVE,
    default=1,
    show_default=True,
    help="Number of trials that train at the same time. They share the processors and the memory of this machine.",
)
@click.option(
    "--reduction",
    type=POSITIVE,
    default=3,
    show_default=True,
    help="Of so many trials, one goes on after 1/9 and after 1/3 of its steps (for 3; successive halving). 1: train "
    "every trial to its end.",
)
@settings_option("Change a key of the recipe, for example training.steps=500. Repeat the option for more keys.")
@seed_option
def run_sweep(
    recipe: str,
    space: str,
    trials: int,
    folder: str,
    workers: int,
    reduction: int,
    overrides: tuple[str, ...],
    seed: int,
) -> None:
    """Train RECIPE with other settings in several trials, and write the best recipe to best.yaml.

    The space file has the settings to vary. Optuna chooses their values by the scores of earlier trials. Each trial is
    an ordinary run in the folder of --run. Poor trials are stopped early. If the sweep is stopped, the same command
    continues it, and a larger --trials adds trials. The result is the same with and without a stop.
    """
    from tfseq2seq.evaluation.metrics import check_monitor
    from tfseq2seq.recipe import dump_recipe, load_recipe
    from tfseq2seq.training.sweep import Sweep, SweepSettings
    from tfseq2seq.training.sweep_space import load_space

    loaded = load_recipe(recipe, overrides)
    check_monitor(loaded.training.monitor)
    settings = SweepSettings(workers, reduction, seed)
    sweep = Sweep(folder, loaded, load_space(space, loaded), settings, lambda line: click.echo(line, err=True))
    # The processes of the trials are ended too if a scheduler ends the sweep.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        best = sweep.run(trials)
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command continues the sweep") from None
    finally:
        signal.signal(signal.SIGTERM, before)
    click.echo(dump_recipe(best, everything=False), nl=False)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
