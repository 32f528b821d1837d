"""The metrics of /metrics, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts and times of prediction requests, in a separate registry.

    Args:
        waiting: returns the number of requests that wait for a worker.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, waiting: Callable[[], int]):
        self._registry = CollectorRegistry()
        prefix = "tfseq2seq_serving_"
        labels = ["model", "signature"]
        self._requests = Counter(
            f"{prefix}requests", "Prediction requests answered.", [*labels, "code"], registry=self._registry
        )
        self._seconds = Histogram(
            f"{prefix}request_seconds",
            "Seconds from the arrival of a request to its response.",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._rows = Histogram(
            f"{prefix}batch_rows", "Rows in a call of a model.", buckets=_ROWS, registry=self._registry
        )
        self._warnings = Counter(
            f"{prefix}warnings", "Rows answered with a warning of the model.", labels, registry=self._registry
        )
        depth = Gauge(f"{prefix}queue_depth", "Requests that wait for a worker.", registry=self._registry)
        depth.set_function(waiting)

    def answered(self, model: str, signature: str, code: int, seconds: float) -> None:
        """Counts a request.

        Args:
            model: the name of the model, "" for an unknown name. Clients could otherwise create any number of labels.
            signature: the name of the signature, "" for an unknown name.
            code: the HTTP status.
            seconds: the time from the arrival of the request to its response.
        """
        self._requests.labels(model, signature, str(code)).inc()
        self._seconds.labels(model, signature).observe(seconds)

    def warned(self, model: str, signature: str, rows: int) -> None:
        """Counts the rows of a response that have a warning of the model, such as an output that may be cut off."""
        self._warnings.labels(model, signature).inc(rows)

    def called(self, rows: int) -> None:
        """Counts a call of a model with a batch of `rows` rows."""
        self._rows.observe(rows)

    def text(self) -> bytes:
        return generate_latest(self._registry)
