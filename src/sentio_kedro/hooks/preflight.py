"""Check settings before anything is read, and all else that can be known before a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines, settings
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline
from pydantic import TypeAdapter

from sentio_kedro.config import IngestionParameters
from sentio_kedro.durations import BAR_NAMES
from sentio_kedro.hooks.manifests import registered_stages
from sentio_kedro.hooks.options import BAR_WRITERS, STORE_READERS
from sentio_kedro.hooks.run_context import BARS_HASH, universe_table
from sentio_kedro.market.ingestion.bars import bars_hash
from sentio_kedro.market.ingestion.own_columns import feed_columns
from sentio_kedro.preflight.check import check
from sentio_kedro.preflight.settings import global_problems, nearest, own_names, referred_globals, section_problems

LEDGERS = ("trials", "earlier_openings", "lockbox_openings@read", "earlier_promotions", "promotions@read")
"""Datasets of records that no manifest vouches for, since every environment adds some."""


class Preflight:
    """Refuses, before any work, settings that cannot work: nothing is written and no run is opened before it."""

    def __init__(self) -> None:
        self._bar_minutes: float | None = None

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse unknown or impossible settings before the catalog is built.

        Raises:
            ValueError: With all problems.
        """
        loader = context.config_loader
        problems = environment_refused(loader)
        if not problems:
            problems = names_refused(loader, Path(context.project_path))
            problems += section_problems(loader["parameters"], sections_of_pipelines)
        if problems:
            raise ValueError("\n".join(problems))
        self._bar_minutes = loader["globals"].get("bar_minutes")

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse what the bars, the files, the device, the memory or the disk do not allow.

        The hash of the bars becomes a dataset of the run, so that other hooks need not load them again.

        Raises:
            ValueError: With all problems.
            DatasetError: If a line of a ledger is no record.
        """
        _require_records(pipeline, catalog)
        chosen = {node.name for node in pipeline.nodes}
        stages = registered_stages(pipeline)
        running = {stage for stage, names in stages.items() if names & chosen} - {*STORE_READERS, *BAR_WRITERS}
        if not running:
            return
        loaded: dict[str, Any] = {}

        def load(name: str) -> Any:
            if name == "bar_minutes":
                return self._bar_minutes
            try:
                if name == "universe":
                    loaded[name] = universe_table(catalog)
                else:
                    dataset = catalog[name]
                    loaded[name] = dataset.load() if name == "bars" or dataset.exists() else None
            except DatasetError as error:
                raise DatasetError(f"{name}: {error}") from error  # as the catalog does
            return loaded[name]

        sections = catalog["parameters"].load()
        check(sections, load, running)
        if "bars" in loaded:
            ingestion = TypeAdapter(IngestionParameters).validate_python(sections["ingestion"])
            digest = bars_hash(loaded["bars"], feed_columns(ingestion), loaded["universe"])
            catalog[BARS_HASH] = MemoryDataset(digest)


def _require_records(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Read every line of the ledgers that nodes will read."""
    read = {name for node in pipeline.nodes for name in node.inputs}
    for name in LEDGERS:
        if name in read and name in catalog:
            ledger = catalog[name].load()
            if name == "trials":
                ledger.records()


def sections_of_pipelines() -> set[str]:
    """Return the sections of parameters that some registered pipeline reads."""
    read = {name for pipeline in pipelines.values() for name in pipeline.inputs() if name.startswith("params:")}
    return {name.removeprefix("params:").partition(".")[0] for name in read}


def environment_refused(loader: AbstractConfigLoader) -> list[str]:
    """Refuse an environment without a folder."""
    source = Path(loader.conf_source)
    if loader.env is None or not source.is_dir() or (source / loader.env).is_dir():
        return []
    known = [folder.name for folder in source.iterdir() if folder.is_dir()]
    return [f"`{loader.env}` is no environment, a folder of `{source.name}`{nearest(loader.env, known)}"]


def names_refused(loader: AbstractConfigLoader, project: Path) -> list[str]:
    """List the faults of ``globals.yml`` as the catalog would read it; of an archive, those of values alone."""
    base, environment = (settings.CONFIG_LOADER_ARGS[name] for name in ("base_env", "default_run_env"))
    environment, names = loader.env or environment, loader["globals"]
    folders = [Path(loader.conf_source) / name for name in (base, environment)]
    if not folders[0].is_dir():
        return global_problems(names, names, names, environment, project)
    of_base, own = (own_names(folder) for folder in folders)
    known = of_base | {*BAR_NAMES} | {name for folder in folders for name in referred_globals(folder)}
    return global_problems(names, own, known, environment, project)
