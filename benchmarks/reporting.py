"""Time of each step of the report and its size, on frames of a synthetic run.

    python benchmarks/reporting.py --rows 35000 --assets 5 --seeds 8 --runs 3

Prints one JSON object: seconds of each step (median over runs; wall clock and processor), their sum, and the bytes of
the report and of its plots. It leaves out the start of Kedro and file access, which `kedro run` includes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from sentio_kedro.config import ReportingParameters
from sentio_kedro.config.evaluation import DEFAULT_BASELINES
from sentio_kedro.evaluation.measures.attribution import ledger_net
from sentio_kedro.evaluation.metrics import build_metrics
from sentio_kedro.evaluation.plots.draw import draw_figures
from sentio_kedro.evaluation.report.report import render_report
from sentio_kedro.evaluation.run_frames import BASELINES, COLUMNS, ENSEMBLE, RunFacts, RunFrames
from sentio_kedro.trading.records import LAYERS

BAR, FIRST = pd.Timedelta(minutes=30), pd.Timestamp("2018-01-01", tz="UTC")
FOLDS, REGIMES, CHANGES = 4, 3, 0.01  # share of the bars at which a position changes


def main() -> None:
    """Report a synthetic run and print the time of each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=35_000, help="out-of-sample decisions")
    parser.add_argument("--assets", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=8, help="agents")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=1_000, help="resamples of the bootstrap")
    parser.add_argument("--page", type=Path, help="file to write the report to")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    seconds: dict[str, list[float]] = {}
    pieces = synthetic_run(given.rows, given.assets, given.seeds)
    for _ in range(given.runs):
        page, figures = report(pieces, ReportingParameters(bootstrap_samples=given.samples), seconds)
    if given.page is not None:
        given.page.write_text(page, encoding="utf-8")
    medians = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    sizes = {"report": len(page.encode()), "figures": sum(len(figure.to_json()) for figure in figures.values())}
    shape = {
        "rows": given.rows,
        "assets": given.assets,
        "seeds": given.seeds,
        "baselines": len(BASELINES) + len(DEFAULT_BASELINES),
    }
    total = round(sum(value for name, value in medians.items() if not name.endswith("(processor)")), 3)
    print(json.dumps(shape | {"seconds": medians, "sum": total, "bytes": sizes}))


def report(
    pieces: dict[str, pd.DataFrame], parameters: ReportingParameters, seconds: dict[str, list[float]]
) -> tuple[str, dict[str, Any]]:
    """Run the steps of the pipeline's nodes and append the seconds of each to ``seconds``."""

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start, used = time.perf_counter(), time.process_time()
        result = work()
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        seconds.setdefault(f"{name} (processor)", []).append(time.process_time() - used)
        return result

    facts = RunFacts(365.0 * 48.0, "survivorship_biased", max_drawdown=0.08)
    frames = timed("collect_frames", lambda: RunFrames(**pieces))
    metrics = timed("measure", lambda: build_metrics(frames, facts, parameters))
    figures = timed("draw", lambda: draw_figures(frames, facts, metrics))
    return timed("write_report", lambda: render_report(metrics, figures)), figures


def synthetic_run(rows: int, assets: int, seeds: int) -> dict[str, pd.DataFrame]:
    """Frames of a run of ``seeds`` agents and the default baselines on ``assets`` random walks."""
    rng = np.random.default_rng(0)
    symbols = [f"COIN{index}" for index in range(assets)]
    names = [ENSEMBLE, *(f"seed_{seed}" for seed in range(seeds)), *BASELINES, *DEFAULT_BASELINES]
    market = rng.standard_t(4, (rows, assets)) * 0.003
    weights = {name: _weights(rng, rows, assets, name) for name in names}
    curves, agents = _training(rng, seeds)
    fold = np.arange(rows) * FOLDS // rows
    times = FIRST + BAR * np.arange(rows)
    positions = pd.DataFrame(
        {
            "timestamp": times.repeat(assets),
            "symbol": np.tile(symbols, rows),
            "account": ENSEMBLE,
            "fold": fold.repeat(assets),
            "position": weights[ENSEMBLE].ravel(),
        }
    )
    posterior = rng.dirichlet([0.3] * REGIMES, rows)
    states = {f"state_{state}": posterior[:, state] for state in range(REGIMES)}
    return {
        "robustness": pd.DataFrame(columns=list(COLUMNS["robustness"])),
        "evidence": pd.DataFrame(columns=list(COLUMNS["evidence"])),
        "accounts": pd.concat(
            [_account(name, weights[name], market, times, fold, posterior) for name in names], ignore_index=True
        ),
        "positions": positions,
        "trades": pd.concat([_trades(rng, name, rows, symbols) for name in names], ignore_index=True),
        "holdings": _holdings(names, symbols, rows),
        "actions": _actions(symbols),
        "masks": _masks(),
        "value_at_risk": _exceedances(rng, symbols, rows),
        "regime_posteriors": pd.DataFrame({"timestamp": times, "fold": fold, **states}),
        "training_curves": curves,
        "agent_table": agents,
    }


