"""Decoding: one class for each family of decoders. `DECODINGS` is the one place that asks which family it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfseq2seq.inference.decoding.autoregressive import AutoregressiveDecoding
from tfseq2seq.inference.decoding.base import Decoding, Endpoint, StreamSearch
from tfseq2seq.inference.decoding.ctc import CTCDecoding
from tfseq2seq.inference.decoding.transducer import TransducerDecoding
from tfseq2seq.inference.external_scorers import ExternalScorers
from tfseq2seq.search.stop_strings import StopStrings
from tfseq2seq.search.suppression import Suppression
from tfseq2seq.sources import Source
from tfseq2seq.spec import (
    AutoregressiveDecoderBase,
    CTCDecoderSpec,
    SearchSpec,
    TransducerDecoderSpec,
    lookup,
)

DECODINGS: dict[type, type[Decoding]] = {
    AutoregressiveDecoderBase: AutoregressiveDecoding,
    CTCDecoderSpec: CTCDecoding,
    TransducerDecoderSpec: TransducerDecoding,
}


def build_decoding(
    models: Sequence[Any],
    source: Source,
    search: SearchSpec,
    external: ExternalScorers,
    shortlist: Any = None,
    stops: StopStrings | None = None,
    suppression: Suppression | None = None,
    begun: int = 0,
) -> Decoding:
    """The decoding of trained models.

    Raises:
        UserError: the family cannot do what is asked for.
    """
    decoding = lookup(DECODINGS, models[0].spec.decoder)
    return decoding(models, source, search, external, shortlist, stops, suppression, begun)


__all__ = ["DECODINGS", "Decoding", "Endpoint", "StreamSearch", "build_decoding"]
