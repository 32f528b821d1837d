"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

POSITIVE = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0, min_open=True)

workers_option = click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Batches at a time; 0: one per core, at most 8.",
)


def settings_option(help: str) -> Decorator:
    return click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=help)


def run_options(required: bool = True) -> Decorator:
    """--run (several for an ensemble), --weights and --set of the commands that use a trained model."""
    options: list[Decorator] = [
        click.option(
            "--run", "runs", multiple=True, required=required, help="Folder of a run; several make an ensemble."
        ),
        click.option("--weights", help="Weights file to use instead of the run's finished ones."),
        settings_option("Change search.*, as search.beam=8."),
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
