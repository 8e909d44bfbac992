"""What the server counts, as Prometheus reads it, under TensorFlow Serving's names where that has one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

BOUNDS = tuple(10 * 1.8**i for i in range(33))
"""Upper bounds in microseconds of TensorFlow Serving's latency buckets."""

SIZES = tuple(float(2**i) for i in range(15))
"""Upper bounds in rows of the batch size's buckets."""

TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Distribution:
    """A histogram.

    Args:
        bounds: upper bounds of its buckets.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """Counts, which cost a request two microseconds; a page is made when it is asked for.

    Args:
        name: the model's.
        failures: how many looks for versions have failed.
    """

    def __init__(self, name: str, failures: Callable[[], int] = lambda: 0) -> None:
        self.name, self.failures = name, failures
        self.requests: dict[str, int] = {}
        """By status, as TensorFlow Serving calls them."""
        self.latency: dict[tuple[str, str], Distribution] = {}
        """Microseconds by API, such as Predict, and entry point, REST or GRPC."""
        self.sizes = Distribution(SIZES)
        self.runtime = Distribution(BOUNDS)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def request(self, api: str, entry: str, status: str, seconds: float) -> None:
        """Count an answered request."""
        self.requests[status] = self.requests.get(status, 0) + 1
        kept = self.latency.get((api, entry))
        if kept is None:
            kept = self.latency[api, entry] = Distribution(BOUNDS)
        kept.add(seconds * 1e6)

    def batch(self, rows: int, seconds: float) -> None:
        """Count a call of the model."""
        self.sizes.add(rows)
        self.runtime.add(seconds * 1e6)

    def page(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for them; its own counters would put _total behind TensorFlow Serving's names."""
        model = {"model_name": self.name}
        count = Metric(":tensorflow:serving:request_count", "The total number of requests.", "counter")
        for status, number in sorted(self.requests.items()):
            count.add_sample(count.name, {**model, "status": status}, number)
        yield count
        latency = Metric(":tensorflow:serving:request_latency", "Microseconds that requests took.", "histogram")
        for (api, entry), kept in sorted(self.latency.items()):
            _samples(latency, {**model, "API": api, "entrypoint": entry}, kept)
        yield latency
        runtime = Metric(":tensorflow:serving:runtime_latency", "Microseconds that the model took.", "histogram")
        _samples(runtime, model, self.runtime)
        yield runtime
        size = Metric("rlkit:serving:batch_size", "Rows that were computed together.", "histogram")
        _samples(size, model, self.sizes)
        yield size
        failures = Metric("rlkit:serving:watch_failures", "Looks for new versions that failed.", "counter")
        failures.add_sample(failures.name, model, self.failures())
        yield failures


def _samples(metric: Metric, labels: dict[str, str], kept: Distribution) -> None:
    below = 0
    for bound, count in zip([*map(str, kept.bounds), "+Inf"], kept.counts, strict=True):
        below += count
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, below)
    metric.add_sample(f"{metric.name}_sum", labels, kept.total)
    metric.add_sample(f"{metric.name}_count", labels, below)
