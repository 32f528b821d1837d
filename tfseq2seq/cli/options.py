"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

COUNT = click.IntRange(min=0)
POSITIVE = click.IntRange(min=1)
ABOVE_ZERO = click.FloatRange(min=0, min_open=True)

run_option = click.option("--run", "folder", required=True, help="Folder of the run.")
weights_option = click.option("--weights", help="Weights file to use instead of the run's finished ones.")
split_option = click.option("--split", default="", help="Of speech: rows of the manifest whose column split says so.")


def workers_option(help: str = "Batches at a time; 0: one per core, at most 8.") -> Decorator:
    return click.option("--workers", type=COUNT, default=0, show_default=True, help=help)


def settings_option(help: str) -> Decorator:
    return click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=help)


def run_options(required: bool = True) -> Decorator:
    """--run (several for an ensemble), --weights and --set of the commands that use a trained model."""
    options: list[Decorator] = [
        click.option(
            "--run", "runs", multiple=True, required=required, help="Folder of a run; several make an ensemble."
        ),
        weights_option,
        settings_option("Change search.*, as search.beam=8."),
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