def _weights(rng: np.random.Generator, rows: int, assets: int, name: str) -> np.ndarray:
    """Positions ``[T, A]`` held for about a hundred bars; baselines hold all assets equally."""
    if name in (*BASELINES, *DEFAULT_BASELINES):
        return np.full((rows, assets), 1.0 / assets)
    drawn = rng.choice([-1.0, 0.0, 1.0], (rows, assets)) / assets
    changes = np.where(rng.random((rows, assets)) < CHANGES, np.arange(rows)[:, None], 0)
    return np.take_along_axis(drawn, np.maximum.accumulate(changes, axis=0), axis=0)


def _account(
    name: str,
    weights: np.ndarray,
    market: np.ndarray,
    times: pd.DatetimeIndex,
    fold: np.ndarray,
    posterior: np.ndarray,
) -> pd.DataFrame:
    traded = np.abs(np.diff(weights, axis=0, prepend=0.0 * weights[:1])).sum(axis=1)
    zeros = np.zeros(len(weights))
    frame = pd.DataFrame({"row": np.arange(len(weights)), "timestamp": times, "fold": fold, "account": name})
    frame["gross_exposure"], frame["net_exposure"] = np.abs(weights).sum(axis=1), weights.sum(axis=1)
    frame["turnover"], frame["price_pnl"] = traded, (weights * market).sum(axis=1)
    frame["commission"], frame["spread"], frame["impact"] = 1e-3 * traded, 2e-4 * traded, 3e-5 * traded
    for line in ("borrow", "financing", "funding", "dividends", "shortfall"):
        frame[line] = zeros
    frame["return"] = ledger_net(frame)
    frame["equity"] = 1e5 * (1.0 + frame["return"]).cumprod()
    frame["ordered"] = (traded > 0.0).astype(float)
    frame["capped"], frame["projected"], frame["headroom"], frame["called"] = zeros, zeros, 1.0, False
    return frame.assign(regime=posterior.argmax(axis=1))


def _trades(rng: np.random.Generator, name: str, rows: int, symbols: list[str]) -> pd.DataFrame:
    count = rows // 30
    entry = np.sort(rng.integers(0, rows - 60, count))
    result = rng.normal(1e-4, 0.01, count)
    bars = rng.integers(1, 60, count)
    return pd.DataFrame(
        {
            "account": name,
            "fold": entry * FOLDS // rows,
            "symbol": rng.choice(symbols, count),
            "side": rng.choice([-1, 1], count),
            "entry_row": entry,
            "exit_row": entry + bars,
            "bars": bars,
            "pnl": 1e5 * result,
            "return": result,
            "cost": 2e-4,
        }
    )


def _training(rng: np.random.Generator, seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    updates = np.arange(1, 51)
    curves, agents = [], []
    for fold in range(FOLDS):
        for seed in range(seeds):
            for member in range(4):
                validated = updates % 10 == 0
                frame = pd.DataFrame({"fold": fold, "seed": seed, "member": member, "update": updates})
                frame["train_sharpe"] = np.where(validated, updates / 10 + rng.normal(0, 0.3, 50), np.nan)
                frame["validation_sharpe"] = np.where(validated, updates / 20 + rng.normal(0, 0.5, 50), np.nan)
                curves.append(frame)
            agents.append((fold, seed, 4.0, 1.0, 4, 3.0, np.nan, False, "log_return_1, rsi_14", 2, 30, 4))
    columns = list(COLUMNS["agent_table"])
    return pd.concat(curves, ignore_index=True), pd.DataFrame(agents, columns=columns)


def _holdings(names: list[str], symbols: list[str], rows: int) -> pd.DataFrame:
    held = [
        (name, fold, symbol, rows // FOLDS, 0.1, 0.2, 0.03, rows // 100)
        for name in names
        for fold in range(FOLDS)
        for symbol in symbols
    ]
    return pd.DataFrame(held, columns=list(COLUMNS["holdings"]))


def _actions(symbols: list[str]) -> pd.DataFrame:
    rows = [
        (ENSEMBLE, fold, symbol, action, count, 500)
        for fold in range(FOLDS)
        for symbol in symbols
        for action, count in (("-1", 200), ("0", 100), ("+1", 200))
    ]
    return pd.DataFrame(rows, columns=["account", "fold", "symbol", "action", "count", "legal"])


def _masks() -> pd.DataFrame:
    rows = [
        (ENSEMBLE, fold, regime, layer, 0.02 * place * (1 + regime), 100)
        for fold in range(FOLDS)
        for regime in range(REGIMES)
        for place, layer in enumerate(LAYERS)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS["masks"]))


def _exceedances(rng: np.random.Generator, symbols: list[str], rows: int) -> pd.DataFrame:
    sessions = rows // 48
    counts = [
        (symbol, side, 0.99, sessions, rng.binomial(sessions, 0.01)) for side in ("fall", "rise") for symbol in symbols
    ]
    return pd.DataFrame(counts, columns=list(COLUMNS["value_at_risk"]))


if __name__ == "__main__":
    main()
