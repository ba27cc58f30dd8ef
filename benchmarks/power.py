"""What the forecast rule finds of a signal of known worth, planted into real bars. Prints JSON.

    python benchmarks/power.py --bars data/01_raw/crypto_30min.parquet
    python benchmarks/power.py --bars data/01_raw/equities_daily.parquet --env equities --sharpe 3

A signal for each asset, an autoregression of 0.98 that the volume shows, moves the next return's mean, so strongly that
the rule on the true forecasts expects the annual net Sharpe ratio `--sharpe` on the test rows. The rows after the first
half are cut into test blocks; a block is forecast from the rows before it, or from the last `--years` of them.

    found = (net profit with the signal - net profit without) / net profit that the rule on the true forecasts expects

Both profits are of the same returns but for the signal's means, and of the same volume. `found` holds the luck of the
realised returns; `expected` replaces it by the planted means: (their gain - additional costs) / the same profit. A rule
that has forecasts of its own without the signal holds positions for them, and a position has a largest size:
`attainable` is what `found` would be with the true forecasts added to those of the rule without the signal. `--mirror`
takes the bars' own signal away first: each bar is mirrored in log price with probability one half.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from kedro.config import OmegaConfigLoader
from pydantic import TypeAdapter

from planted.injection import Oracle, draw_signal, mirrored, planted
from sentio_kedro.agent.forecasting.fold import FoldForecasts, forecast_fold
from sentio_kedro.agent.forecasting.inputs.history import LOOKBACK
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.sleeves import net_profit
from sentio_kedro.config import (
    CrossValidationParameters,
    ForecastingParameters,
    IngestionParameters,
    RegimeParameters,
    TradingParameters,
)
from sentio_kedro.market.folds import lockbox_bars
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.timestamps import Floats, periods_per_year
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import fit_regimes, market_return

CONFIGURATION = Path(__file__).parents[1] / "conf"
ADJUSTED = ["open", "high", "low", "close"]


class Settings(NamedTuple):
    """Parameters of an environment.

    Attributes:
        ingestion: How bars are read.
        cross_validation: Its lockbox is left out.
        regimes: Regime model.
        trading: Costs.
        forecasting: Sleeve, gate and price of risk.
    """

    ingestion: IngestionParameters
    cross_validation: CrossValidationParameters
    regimes: RegimeParameters
    trading: TradingParameters
    forecasting: ForecastingParameters

    @classmethod
    def read(cls, environment: str, changes: Sequence[str]) -> Settings:
        """Read an environment's parameters, changed by ``name=value``."""
        raw = OmegaConfigLoader(str(CONFIGURATION), base_env="base", default_run_env="base", env=environment)
        values: dict[str, Any] = dict(raw["parameters"])
        for change in changes:
            path, _, value = change.partition("=")
            *sections, key = path.split(".")
            place = values
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = yaml.safe_load(value)
        return cls(*(TypeAdapter(kind).validate_python(values[name]) for name, kind in cls.__annotations__.items()))


@dataclass(frozen=True)
class Traded:
    """Positions of the rule on the test rows, and what they earn.

    Attributes:
        units: ``[n, A]`` in units of risk, block after block.
        profit: ``[n]`` net, in units of risk.
        paid: ``[n]`` costs.
        folds: Forecasts of each block.
    """

    units: Floats
    profit: Floats
    paid: Floats
    folds: list[FoldForecasts]

    @property
    def gate_t(self) -> list[float]:
        """T statistic of each block's sleeve on out-of-fold train rows; 0 without one."""
        return [max((sleeve.gate_t for sleeve in fold.sleeves), default=0.0) for fold in self.folds]

    @property
    def opened(self) -> list[bool]:
        """Whether each block's sleeve is open."""
        return [any(sleeve.weight > 0.0 for sleeve in fold.sleeves) for fold in self.folds]


