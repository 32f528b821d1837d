"""Commands that check recipes and train models."""

from __future__ import annotations

from pathlib import Path

import click

from tfseq2seq.cli.exit import Failed, Stopped
from tfseq2seq.cli.options import POSITIVE, run_option, settings_option
from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError


@click.command()
@click.argument("recipe")
@click.option("--run", "folder", required=True, help="Folder for the run: checkpoints, vocabularies, metrics.")
@settings_option("Change a key of the recipe, for example training.steps=500. Repeat the option for more keys.")
@click.option("--resume", is_flag=True, help="Continue the run in this folder from its last state.")
@click.option(
    "--until",
    type=POSITIVE,
    help="Stop at the first evaluation at or after this training step. The learning rate schedule is that of all "
    "steps, and --resume continues.",
)
def train(recipe: str, folder: str, overrides: tuple[str, ...], resume: bool, until: int | None) -> None:
    """Train the model that the YAML or JSON file RECIPE describes.

    Ctrl-C and SIGTERM end the training after its current step, and save its state for --resume. SIGUSR1 saves the
    state, and the training goes on. The exit code is 1 if the loss is not finite.
    """
    from tfseq2seq.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    if resume and until:
        from tfseq2seq.evaluation.run_summaries import summarize

        if (step := summarize(folder).step) >= until:
            raise UserError(f"--until: must be above {step}, the training step that the run has reached, got {until}")
    import_tensorflow()
    from tfseq2seq.training.failures import Diverged
    from tfseq2seq.training.fit import train as train_recipe
    from tfseq2seq.training.signals import Interrupted

    try:
        train_recipe(loaded, folder, resume, log=lambda text: click.echo(text, err=True), until=until or 0)
    except Interrupted as interrupted:
        raise Stopped(str(interrupted), interrupted.code) from None
    except Diverged as error:
        raise Failed(str(error)) from None
    except KeyboardInterrupt:
        begun = Path(folder, "recipe.yaml").exists()
        raise Stopped("stopped" + ("; --resume continues from the last checkpoint" if begun else "")) from None


@click.command()
@run_option
@click.option("--last", type=POSITIVE, default=5, show_default=True, help="Number of checkpoints to average.")
@click.option(
    "--best", type=POSITIVE, help="Number of checkpoints with the best scores to average, instead of the last ones."
)
@click.option("--output", help="Weights file to write.  [default: the final weights of the run]")
def average(folder: str, last: int, best: int | None, output: str | None) -> None:
    """Average the weights of the last or of the best checkpoints of a run."""
    import_tensorflow()
    from tfseq2seq.run import Run, save_weights
    from tfseq2seq.training.fit import averaged_steps, set_average

    run = Run.open(folder)
    if run.adapts:
        raise UserError(f"average: needs a run with weights of its own, got adapters in {folder}; merge it first")
    path = Path(output) if output else run.final_file
    if not path.name.endswith(".weights.h5"):
        raise UserError(f"--output: must end in .weights.h5, got {path}")
    option, count, of, noun = ("--best", best, "best", "best ") if best else ("--last", last, "latest", "")
    steps = averaged_steps(run.progress(), count, of)
    if len(steps) < count:
        raise UserError(
            f"{option}: must be at most {len(steps)}, the number of {noun}checkpoints in {folder}, got {count}"
        )
    model = run.build_model()
    set_average(model, run, steps)
    save_weights(model, path)
    click.echo(f"{path}: mean of steps {', '.join(map(str, steps))}")


@click.command()
@click.argument("run")
@click.argument("output")
def merge(run: str, output: str) -> None:
    """Write the run RUN, which has adapters, to the folder OUTPUT as a run with weights of its own.

    OUTPUT needs no other run, and answers as RUN does.
    """
    import_tensorflow()
    from tfseq2seq.run import Run, merge_run

    merged = merge_run(Run.open(run), output)
    click.echo(f"{output}: {merged.final_file.stat().st_size / 1e6:.2f} MB of weights, with the adapters of {run}")


@click.command()
@click.argument("path", required=False)
@click.option("--preset", metavar="NAME", help="Print the preset with this name, a recipe to start from.")
@click.option(
    "--for",
    "corpus",
    nargs=2,
    metavar="SOURCE TARGET",
    help="Print a recipe that suits these two files of lines, with the reasons as comments.",
)
@click.option("--schema", "as_schema", is_flag=True, help="Print each key of a recipe with its type, default and help.")
@settings_option("Change a key of the recipe, for example training.steps=500. Repeat the option for more keys.")
def recipe(
    path: str | None,
    preset: str | None,
    corpus: tuple[str, str] | None,
    as_schema: bool,
    overrides: tuple[str, ...],
) -> None:
    """Check the recipe in the file PATH, and print all its keys. Or print a preset, a recipe for your corpus, or the
    keys of all recipes."""
    from tfseq2seq.evaluation.metrics import check_monitor
    from tfseq2seq.presets import PRESETS
    from tfseq2seq.presets import preset as named
    from tfseq2seq.recipe import apply_overrides, dump_recipe, from_dict, load_recipe, schema, to_dict
    from tfseq2seq.spec import Recipe

    if as_schema:
        rows = list(schema())
        widths = [max(len(row[column]) for row in rows) for column in (0, 1, 2)]
        for key, kind, default, help_text in rows:
            click.echo(f"{key:{widths[0]}}  {kind:{widths[1]}}  {default:{widths[2]}}  {help_text}")
    elif corpus:
        from tfseq2seq.data.proposal import propose_recipe

        proposed, reasons = propose_recipe(*corpus, name="my")
        values = apply_overrides(to_dict(proposed), overrides)
        comments = "".join(f"# {reason}\n" for reason in reasons)
        click.echo(comments + dump_recipe(from_dict(Recipe, values), everything=False), nl=False)
    elif preset:
        changed = from_dict(Recipe, apply_overrides(to_dict(named(preset)), overrides))
        check_monitor(changed.training.monitor)
        click.echo(f"# {PRESETS[preset].__doc__}\n{dump_recipe(changed)}", nl=False)
    elif path:
        loaded = load_recipe(path, overrides)
        check_monitor(loaded.training.monitor)
        click.echo(dump_recipe(loaded), nl=False)
    else:
        raise UserError(
            f"recipe: needs a file, --schema, --for with two files, or --preset with one of {', '.join(PRESETS)}"
        )
