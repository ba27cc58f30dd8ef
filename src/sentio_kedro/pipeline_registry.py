"""The pipelines of the project, by the names that ``kedro run --pipeline`` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import cast

from kedro.pipeline import Pipeline, pipeline

from sentio_kedro.manifests import STAGES


class LazyPipelines(Mapping[str, Pipeline]):
    """Pipelines by name, each made when it is first asked for: a run imports nothing of the others."""

    def __init__(self, makers: Mapping[str, Callable[[], Pipeline]]) -> None:
        """Name the pipelines.

        Args:
            makers: Function that makes each pipeline.
        """
        self._makers = makers
        self._made: dict[str, Pipeline] = {}

    def __getitem__(self, name: str) -> Pipeline:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def register_pipelines() -> Mapping[str, Pipeline]:
    """Return every pipeline in a namespace of its name; ``__default__`` is all stages in order.

    kedro-viz folds a namespace into one box. Datasets and parameters keep the names of the catalog, but for those of
    ``external_test``.
    """
    own = ("preflight", "download", *STAGES, "signals", "lockbox", "comparison", "promotion", "live")
    makers: dict[str, Callable[[], Pipeline]] = {
        **{name: partial(create, name) for name in own},
        "final": final_signals,
        "search": prepared_search,
        "rollback": partial(create, "promotion", "create_rollback"),
    }
    makers = {name: partial(in_namespace, name, maker) for name, maker in makers.items()}
    makers["external_test"] = reported_external_test
    pipelines = LazyPipelines(makers)
    makers["__default__"] = lambda: sum((pipelines[name] for name in STAGES), Pipeline([]))
    return pipelines


def create(package: str, function: str = "create_pipeline") -> Pipeline:
    """Import a package of ``sentio_kedro.pipelines`` and return the pipeline that its ``function`` makes."""
    return cast("Pipeline", getattr(import_module(f"sentio_kedro.pipelines.{package}"), function)())


def in_namespace(name: str, maker: Callable[[], Pipeline]) -> Pipeline:
    """Return what ``maker`` makes, its nodes named ``name.node``."""
    return pipeline(maker(), namespace=name, prefix_datasets_with_namespace=False)


def final_signals() -> Pipeline:
    """Return the fit on all bars, and the signals of its agents."""
    decide = create("signals")
    return create("forecasting", "create_final") + pipeline(
        decide, inputs={"agents": "final_agents"}, outputs={"signals": "final_signals"}
    )


def prepared_search() -> Pipeline:
    """Return the search behind its own copy of the node that prepares the training sets."""
    prepare = create("training").only_nodes("prepare_training_sets")
    return pipeline(prepare, outputs={"training_sets": "search_training_sets"}) + create("search")


def reported_external_test() -> Pipeline:
    """Return the test of an external agent and copies of the nodes that report it, under the names ``external_test.*``.

    Its datasets have names of their own, so that nothing of this project's backtest is replaced.
    """
    report = create("reporting").only_nodes("export_returns", "record_trial", "measure", "draw", "write_report")
    whole = create("external_test") + create("cross_validation").only_nodes("draw_folds") + report
    return pipeline(
        whole,
        namespace="external_test",
        inputs={name for name in whole.inputs() if not name.startswith("params:") and name != "parameters"},
        parameters={name for name in whole.inputs() if name.startswith("params:")},
    )
