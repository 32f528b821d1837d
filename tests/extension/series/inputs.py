"""Series for commands, and for exported models without TensorFlow."""

from series.source import read_series
from series.spec import SeriesSpec
from tfseq2seq.cli.inputs import READERS, Inputs, InputStream
from tfseq2seq.runtime.padding import padded_rows
from tfseq2seq.runtime.plain_sources import PLAIN_SOURCES, PlainSamples


class PlainSeries(PlainSamples):
    def packed(self, rows):
        return dict(zip(("series", "length"), padded_rows(rows, "float32"), strict=True))


def read(spec, request):
    labels, series = read_series(request.manifest)
    pairs = list(zip(series, labels, strict=True))
    return InputStream(pairs, lambda window: Inputs([one for one, _ in window], [label for _, label in window]))


READERS[SeriesSpec] = read
PLAIN_SOURCES[SeriesSpec] = PlainSeries
