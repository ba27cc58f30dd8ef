"""The compiled walk against its twin, for every option and any market."""

from __future__ import annotations

from collections import Counter
from math import isnan, nan
from types import SimpleNamespace as Record
from typing import Any

import numpy as np
from tests.trading import twin, twin_limits
from tests.trading.cases import ACCOUNTS, CASH, STEPS, Case, random_case

from sentio_kedro.trading.records import Accounts
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS

SIMULATIONS = 64
MONEY = ("price_pnl", "commission", "spread", "impact", "borrow", "funding", "dividends", "traded")
FLAGS = ("ordered", "capped", "projected")


def plain(record: Any) -> Record:
    return Record(**dict(zip(record.dtype.names, record.item(), strict=True)))


def plain_account(accounts: Accounts, n: int) -> Record:
    """Account ``n`` as plain numbers."""
    account = plain(accounts.account[n])
    account.holdings = [plain(holding) for holding in accounts.holdings[n]]
    for name in ("in_flight", "session_highs", "day_trades"):
        setattr(account, name, getattr(accounts, name)[n].tolist())
    return account


def wishes(case: Case, n: int, step: int, legal: list[list[bool]]) -> tuple[list[float], list[int]]:
    """Requested positions and levels that the account's policy decides for."""
    policies, terms, assets = case.policies, case.terms, range(len(legal))
    unit = case.market.facts.unit[step]
    if step < policies.starts[n] or step > policies.closes[n]:
        return [nan for _ in assets], [-1 for _ in assets]
    if step == policies.closes[n]:
        return [0.0 for _ in assets], [-1 for _ in assets]
    if policies.kind[n] == TARGETS:
        return policies.targets[step, policies.source[n]].tolist(), [-1 for _ in assets]
    noise = policies.noise[step, policies.draws[n]]
    chosen = [max((noise[a, b], b) for b, may in enumerate(legal[a]) if may)[1] for a in assets]
    return [float(terms.levels[b] * unit[a]) for a, b in enumerate(chosen)], chosen


def follow(case: Case, account: Record, n: int, step: int) -> Record:
    """Let the twin take one step. Returns its ledger with legal levels, features and actions."""
    market, terms = case.market, case.terms
    facts, clock = [plain(fact) for fact in market.facts[step]], plain(market.clock[step])
    plainly = Record(rules=plain(terms.rules[0]), levels=terms.levels.tolist(), allocation=terms.allocation.tolist(),
                     charges=[plain(charge) for charge in terms.charges])  # fmt: skip
    view = twin_limits.see(account, facts, clock, market.regimes[step, case.models[n]].tolist(), plainly)
    legal = twin_limits.legal_levels(account, facts, view, plainly)
    features = twin_limits.features_of(account, view, plainly)
    requested, actions = wishes(case, n, step, legal)
    book = twin.step(account, facts, clock, view, requested, plainly)
    book.legal, book.features, book.actions = legal, features, actions
    book.liquidated = book.called and not view.called
    return book


def same(ours: Any, theirs: Any, scale: float, tolerance: float = 1e-9) -> bool:
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    both = np.isnan(ours) & np.isnan(theirs)
    with np.errstate(invalid="ignore"):
        return bool((both | (np.abs(ours - theirs) <= tolerance * scale) | (ours == theirs)).all())


