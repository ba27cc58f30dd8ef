"""Small projects that hostile inputs are given to, and what accepted inputs must become."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from kedro.framework.project import configure_project, pipelines
from kedro.framework.session import KedroSession

from hostile_inputs import trials
from hostile_inputs.artifacts import Damage
from hostile_inputs.bars import EXTREME, HostileBars, independent_pivot
from hostile_inputs.parameters import WRONG_GLOBALS, changed
from hostile_inputs.trials import Expected, Trial
from sentio_kedro.manifests import flatten_parameters
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.refusals import refusal_text

ROOT = Path(__file__).parents[2]
ENV = "hostile"
READING = (
    "features",
    "cross_validation",
    "regimes",
    "forecasting",
    "training",
    "backtest",
    "reporting",
    "signals",
    "lockbox",
    "search",
    "final",
)
CHEAP = ("ingestion", "features", "cross_validation")


def small_bars(bars: int = 700) -> pd.DataFrame:
    """Return daily bars of two symbols, random walks."""
    rng, frames = np.random.default_rng(0), []
    for symbol in ("AAA", "BBB"):
        close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(bars)))
        opened = np.concatenate([[100.0], close[:-1]])
        spread = 1 + 0.002 * rng.random(bars)
        prices = {"open": opened, "high": np.maximum(opened, close) * spread, "low": np.minimum(opened, close) / spread}
        stamps = pd.date_range("2015-01-01", periods=bars, freq="D", tz="UTC")
        frames.append(
            pd.DataFrame(
                {
                    "timestamp": stamps,
                    "symbol": symbol,
                    **prices,
                    "close": close,
                    "volume": 1e6 * (1 + rng.random(bars)),
                }
            )
        )
    return pd.concat(frames).sort_values(["timestamp", "symbol"], ignore_index=True)


@dataclass(frozen=True)
class HostileProject:
    """A project whose configuration is loaded once; the process must be in its folder.

    Attributes:
        path: Its folder.
        env: Its environment.
        configuration: ``parameters`` with all defaults, ``catalog``, ``mlflow`` and ``globals``.
    """

    path: Path
    env: str
    configuration: dict[str, Any]

    @classmethod
    def made(cls, path: Path) -> HostileProject:
        """Make a project in ``path`` that has bars and no artifacts."""
        shutil.copytree(ROOT / "conf", path / "conf", ignore=shutil.ignore_patterns("credentials*"))
        shutil.copytree(ROOT / "conf" / "smoke", path / "conf" / ENV)
        (path / "conf" / ENV / "globals.yml").write_text(f"artifacts: data/{ENV}\nexperiment: {ENV}\n")
        (path / "conf" / ENV / "catalog.yml").write_text(
            "bars:\n  type: pandas.ParquetDataset\n  filepath: data/01_raw/bars.parquet\n"
            "  validator: sentio_kedro.schemas.Bars\n"
        )
        shutil.copy(ROOT / "pyproject.toml", path)
        (path / "src").mkdir()  # the package is the installed one
        (path / "data" / "01_raw").mkdir(parents=True)
        small_bars().to_parquet(path / "data" / "01_raw" / "bars.parquet")
        return cls.of(path, ENV)

    @classmethod
    def of(cls, path: Path, env: str) -> HostileProject:
        """Read the configuration of the project in ``path``."""
        configure_project("sentio_kedro")
        with KedroSession.create(project_path=path, env=env) as session:
            loader = session._get_config_loader()
        read = {name: loader[name] for name in ("parameters", "catalog", "mlflow", "globals")}
        sections = read["parameters"]
        for name, value in flatten_parameters(sections).items():
            sections = changed(sections, tuple(name.split(".")), value)
        return cls(path, env, {**read, "parameters": sections})

    def try_parameters(self, sections: Mapping[str, Any], expected: Expected) -> tuple[Trial, list[str]]:
        """Run with other parameters up to the first node."""
        configuration = {**self.configuration, "parameters": sections}
        trial = self._attempt(None, configuration)
        found = trials.faults(trial, expected)
        if trial.error is None and not found and expected.input.partition(".")[0] in CHEAP:
            found += self._late(configuration, expected)
        return trial, found

    def try_globals(self, name: str) -> tuple[Trial, list[str]]:
        """Run with another globals.yml up to the first node."""
        change, names = WRONG_GLOBALS[name]
        path = self.path / "conf" / self.env / "globals.yml"
        before = path.read_text()
        values = {**yaml.safe_load(before), **change}
        written = {key: None if value == "null" else value for key, value in values.items() if value is not None}
        path.write_text(yaml.safe_dump(written))
        try:
            trial = trials.attempt(self.path, self.env, None, None)
        finally:
            path.write_text(before)
        return trial, trials.faults(trial, Expected(name, True, names))

    def try_bars(self, bars: HostileBars) -> tuple[Trial, list[str]]:
        """Run with another bar file up to the first node; align what is accepted."""
        catalog = dict(self.configuration["catalog"])
        kind = "pandas.CSVDataset" if bars.suffix == "csv" else "pandas.ParquetDataset"
        path = bars.write(self.path / "data" / "01_raw")
        catalog["bars"] = {**catalog["bars"], "type": kind, "filepath": path.relative_to(self.path).as_posix()}
        configuration = {**self.configuration, "catalog": catalog}
        trial = self._attempt(None, configuration)
        found = trials.faults(trial, bars.expected)
        if trial.error is None and bars.frame is not None:
            found += self._wrongly_aligned(bars, configuration)
        return trial, found

    def try_damage(self, damage: Damage) -> tuple[Trial, list[str]]:
        """Run a pipeline that reads a damaged file up to its first node."""
        with damage.done(self.path) as was_changed:
            if not was_changed:
                return Trial(None, 0.0), []
            trial = self._attempt([damage.pipeline], self.configuration)
            return trial, trials.faults(trial, damage.expected)

    def files_read(self) -> dict[str, dict[str, str]]:
        """Return the artifacts that each pipeline reads and has not made itself, with their datasets."""
        with self._session() as session:
            catalog = session.load_context().catalog
        found: dict[str, dict[str, str]] = {}
        for name in READING:
            found[name] = {}
            for dataset in pipelines[name].inputs():
                if dataset.startswith(("params:", "parameters")) or not hasattr(catalog[dataset], "_filepath"):
                    continue
                path = Path(catalog[dataset]._filepath)
                for file in [path, *path.rglob("*")]:
                    if file.is_file() and Path(f"data/{self.env}") in file.relative_to(self._root(file)).parents:
                        found[name][file.relative_to(self._root(file)).as_posix()] = dataset
        return found

    def _root(self, file: Path) -> Path:
        return self.path if file.is_absolute() else Path()

    def _attempt(self, names: list[str] | None, configuration: Mapping[str, Any]) -> Trial:
        return trials.attempt(self.path, self.env, names, configuration)

    @contextmanager
    def _session(self, configuration: Mapping[str, Any] | None = None) -> Iterator[KedroSession]:
        with KedroSession.create(project_path=self.path, env=self.env) as session:
            given = trials.LoadedConfiguration(session._get_config_loader(), configuration or self.configuration)
            session._get_config_loader = lambda: given
            yield session

    def _late(self, configuration: Mapping[str, Any], expected: Expected) -> list[str]:
        """Run the stages of data with accepted parameters; return what they refuse, or is not finite."""
        logging.disable(logging.CRITICAL)
        try:
            with self._session(configuration) as session:
                session.run(pipeline_names=list(CHEAP))
            with self._session(configuration) as session:
                catalog = session.load_context().catalog
                features, folds = catalog.load("features"), catalog.load("folds")
        except Exception as error:
            return _told_late(error, expected)
        finally:
            logging.disable(logging.NOTSET)
        return [] if np.isfinite(features.values[-1]).all() and folds.folds else ["features are not finite"]

    def _wrongly_aligned(self, bars: HostileBars, configuration: Mapping[str, Any]) -> list[str]:
        """Return faults of what ingestion makes of accepted bars."""
        logging.disable(logging.CRITICAL)
        try:
            with self._session(configuration) as session:
                context = session.load_context()
                aligned = align_bars(context.catalog.load("bars"), context.params["ingestion"])
                features = compute_features(aligned, context.params["features"].columns)
        except Exception as error:
            return _told_late(error, bars.expected)
        finally:
            logging.disable(logging.NOTSET)
        found = [] if np.isfinite(np.asarray(features)[-1]).all() else ["features are not finite"]
        if bars.name.partition(" (")[0] in EXTREME or bars.frame is None:
            return found
        for name, wanted in independent_pivot(bars.frame).items():
            values, stamps = getattr(aligned, name), pd.DatetimeIndex(aligned.timestamps).tz_localize("UTC")
            same = list(aligned.symbols) == list(wanted.columns) and (stamps == wanted.index).all()
            if not same or not np.array_equal(values, wanted.to_numpy(), equal_nan=True):
                return [*found, f"`{name}` is not that of an independent pivot"]
        return found


def _told_late(error: Exception, expected: Expected) -> list[str]:
    found = trials.unreadable(error, refusal_text(error), expected) or [type(error).__name__]
    return [f"late: {fault}: {error}"[:300] for fault in found]


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Be in ``folder``, as commands are: paths of the configuration are relative."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
