"""A synthetic run: two agents, alone and as one, four baselines, four folds, 2,000 rows, three regimes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.evaluation.measures.attribution import ledger_net
from sentio_kedro.evaluation.run_frames import BASELINES, COLUMNS, RunFacts, RunFrames
from sentio_kedro.trading.records import LAYERS

FOLDS, FOLD_ROWS, FIRST_ROW, SEEDS, REGIMES, SYMBOLS = 4, 500, 600, 2, 3, ("BTC", "ETH")
PERIODS_PER_YEAR = 365.0 * 48.0

MakeRun = Callable[..., RunFrames]


def _times(rows: np.ndarray) -> pd.DatetimeIndex:
    return pd.Timestamp("2018-09-01", tz="UTC") + pd.to_timedelta(rows * 30, unit="min")


def _accounts(rng: np.random.Generator, names: list[str], drift: dict[str, float]) -> pd.DataFrame:
    count = FOLDS * FOLD_ROWS
    rows = FIRST_ROW + np.arange(count)
    market = rng.normal(0.0, 0.004, count)
    frames = []
    for name in names:
        exposure = rng.choice([-1.0, 0.0, 1.0], count) if name not in BASELINES else np.ones(count)
        turnover = np.abs(np.diff(exposure, prepend=0.0))
        price_pnl = exposure * market + drift.get(name, 0.0)
        frame = pd.DataFrame({"row": rows, "timestamp": _times(rows), "fold": (rows - FIRST_ROW) // FOLD_ROWS})
        frame["account"] = name
        frame["gross_exposure"], frame["net_exposure"] = np.abs(exposure), exposure
        frame["turnover"], frame["price_pnl"] = turnover, price_pnl
        frame["commission"], frame["spread"], frame["impact"] = 1e-4 * turnover, 5e-5 * turnover, 3e-5 * turnover
        frame["borrow"] = 1e-6 * np.maximum(-exposure, 0.0)
        frame["financing"], frame["funding"] = -2e-6 * (exposure == 0.0), 5e-7 * exposure  # interest earned when flat
        frame["dividends"], frame["shortfall"] = np.where(rows % 400 == 0, 1e-3 * exposure, 0.0), 0.0
        frame["return"] = ledger_net(frame)
        frame["equity"] = 1e6 * (1.0 + frame["return"]).cumprod()
        ordered = (turnover > 0.0).astype(float)
        frame["ordered"], frame["capped"] = ordered, ordered * (rows % 4 == 0)
        frame["projected"], frame["headroom"] = ordered * (rows % 20 == 0), 1.0
        frame["called"], frame["regime"] = False, (rows // 170) % REGIMES
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _trades(rng: np.random.Generator, names: list[str]) -> pd.DataFrame:
    count = 40
    entry = np.sort(rng.integers(FIRST_ROW, FIRST_ROW + FOLDS * FOLD_ROWS - 20, count))
    frames = []
    for name in names:
        pnl = rng.normal(100.0, 1_000.0, count)
        leave = entry + rng.integers(1, 20, count)
        frames.append(
            pd.DataFrame(
                {
                    "account": name,
                    "fold": (entry - FIRST_ROW) // FOLD_ROWS,
                    "symbol": rng.choice(SYMBOLS, count),
                    "side": rng.choice([-1, 1], count),
                    "entry_row": entry,
                    "exit_row": leave,
                    "entry_timestamp": _times(entry),
                    "exit_timestamp": _times(leave),
                    "bars": leave - entry,
                    "pnl": pnl,
                    "return": pnl / 1e6,
                    "cost": 3.6e-4,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _training(rng: np.random.Generator, seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    curves, agents = [], []
    for fold in range(FOLDS):
        for seed in range(seeds):
            for member in range(2):
                update = np.arange(1, 31)
                frame = pd.DataFrame({"fold": fold, "seed": seed, "member": member, "update": update})
                frame["steps"] = update * 8_192
                frame["reward"] = 0.05 * (1 - np.exp(-update / 10)) + rng.normal(0.0, 0.005, 30)
                frame["entropy"], frame["kl"] = 1.0 - update / 60, 0.01
                frame["policy_loss"], frame["value_loss"], frame["gradient_norm"] = -0.01, 0.2, 0.5
                judged = update % 6 == 0
                frame["train_sharpe"] = np.where(judged, update / 6 + rng.normal(0.0, 0.3, 30), np.nan)
                frame["validation_sharpe"] = np.where(judged, update / 12 + rng.normal(0.0, 0.5, 30), np.nan)
                frame["selected"] = update == 24
                curves.append(frame)
            trained = (fold, seed, 4.0 + 0.1 * fold, 1.5 - 0.1 * seed, 2)
            agents.append((*trained, 3.0, np.nan, False, np.nan))
    return pd.concat(curves, ignore_index=True), pd.DataFrame(agents, columns=list(COLUMNS["agent_table"]))


def _positions(accounts: pd.DataFrame) -> pd.DataFrame:
    judged = accounts[accounts["account"] == accounts["account"].iloc[0]]
    frames = []
    for symbol in SYMBOLS:
        frame = judged[["timestamp", "fold", "account"]].assign(symbol=symbol)
        frames.append(frame.assign(position=judged["net_exposure"] / len(SYMBOLS)))
    return pd.concat(frames, ignore_index=True)


def _holdings(accounts: pd.DataFrame) -> pd.DataFrame:
    """Each account holds half of its net exposure in each symbol, which return alike."""
    rows = []
    for (name, fold), part in accounts.groupby(["account", "fold"], sort=False):
        traded, gross = int((part["turnover"] > 0.0).sum()), float((part["price_pnl"] + part["dividends"]).sum())
        for symbol in SYMBOLS:
            held = 0.5 * float(part["net_exposure"].mean())
            rows.append((name, fold, symbol, len(part), held, 0.01, 0.5 * gross, traded))
    return pd.DataFrame(rows, columns=list(COLUMNS["holdings"]))


def _actions(headline: str) -> pd.DataFrame:
    rows = [
        (headline, fold, symbol, action, count, 500)
        for fold in range(FOLDS)
        for symbol in SYMBOLS
        for action, count in (("-1", 150), ("0", 180), ("+1", 170))
    ]
    return pd.DataFrame(rows, columns=["account", "fold", "symbol", "action", "count", "legal"])


def _posteriors(rng: np.random.Generator) -> pd.DataFrame:
    rows = FIRST_ROW + np.arange(FOLDS * FOLD_ROWS)
    state = (rows // 170) % REGIMES
    posterior = rng.dirichlet([0.3] * REGIMES, len(rows)) * 0.4 + 0.6 * np.eye(REGIMES)[state]
    frame = pd.DataFrame({"timestamp": _times(rows), "fold": (rows - FIRST_ROW) // FOLD_ROWS})
    return frame.assign(**{f"state_{index}": posterior[:, index] for index in range(REGIMES)})


def _masks(headline: str) -> pd.DataFrame:
    rows = [
        (headline, fold, regime, layer, 0.02 * place * (1 + regime) * (place % 3 > 0), 100 + 10 * regime)
        for fold in range(FOLDS)
        for regime in range(REGIMES)
        for place, layer in enumerate(LAYERS)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS["masks"]))


def _exceedances() -> pd.DataFrame:
    rows = [(symbol, side, 0.99, 500, 5 + place) for place, side in enumerate(("fall", "rise")) for symbol in SYMBOLS]
    return pd.DataFrame(rows, columns=list(COLUMNS["value_at_risk"]))


def _robustness(rng: np.random.Generator, headline: str, seeds: int) -> pd.DataFrame:
    rows = []
    values = {"cost": [0.5, 1.0, 1.5, 2.0, 3.0], "latency": range(4), "start": [0, 0.125, 0.25, 0.5], "path": range(20)}
    values["without"] = range(seeds if seeds > 1 else 0)
    for kind, settings in values.items():
        for value in settings:
            sharpe = {"cost": 3.0 - 2.0 * value, "latency": 1.0 - 0.3 * value, "start": 1.0}.get(kind, 0.5)
            sharpe += rng.normal(0.0, 1.0 if kind == "path" else 0.05)
            measures = (sharpe, 0.2 * sharpe, 0.1 * sharpe, 0.1, 0.3)
            rows.append((kind, float(value), headline, *measures, 1.8 * (value if kind == "cost" else 1.0), 0.9))
    rows.append(("break_even", 1.4, headline, 0.0, 0.0, 0.0, 0.1, 0.3, 1.8 * 1.4, np.nan))
    return pd.DataFrame(rows, columns=list(COLUMNS["robustness"]))


def _evidence() -> pd.DataFrame:
    """Two folds of two sleeves; the second sleeve opens in the second fold alone."""
    rows = [
        (
            fold,
            sleeve,
            segment,
            expert,
            0.03 / place,
            0.02 / place,
            1.5 + fold,
            2.0,
            float(sleeve == "relative" or fold == 1),
        )
        for fold in range(2)
        for sleeve in ("relative", "directional")
        for place, segment in enumerate(("1", "2-4"), start=1)
        for expert in ("ridge", "trees")
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS["evidence"]))


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """Return a function that makes the frames; ``drift`` adds a return per bar to accounts by name."""

    def make(seeds: int = SEEDS, drift: dict[str, float] | None = None, seed: int = 0) -> RunFrames:
        rng = np.random.default_rng(seed)
        headline = "ensemble" if seeds > 1 else "seed_0"
        names = list(dict.fromkeys([headline, *(f"seed_{number}" for number in range(seeds)), *BASELINES]))
        accounts = _accounts(rng, names, drift or {})
        curves, agents = _training(rng, seeds)
        return RunFrames(
            accounts=accounts,
            positions=_positions(accounts),
            trades=_trades(rng, names),
            holdings=_holdings(accounts),
            actions=_actions(headline),
            regime_posteriors=_posteriors(rng),
            training_curves=curves,
            agent_table=agents,
            masks=_masks(headline),
            value_at_risk=_exceedances(),
            robustness=_robustness(rng, headline, seeds),
            evidence=_evidence(),
        )

    return make


@pytest.fixture(scope="session")
def facts() -> RunFacts:
    """Facts of the synthetic run."""
    return RunFacts(PERIODS_PER_YEAR, "survivorship_biased")
