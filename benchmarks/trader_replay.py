"""Replay of a test block through the trader's agents and feed against the backtest's account. Prints JSON.

    python benchmarks/trader_replay.py                    # last test block of the default environment's artifacts
    python benchmarks/trader_replay.py --data data/smoke  # of another environment
    python benchmarks/trader_replay.py --planted          # 2,000 shipped bars with planted events, random agents

Every row is decided at by one trader that goes on, and by one that is started anew every ``--restart`` rows from the
account that its last decision kept, as JSON. Bits of both are compared, and equity, actions and legal levels with the
backtest. `--planted` has two agents of four members with shorts, orders a bar late that fill in parts, stops, halts,
splits and dividends. `advance_milliseconds` is the time from a row to its decision.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle, load_agents
from sentio_kedro.config import BacktestParameters, RobustnessParameters
from sentio_kedro.datasets import AlignedBarsDataset, FoldsDataset
from sentio_kedro.evaluation.backtest.backtest import backtest_folds
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.serving.accounts import account_report, accounts_to_json
from sentio_kedro.serving.following.state import stamp_of
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.contract import BarRow, Decision, Simulated
from sentio_kedro.trader.decider import SessionDecider
from sentio_kedro.trader.feeds.replay import ReplayFeed, last_block
from sentio_kedro.trader.identity import order_id

NAME = "benchmark"
SPLITS, DIVIDENDS, HALTS = 0.005, 0.02, 0.003  # shares of planted bars
QUICK = BacktestParameters(
    baselines=[],
    robustness=RobustnessParameters(cost_multipliers=None, latency_bars=None, start_shares=None, paths=None),
)


@dataclass(frozen=True)
class Block:
    """A test block and what the backtest made of it.

    Attributes:
        agents: Agents of the fold.
        bars: Bars outside the lockbox.
        stamps: First row, row at which the account closes, last bar.
        account: Account at the first row, as `account_states.json` has it.
        accounts: Frame `accounts` of the account.
        actions: Frame `actions` of the account.
        traced: Whether networks are traced.
    """

    agents: Sequence[AgentBundle]
    bars: AlignedBars
    stamps: tuple[str, str, str]
    account: dict[str, Any]
    accounts: pd.DataFrame
    actions: pd.DataFrame
    traced: bool = True

    @property
    def judged(self) -> np.ndarray:
        """Equity after each row."""
        return np.asarray(self.accounts["equity"])

    def feed(self, start: str | None = None) -> ReplayFeed:
        """Return the feed from a bar on."""
        first, closing, stop = self.stamps
        return ReplayFeed(self.bars, start or first, ReplayClock(), stop=stop, closing=closing)

    def rows(self) -> list[BarRow]:
        """Return all rows after the first."""

        async def taken() -> list[BarRow]:
            return [row async for row in self.feed().rows(self.stamps[0])]

        return asyncio.run(taken())

    def started(self, account: dict[str, Any] | None = None, bar: str | None = None) -> tuple[SessionDecider, Decision]:
        """Return agents that stand at a bar, by default at the first."""
        decider = SessionDecider(self.agents, NAME, traced=self.traced)
        history = asyncio.run(self.feed(bar).history(decider.required_bars))
        return decider, decider.start(history, account or self.account, frozenset())


def from_artifacts(data: Path, *, traced: bool = True) -> Block:
    """Read a finished run."""
    folds: Folds = FoldsDataset(filepath=str(data / "05_model_input/folds.json")).load()
    fold = folds.folds[-1].number
    agents = [agent for agent in load_agents(data / "06_models/agents").values() if agent.spec.fold == fold]
    bars: AlignedBars = AlignedBarsDataset(filepath=str(data / "02_intermediate/aligned_bars.parquet")).load()
    bars, output = bars.rows(folds.open_bars), data / "07_model_output"
    name = "ensemble" if len(agents) > 1 else f"seed_{agents[0].spec.seed}"
    frames = [
        pd.read_parquet(output / f"{frame}.parquet", filters=[("fold", "==", fold), ("account", "==", name)])
        for frame in ("accounts", "actions")
    ]
    return Block(
        agents,
        bars,
        last_block(folds, bars, agents[0].spec.trading.orders.latency_bars),
        json.loads((output / "account_states.json").read_text())[f"fold_{fold}"],
        *frames,
        traced,
    )


def tested_on(bars: AlignedBars, agents: Sequence[AgentBundle], rows: Segment, *, traced: bool = True) -> Block:
    """Let the backtest trade ``rows`` from a fresh account."""
    fold, trading = Fold(agents[0].spec.fold, (), (), (rows,)), agents[0].spec.trading
    features = compute_features(bars, agents[0].spec.features)
    frames = backtest_folds(bars, features, [fold], {one.name: one for one in agents}, trading, QUICK, 17_520.0)
    state = frames["states"].iloc[0]
    report = account_report(state["account"], bars.symbols, state["timestamp"].to_datetime64())
    ends = rows.start, rows.stop - 1 - trading.orders.latency_bars, rows.stop
    first, closing, stop = (stamp_of(bars.timestamps[row]) for row in ends)
    frame, actions = (frames[name].query("account == 'ensemble'") for name in ("accounts", "actions"))
    account = json.loads(json.dumps(accounts_to_json({"first": report})))["first"]
    return Block(agents, bars, (first, closing, stop), account, frame, actions, traced)


def planted(data: Path, rows: int) -> Block:
    """Plant halts, splits and dividends into shipped bars, and let random agents trade them."""
    from serving import random_agent  # noqa: PLC0415 - a benchmark of its own

    bars: AlignedBars = AlignedBarsDataset(filepath=str(data / "02_intermediate/aligned_bars.parquet")).load()
    agents = []
    for seed in (0, 1):
        agent = random_agent(seed)
        given, spec = agent.spec.trading, agent.spec
        trading = replace(
            given,
            orders=replace(given.orders, latency_bars=1, participation=0.0005, stop_loss=0.02),
            carry=replace(given.carry, interest_rate=0.02),
        )
        agents.append(replace(agent, spec=replace(spec, symbols=list(bars.symbols), trading=trading)))
    first = 2 * agents[0].spec.required_bars + 100
    bars, rng = bars.rows(slice(17_000, 17_000 + first + rows + 2)), np.random.default_rng(0)
    shape, late = bars.close.shape, np.arange(len(bars.timestamps)) >= first
    split = np.where((rng.random(shape) < SPLITS) & late[:, None], rng.choice([0.5, 2.0, 3.0], shape), 1.0)
    dividend = np.where((rng.random(shape) < DIVIDENDS) & late[:, None], 0.001 * bars.close, 0.0)
    ratio = np.cumprod(split, axis=0)
    columns = {name: getattr(bars, name) / ratio for name in ("open", "high", "low", "close")}
    columns |= {"volume": bars.volume * ratio, "dividend": dividend / ratio, "split": split}
    halted = np.zeros(shape, bool)
    for row, asset in np.argwhere((rng.random(shape) < HALTS) & late[:, None]):
        halted[row : row + int(rng.integers(1, 40)), asset] = True
    halted[halted.all(axis=1)] = False
    columns = {name: np.where(bars.present, column, np.nan) for name, column in columns.items()}
    return tested_on(bars.with_columns(columns).without(halted), agents, Segment(first, first + rows))


def sent(decision: Decision) -> Simulated:
    """Send all orders of a decision."""
    return Simulated(frozenset(order_id(NAME, decision.bar, symbol) for symbol in decision.orders))


def followed(
    tested: Block, restart: int | None = None, seconds: list[tuple[float, float]] | None = None
) -> Iterator[Decision]:
    """Yield the decisions at all rows, of agents that are started anew after every ``restart`` of them.

    Raises:
        RuntimeError: If agents decide otherwise after a restart.
    """
    decider, decision = tested.started()
    yield decision
    for number, row in enumerate(tested.rows(), 1):
        began = time.perf_counter(), time.thread_time()
        decision = decider.advance(row, sent(decision))
        if seconds is not None:
            seconds.append((time.perf_counter() - began[0], time.thread_time() - began[1]))
        yield decision
        if restart and number % restart == 0:
            decider, again = tested.started(json.loads(json.dumps(decision.account)), decision.bar)
            if text(again) != text(replace(decision, fills=(), charges=(), splits={})):
                raise RuntimeError(f"Agents decided otherwise after a restart at {decision.bar}.")


def text(decision: Decision) -> str:
    """Return a decision as text, to the last bit."""
    return json.dumps(asdict(decision), sort_keys=True)


def folded(decisions: Sequence[Decision]) -> Iterator[tuple[float, dict[str, float]]]:
    """Yield cash and shares that follow from fills, charges and splits alone, from the second decision on."""
    cash, shares = decisions[0].cash, dict(decisions[0].shares)
    for decision in decisions[1:]:
        for symbol, ratio in decision.splits.items():
            shares[symbol] *= ratio
        for fill in decision.fills:
            shares[fill.symbol] += fill.shares
            cash -= fill.shares * fill.price + fill.fee + sum(fill.costs.values())
        cash += sum(charge.cash for charge in decision.charges)
        yield cash, dict(shares)


def counted(decisions: Sequence[Decision], levels: int) -> np.ndarray:
    """Count how often each level was taken and was legal, where several were ``[2, A, levels]``."""
    legal = np.array([list(decision.legal.values()) for decision in decisions])  # [T, A, levels]
    actions = np.array([list(decision.actions.values()) for decision in decisions])[..., None]
    free = (actions >= 0) & (legal.sum(-1, keepdims=True) > 1)
    return np.stack([(free & (actions == np.arange(levels))).sum(axis=0), (free & legal).sum(axis=0)])


def recorded(actions: pd.DataFrame, levels: Sequence[float]) -> np.ndarray:
    """Return the same of the backtest."""
    labels = [f"{level:+g}" if level else "0" for level in levels]
    tables = [actions.pivot(index="symbol", columns="action", values=name)[labels] for name in ("count", "legal")]
    return np.stack([table.to_numpy() for table in tables])


def partial_fills(decisions: Sequence[Decision], latency: int) -> int:
    """Count fills that are smaller than their orders, splits apart."""
    count = 0
    for place in range(latency + 1, len(decisions)):
        ordered = decisions[place - 1 - latency].orders
        for fill in decisions[place].fills:
            if fill.order and not decisions[place].splits:
                count += abs(fill.shares) < 0.99 * abs(ordered.get(fill.symbol, 0.0))
    return count


def report(tested: Block, restart: int) -> dict[str, Any]:
    """Replay with and without restarts, and compare."""
    seconds: list[tuple[float, float]] = []
    whole = list(followed(tested, seconds=seconds))
    again = followed(tested, restart)
    different = [one.bar for one, other in zip(whole, again, strict=True) if text(one) != text(other)]
    equity = np.array([decision.equity for decision in whole[1:]])
    cash, shares = zip(*folded(whole), strict=True)
    held = np.array([list(decision.shares.values()) for decision in whole[1:]])
    levels, fills = tested.agents[0].spec.trading.levels, [fill for decision in whole for fill in decision.fills]
    counts = counted(whole[:-1], len(levels))
    return {
        "rows": len(equity),
        "assets": len(tested.bars.symbols),
        "agents": len(tested.agents),
        "fills": len(fills),
        "partial_fills": partial_fills(whole, tested.agents[0].spec.trading.orders.latency_bars),
        "exits_inside_bars": sum(fill.id.endswith("|exit") for fill in fills),
        "bars_with_shorts": int((held < 0.0).any(axis=1).sum()),
        "halted_bars": sum(len(tested.bars.symbols) - len(row.bars) for row in tested.rows()),
        "splits_of_held": sum(bool(one.shares[symbol]) for one in whole for symbol in one.splits),
        "dividends": sum(charge.kind == "dividend" for decision in whole for charge in decision.charges),
        "restarts": len(equity) // restart,
        "bars_with_other_bits_after_restarts": len(different),
        "first_of_them": different[:1],
        "actions_and_legal_levels_equal": bool((counts == recorded(tested.actions, levels)).all()),
        "levels_counted": counts[0].sum(axis=0).tolist(),
        "equity": equity[-1],
        "equity_of_the_backtest": tested.judged[-1],
        "largest_relative_difference_of_equity": float(np.abs(equity / tested.judged - 1.0).max()),
        "largest_difference_of_folded_cash_over_equity": float(
            np.abs((np.array(cash) - [decision.cash for decision in whole[1:]]) / equity).max()
        ),
        "largest_relative_difference_of_folded_shares": float(
            np.abs((np.array([list(part.values()) for part in shares]) - held) / np.maximum(np.abs(held), 1.0)).max()
        ),
        "bytes_of_an_account": int(np.median([len(json.dumps(decision.account)) for decision in whole])),
        "advance_milliseconds": {
            clock: {"median": 1e3 * np.median(times), "p99": 1e3 * np.quantile(times, 0.99)}
            for clock, times in zip(("wall", "processor"), np.array(seconds).T, strict=True)
        },
    }


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--restart", type=int, default=50)
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--rows", type=int, default=2_000, help="of planted bars")
    options = parser.parse_args()
    tested = planted(options.data, options.rows) if options.planted else from_artifacts(options.data)
    print(json.dumps(report(tested, options.restart), indent=2))


if __name__ == "__main__":
    main()