def differences(
    case: Case, ledger: Any, accounts: Accounts, n: int, step: int, book: Record, twin_: Record
) -> set[str]:
    """Names of what differs by more than 1e-9 of the size of the account."""
    fills, total, price = ledger.fills[0, n], ledger.total[0, n], case.market.facts.next_close[step]
    traded = float(np.abs(fills.traded).sum() + np.abs(fills.filled_shares * price).sum())
    money = max(float(total.equity_before), abs(float(total.equity)), traded, 1e-6 * CASH)
    lines = book.lines
    found = {name: same(fills[name], [getattr(x, name) for x in lines], money) for name in MONEY}
    found |= {name: same(fills[name] * price, [getattr(x, name) for x in lines] * price, money) for name in
              ("filled_shares", "shares")}  # fmt: skip
    found |= {name: [bool(getattr(x, name)) for x in lines] == fills[name].tolist() for name in FLAGS}
    found["exit_price"] = same(fills.exit_price / price, [x.exit_price for x in lines] / price, 1.0)
    found["position"] = same(
        fills.position, [x.position for x in lines], max(1.0, money / max(book.equity_before, 1e-6))
    )
    found |= {name: same(total[name], getattr(book, name), money) for name in
              ("equity_before", "equity", "financing", "shortfall")}  # fmt: skip
    found["called"] = bool(total.called) == bool(book.called)
    found["headroom"] = same(total.headroom, book.headroom, 1.0)
    found["legal"] = ledger.legal[0, n].tolist() == book.legal
    found["actions"] = ledger.actions[0, n].tolist() == book.actions
    found["features"] = same(ledger.features[0, n], book.features, 1.0)
    account, holdings = accounts.account[n], accounts.holdings[n]
    found["cash"] = same(account.cash, twin_.cash, money)
    marks = max(money, float(account.peak_equity))
    for name in ("equity", "peak_equity", "session_equity"):
        found["state " + name] = same(account[name], getattr(twin_, name), marks)
    found["alive"] = bool(account.alive) == bool(twin_.alive)
    found["state shares"] = same(holdings.shares * price, [h.shares for h in twin_.holdings] * price, money)
    found["entry_price"] = same(holdings.entry_price / price, [h.entry_price for h in twin_.holdings] / price, 1.0)
    for name in ("bars_held", "trades_today", "opened_today"):
        found[name] = holdings[name].tolist() == [float(getattr(h, name)) for h in twin_.holdings]
    queues = np.array(twin_.in_flight).reshape(accounts.in_flight[n].shape)
    found["in_flight"] = same(accounts.in_flight[n] * price[:, None], queues * price[:, None], money)
    found["session_highs"] = same(accounts.session_highs[n], twin_.session_highs, marks)
    found["day_trades"] = accounts.day_trades[n].tolist() == twin_.day_trades
    return {name for name, equal in found.items() if not equal}


def events(book: Record) -> Counter[str]:
    return Counter(
        {
            "trades": sum(line.traded > 0 for line in book.lines),
            "exits": sum(not isnan(line.exit_price) for line in book.lines),
            "margin calls": bool(book.called),
            "liquidations": bool(book.liquidated),
            "shortfalls": book.shortfall > 0,
            "projected": sum(line.projected for line in book.lines),
        }
    )


def test_the_walk_equals_its_twin_for_all_options() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SIMULATIONS):
        case = random_case(seed)
        accounts = case.accounts.copy()
        slow = [plain_account(accounts, n) for n in range(ACCOUNTS)]
        for step in range(STEPS):
            before = accounts.copy()
            ledger = simulate(
                case.market, accounts, case.policies, case.terms, np.array([[step]]), models=case.models,
                first_step=step, trace=True,
            )  # fmt: skip
            for n in range(ACCOUNTS):
                book = follow(case, slow[n], n, step)
                apart = differences(case, ledger, accounts, n, step, book, slow[n])
                if apart:  # noise of 1e-16 can decide at a threshold: both then agree from the same account
                    counts["thresholds"] += 1
                    slow[n] = plain_account(before, n)
                    book = follow(case, slow[n], n, step)
                    apart = differences(case, ledger, accounts, n, step, book, slow[n])
                assert not apart, (seed, step, n, apart)
                counts += events(book)
                counts["steps"] += 1
    assert counts["steps"] == SIMULATIONS * STEPS * ACCOUNTS
    assert counts["thresholds"] <= 1e-3 * counts["steps"]
    assert all(count > 0 for event, count in counts.items() if event != "thresholds"), counts
    assert set(counts) >= {"trades", "exits", "margin calls", "liquidations", "shortfalls", "projected"}
