"""Making and converting data."""

from __future__ import annotations

from typing import Any

import click

from tfseq2seq.cli.options import POSITIVE
from tfseq2seq.cli.runs import import_tensorflow


@click.group()
def data() -> None:
    """Make and convert data."""


@data.command("generate")
@click.argument("folder")
@click.option("--train", "train_pairs", default=30_000, show_default=True)
@click.option("--validation", default=500, show_default=True)
@click.option("--test", default=1_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def data_generate(folder: str, train_pairs: int, validation: int, test: int, seed: int) -> None:
    """Write generated pairs to FOLDER: dates, times, money and ordinals to words, in English and Chinese."""
    from tfseq2seq.data.synthetic.text_normalization import write_generated

    for path in write_generated(folder, train_pairs, validation, test, seed).values():
        click.echo(path)


@data.command("records")
@click.option("--source", required=True, type=click.Path(), help="File of source lines.")
@click.option("--target", required=True, type=click.Path(), help="File of target lines.")
@click.argument("output")
def data_records(source: str, target: str, output: str) -> None:
    """Write pairs of lines to the TFRecord file OUTPUT."""
    import_tensorflow()
    from tfseq2seq.data.corpora import corpus_pairs, write_records
    from tfseq2seq.spec import CorpusSpec

    pairs, _ = corpus_pairs(CorpusSpec(source=source, target=target), "records")
    count = write_records(((one["source"], one["target"]) for one in pairs.as_numpy_iterator()), output)
    click.echo(f"{output}: {count} pairs")


@data.command("morse")
@click.argument("folder")
@click.option("--train", "train_count", default=4_000, show_default=True)
@click.option("--validation", default=200, show_default=True)
@click.option("--test", default=500, show_default=True)
@click.option("--seed", default=1, show_default=True)
def data_morse(folder: str, train_count: int, validation: int, test: int, seed: int) -> None:
    """Write generated Morse code to FOLDER: recordings of varying speed, pitch and noise, and a manifest of them."""
    from tfseq2seq.data.synthetic.morse import write_morse

    for path in write_morse(folder, train_count, validation, test, seed).values():
        click.echo(path)


@data.command("join")
@click.argument("manifest")
@click.argument("folder")
@click.option("--split", default="", help="Rows of a TSV manifest whose column split says so.")
@click.option("--name", help="Split of the recordings written, and their first name.  [default: that of --split]")
@click.option("--count", type=POSITIVE, default=1000, show_default=True, help="Recordings to write.")
@click.option("--least", type=POSITIVE, default=3, show_default=True, help="Fewest utterances in one.")
@click.option("--most", type=POSITIVE, default=7, show_default=True, help="Most utterances in one.")
@click.option(
    "--pause", type=(float, float), default=(0.05, 0.4), show_default=True, help="Shortest and longest, in s."
)
@click.option("--rate", default=16_000, show_default=True, help="Samples a second to write.")
@click.option("--seed", default=1, show_default=True)
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
    """Join utterances of MANIFEST, of one speaker each time, into longer recordings in FOLDER, with a manifest."""
    from tfseq2seq.data.manifests import read_manifest

    utterances = read_manifest(manifest, split)
    import_tensorflow()
    from tfseq2seq.data.synthetic.joined import write_joined

    sizes: dict[str, Any] = {"least": least, "most": most, "pause": pause, "rate": rate, "seed": seed}
    click.echo(write_joined(utterances, folder, name or split or "joined", count, **sizes))


@data.command("shard")
@click.argument("manifest")
@click.argument("folder")
@click.option("--split", default="", help="Rows of a TSV manifest whose column split says so.")
@click.option("--rate", default=16_000, show_default=True, help="Samples a second to write: source.sample_rate.")
@click.option("--shard-seconds", default=600.0, show_default=True, help="Seconds of audio in each file.")
def data_shard(manifest: str, folder: str, split: str, rate: int, shard_seconds: float) -> None:
    """Write the recordings and texts of MANIFEST to TFRecord files in FOLDER, for data.train.records."""
    from tfseq2seq.data.manifests import read_manifest

    utterances = read_manifest(manifest, split)
    import_tensorflow()
    from tfseq2seq.data.shards import write_shards

    write_shards(utterances, folder, rate, shard_seconds, log=lambda line: click.echo(line, err=True))
