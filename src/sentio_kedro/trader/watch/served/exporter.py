"""Metrics in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sentio_kedro.config.live.alarms import PREFIX
from sentio_kedro.trader.watch.metrics import HELP, Sample, samples
from sentio_kedro.trader.watch.view import Histogram
from sentio_kedro.trader.watch.watching import Seen


class WatchCollector(Collector):
    """Computes all metrics when they are asked for."""

    def __init__(self, seen: Callable[[], Seen], now: Callable[[], float]) -> None:
        self._seen, self._now = seen, now

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, each with the label ``trader``."""
        seen = self._seen()
        trader, view = seen.around.parameters.name, seen.view
        by_name: dict[str, list[Sample]] = {}
        for sample in samples(view, self._now(), seen.around):
            by_name.setdefault(sample.name, []).append(sample)
        for name, found in by_name.items():
            yield _family(name, found, trader)
        for name, help_text, histogram in (
            ("decision_seconds", "From a bar's arrival to the decision.", view.decision_seconds),
            ("order_ack_seconds", "From sending an order to its answer.", view.ack_seconds),
        ):
            yield _histogram(name, help_text, histogram, trader)
        alarms = GaugeMetricFamily(
            f"{PREFIX}alarm", "Alarms that the watching process raises.", labels=("trader", "name")
        )
        for item in seen.firing:
            alarms.add_metric([trader, item.name], 1.0)
        yield alarms


def exposition(seen: Callable[[], Seen], now: Callable[[], float]) -> Callable[[], bytes]:
    """Return a function that renders all metrics, from a registry of its own.

    Args:
        seen: The newest look.
        now: The time, seconds since 1970.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WatchCollector(seen, now))
    return lambda: generate_latest(registry)


def _family(name: str, found: Sequence[Sample], trader: str) -> Metric:
    kind, help_text = HELP[name]
    labels = ("trader", *found[0].labels)
    make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    family = make(PREFIX + name, help_text, labels=labels)
    for sample in found:
        family.add_metric([trader, *sample.labels.values()], sample.value)
    return family


def _histogram(name: str, help_text: str, histogram: Histogram, trader: str) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, help_text, labels=("trader",))
    bounds = (*map(str, histogram.bounds), "+Inf")
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    family.add_metric([trader], buckets, histogram.total)
    return family
