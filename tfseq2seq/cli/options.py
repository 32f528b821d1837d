"""Options that several commands have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.core import ParameterSource

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.score_normalization import NORMALIZATIONS

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

COUNT = click.IntRange(min=0)
POSITIVE = click.IntRange(min=1)


class FiniteRange(click.FloatRange):
    """A number in a range, but not nan, which no range excludes, and not infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Shard(click.ParamType):
    """One of several parts, as I/N with 1 <= I <= N. The value is (I, N)."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(value))
        index, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= of:
            self.fail(f"{value!r} must be I/N, the I-th of N parts, with I from 1 to N; for example 1/4.", param, ctx)
        return index, of


FINITE = FiniteRange()
FROM_ZERO = FiniteRange(min=0)
ABOVE_ZERO = FiniteRange(min=0, min_open=True)

run_option = click.option("--run", "folder", required=True, help="Folder of the run.")
weights_option = click.option("--weights", help="Use this weights file instead of the final weights of the run.")
split_option = click.option(
    "--split", default="", help="Use only the rows of the manifest whose column split has this value."
)
dialogues_option = click.option(
    "--dialogues",
    type=click.Path(),
    help="File of dialogues, one on each line: each turn after the first is an answer to the turns before it.",
)
separator_option = click.option(
    "--separator", help="Text between several references on one line of a --reference file, for example '|'."
)
tokenize_option = click.option(
    "--tokenize", default="13a", show_default=True, help="Tokenizer of sacreBLEU, for example 13a or zh."
)
normalize_option = click.option(
    "--normalize",
    type=click.Choice(list(NORMALIZATIONS)),
    default="none",
    show_default=True,
    help="Normalize outputs and references before scoring: forms of Unicode, or basic, as in scores of Whisper: NFKC, "
    "lower case, without punctuation, symbols and text in brackets.",
)
seed_option = click.option(
    "--seed", type=COUNT, default=1, show_default=True, help="Seed of the random numbers; equal seeds give equal data."
)


def reference_option(required: bool = False) -> Decorator:
    return click.option(
        "--reference",
        "references",
        multiple=True,
        required=required,
        help="File of references, one per line. Repeat the option for several references of each output.",
    )


def workers_option(
    help: str = "Number of batches to process at the same time; 0: one per core, at most 8.",
) -> Decorator:
    return click.option("--workers", type=COUNT, default=0, show_default=True, help=help)


def settings_option(help: str) -> Decorator:
    return click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=help)


search_option = settings_option(
    "Change a setting of the search, for example search.beam=8. Repeat the option for more settings."
)


def run_options(required: bool = True) -> Decorator:
    """--run (several for an ensemble), --weights and --set of the commands that use a trained model."""
    options: list[Decorator] = [
        click.option(
            "--run",
            "runs",
            multiple=True,
            required=required,
            help="Folder of a run. Repeat the option for an ensemble of several runs.",
        ),
        weights_option,
        search_option,
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def refuse_given(names: Iterable[str], reason: str) -> None:
    """Refuses options of the current command that do not go with another one.

    Args:
        names: of the parameters of the command.
        reason: the end of the message about one.

    Raises:
        UserError: the command line has one of them.
    """
    context = click.get_current_context()
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UserError(f"{options[name]}: {reason}")