def read_bars(path: Path, settings: Settings, *, adjust: bool) -> AlignedBars:
    """Read long bars without the lockbox; ``adjust`` multiplies prices by their column ``adjustment``."""
    frame = pd.read_parquet(path)
    if adjust:
        frame[ADJUSTED] = frame[ADJUSTED].mul(frame["adjustment"], axis=0)
    bars = align_bars(frame.drop(columns="adjustment", errors="ignore").dropna(), settings.ingestion)
    return bars.rows(slice(0, lockbox_bars(len(bars.timestamps), settings.cross_validation).start))


def make_blocks(rows: int, blocks: int) -> list[Segment]:
    """Cut the rows after the first half into test blocks."""
    edges = np.linspace(rows // 2, rows - 1, blocks + 1).astype(int).tolist()
    return [Segment(*pair) for pair in pairwise(edges)]


class Panel(NamedTuple):
    """Bars that are ready to forecast.

    Attributes:
        market: Inputs, targets and costs without regimes.
        returns: ``[T]`` of the market, for the regimes.
    """

    market: ForecastMarket
    returns: Floats

    @classmethod
    def of(cls, bars: AlignedBars, settings: Settings) -> Panel:
        """Prepare bars."""
        per_year = periods_per_year(bars.timestamps, settings.ingestion.sessions_per_year)
        return cls(ForecastMarket.of(bars, settings.trading, per_year), market_return(bars))


def trade(panel: Panel, test: Sequence[Segment], train_bars: int | None, settings: Settings) -> Traded:
    """Forecast and trade every test block from the rows before it, or from the last ``train_bars`` of them."""
    returns = panel.returns
    units, profit, paid, folds = [], [], [], []
    for number, block in enumerate(test):
        first = min(LOOKBACK, block.start // 4)
        train = Segment(first if train_bars is None else max(first, block.start - train_bars), block.start)
        model = fit_regimes([returns[slice(*train)]], settings.regimes, seed=number)
        market = panel.market.with_regimes(model.filter(returns))
        found = forecast_fold(market, Fold(number, (train,), (), (block,)), settings.forecasting)
        held, costs = found.units[slice(*block)], market.costs[slice(*block)]
        units.append(held)
        profit.append(net_profit(held, market.targets[slice(*block)], costs))
        paid.append(-net_profit(held, np.zeros_like(held), costs))
        folds.append(found)
    return Traded(*(np.concatenate(parts) for parts in (units, profit, paid)), folds)


def attainable(oracle: Oracle, without: Traded, strength: float) -> float:
    """Realised net profit of the rule with the true forecasts of a signal added to what it forecasts without it."""
    market, means, extra, total = oracle.market, oracle.means(strength), oracle.forecasts(strength), 0.0
    for fold, block in zip(without.folds, oracle.test, strict=True):
        for sleeve in fold.sleeves:
            own = fold.forecasts[sleeve.name] * (sleeve.weight > 0.0) + extra
            control = sleeve.control.with_surprise(own[fold.train_rows], market.costs[fold.train_rows])
            rows = slice(*block)
            held = replace(sleeve, control=control).units(np.ascontiguousarray(own[rows]), market.costs[rows])
            total += float(net_profit(held, market.targets[rows] + means[rows], market.costs[rows]).sum())
    return total


def measure(
    bars: AlignedBars,
    settings: Settings,
    sharpes: Sequence[float],
    years: Sequence[float | None],
    seed: int,
    blocks: int,
) -> list[dict[str, Any]]:
    """Plant signals of one seed; one record for each Sharpe ratio and train length."""
    signal, test = draw_signal(*bars.close.shape, seed), make_blocks(len(bars.timestamps), blocks)
    bare = Panel.of(planted(bars, signal, np.zeros_like(signal)), settings)
    market, forecasting = bare.market, settings.forecasting
    train = Segment(0, test[0].start)
    oracle = Oracle(market, signal, train, tuple(test), forecasting.sleeves[0], forecasting.price_of_risk)
    unit = signal * np.nan_to_num(market.inputs.volatility)
    lengths = {length: None if length is None else round(length * market.periods_per_year) for length in years}
    without = {length: trade(bare, test, count, settings) for length, count in lengths.items()}
    records = []
    for sharpe in sharpes:
        strength = oracle.strength_for(sharpe)
        panel = Panel.of(planted(bars, signal, strength * unit), settings)
        for length, train_bars in lengths.items():
            found = trade(panel, test, train_bars, settings)
            records.append(
                {"sharpe": sharpe, "years": length, "seed": seed, "strength": strength}
                | compare(oracle, strength, found, without[length])
            )
    return records


def compare(oracle: Oracle, strength: float, found: Traded, without: Traded) -> dict[str, Any]:
    """What the rule finds of a signal, as shares of the profit that the true forecasts expect."""
    possible = float(oracle.profits(strength)[0].sum())
    rows = np.concatenate([np.arange(*part) for part in oracle.test])
    gain = float((found.units * oracle.means(strength)[rows]).sum() - found.paid.sum() + without.paid.sum())
    base, per_year = float(without.profit.sum()), oracle.market.periods_per_year
    return {
        "found": (float(found.profit.sum()) - base) / possible,
        "expected": gain / possible,
        "attainable": (attainable(oracle, without, strength) - base) / possible,
        "with": float(found.profit.sum()) / possible,
        "sharpe_with": _sharpe(found.profit, per_year),
        "sharpe_without": _sharpe(without.profit, per_year),
        "gate_t_with": found.gate_t,
        "gate_t_without": without.gate_t,
        "opened_with": found.opened,
        "opened_without": without.opened,
    }


def summary(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and worst over seeds for each Sharpe ratio and train length."""
    table = []
    for sharpe, years in dict.fromkeys((record["sharpe"], record["years"]) for record in records):
        own = [record for record in records if (record["sharpe"], record["years"]) == (sharpe, years)]
        row: dict[str, Any] = {"sharpe": sharpe, "years": years, "seeds": len(own)}
        for name in ("found", "expected", "attainable", "with"):
            values = [record[name] for record in own]
            row |= {f"{name}_median": float(np.median(values)), f"{name}_worst": min(values)}
        for name in ("with", "without"):
            row[f"sharpe_{name}_median"] = float(np.median([record[f"sharpe_{name}"] for record in own]))
            row[f"gate_t_{name}_median"] = float(np.median([record[f"gate_t_{name}"] for record in own]))
            row[f"opened_{name}"] = float(np.mean([record[f"opened_{name}"] for record in own]))
        table.append(row)
    return table


def _sharpe(profit: Floats, per_year: float) -> float:
    return float(profit.mean() / max(profit.std(), 1e-12) * per_year**0.5)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=Path, required=True, help="parquet file of long bars")
    parser.add_argument("--adjust", action="store_true", help="multiply prices by their column `adjustment`")
    parser.add_argument("--env", default="base", help="environment of conf/")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="changes of its parameters")
    parser.add_argument("--sharpe", type=float, nargs="+", default=[1.5, 3.0])
    parser.add_argument("--years", type=float, nargs="*", default=[], help="train lengths besides all rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--mirror", action="store_true", help="take the bars' own signal away")
    parser.add_argument("--blocks", type=int, default=2, help="test blocks")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    settings = Settings.read(arguments.env, arguments.set)
    bars = read_bars(arguments.bars, settings, adjust=arguments.adjust)
    records: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        began = time.perf_counter()
        source = mirrored(bars, seed) if arguments.mirror else bars
        lengths = [*arguments.years, None]
        records += measure(source, settings, arguments.sharpe, lengths, seed, arguments.blocks)
        own = [record for record in records if record["seed"] == seed]
        last = {
            (r["sharpe"], r["years"]): [round(r[k], 2) for k in ("found", "expected", "attainable", "with")]
            for r in own
        }
        sys.stderr.write(f"seed {seed}, {time.perf_counter() - began:.0f} s: {last}\n")
    per_year = periods_per_year(bars.timestamps, settings.ingestion.sessions_per_year)
    answer = {
        "bars": len(bars.timestamps),
        "bars_per_year": per_year,
        "train_years": [part.start / per_year for part in make_blocks(len(bars.timestamps), arguments.blocks)],
        "summary": summary(records),
        "records": records,
    }
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


if __name__ == "__main__":
    main()
