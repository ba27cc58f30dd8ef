"""A market that never closes beside an exchange, hourly on one grid: each symbol counts its own sessions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sentio_kedro.config import IngestionParameters, TradingParameters
from sentio_kedro.config.symbols import SymbolRules
from sentio_kedro.config.trading import own_calendars
from sentio_kedro.market.ingestion.adjustment import adjustment_factors
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.panels import bar_share, panel_clock, session_bars, symbol_clocks
from sentio_kedro.market.ingestion.session_checks import placed_in_sessions
from sentio_kedro.market.ingestion.sessions import session_schedule
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.market.risk import MIN_VOLATILITY, risk_facts, trading_lookback
from sentio_kedro.market.tensors import delisted_rows, market_tensors
from sentio_kedro.trading.accounts import hold_positions, open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.performance import sharpe_ratio
from sentio_kedro.trading.simulate import net_returns, simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies

HOUR = np.timedelta64(1, "h")
ALWAYS, EXCHANGE = 0, 1  # columns
MIXED = TradingParameters(preset="none", symbols={"BTC": {"calendar": "24/7"}, "SPY": {"calendar": "XNYS"}})  # type: ignore[dict-item]
PLAIN = TradingParameters(preset="none")
ALONE = TradingParameters(preset="none", calendar="XNYS")


def exchange_ends(first: str, last: str) -> np.ndarray:
    """Ends of the hourly bars of XNYS: on the half hour, the last one at the close."""
    days = np.array([first, last], "datetime64[ns]")
    sessions = session_schedule(days, "XNYS")
    ends = [
        np.minimum(opens + HOUR * np.arange(1, 8), closes)
        for opens, closes in zip(sessions.opens, sessions.closes, strict=True)
        if days[0] < opens < days[1]
    ]
    return np.unique(np.concatenate(ends))


def panel(days: int = 70, seed: int | None = 0) -> AlignedBars:
    """Random walks; without a seed returns of +-1 % and +-0.5 %, and gaps of 2 % over the exchange's nights."""
    first = np.datetime64("2024-01-01T00:30", "ns")
    always = first + HOUR * np.arange(24 * days)
    exchange = exchange_ends("2024-01-01", str(always[-1]))
    grid = np.union1d(always, exchange)
    close, volume = np.full((2, len(grid), 2), np.nan)
    rng = np.random.default_rng(seed)
    for asset, ends, size in ((ALWAYS, always, 0.01), (EXCHANGE, exchange, 0.005)):
        rows = np.searchsorted(grid, ends)
        night = np.append(True, np.diff(ends) > HOUR) if asset == EXCHANGE else np.zeros(len(ends), bool)
        moves = np.where(night, 0.02, size) * (
            (-1.0) ** np.arange(len(ends)) if seed is None else rng.standard_normal(len(ends)) + 0.03
        )
        close[rows, asset] = 100.0 * np.exp(moves.cumsum())
        volume[rows, asset] = (10.0, 1000.0)[asset]
    return AlignedBars(grid, ("BTC", "SPY"), close, close, close, close, volume)


def alone(bars: AlignedBars, asset: int) -> tuple[AlignedBars, np.ndarray]:
    """One symbol on its own bars, and their rows in the panel."""
    rows = np.flatnonzero(bars.present[:, asset])
    return bars.assets(slice(asset, asset + 1)).rows(rows), rows


def facts_of(bars: AlignedBars, trading: TradingParameters, first: int = 0):
    factors = adjustment_factors(bars)
    total = (bars if factors is None else factors.applied(bars)).held_close()
    return risk_facts(bars, total, factors, panel_clock(bars, trading), trading, first)


@pytest.mark.parametrize(("asset", "trading"), [(ALWAYS, PLAIN), (EXCHANGE, ALONE)])
def test_risk_is_that_of_the_symbol_s_own_bars_and_holds_until_its_next(asset: int, trading: TradingParameters) -> None:
    bars = panel()
    found, (own, rows) = facts_of(bars, MIXED), alone(bars, asset)
    wanted = facts_of(own, trading)
    place = np.searchsorted(rows, np.arange(len(bars.timestamps)), side="right") - 1
    for name in ("volatility", "daily_volatility", "daily_volume", "bar_volume", "tail"):
        mixed, expected = getattr(found, name)[:, asset], getattr(wanted, name).reshape(len(rows))
        assert mixed[rows].tobytes() == expected.tobytes(), name
        assert np.array_equal(mixed[place >= 0], expected[place[place >= 0]]), name
    assert (found.volatility[place < 0, asset] == MIN_VOLATILITY).all()


def test_known_volatility_and_volume_are_exact() -> None:
    bars = panel(seed=None)
    found = facts_of(bars, MIXED)
    whole = bars.timestamps == np.datetime64("2024-02-29T20:30", "ns")  # long after the first twenty sessions
    row = int(np.flatnonzero(whole)[0])
    nights = 0.02**2 + 6 * 0.005**2
    assert found.daily_volatility[row] == pytest.approx([0.01 * 24**0.5, nights**0.5], rel=1e-12)
    assert found.volatility[row] == pytest.approx([0.01, (nights / 7) ** 0.5], rel=1e-12)
    assert found.daily_volume[row] == pytest.approx([240.0, 7000.0], rel=1e-12)
    assert found.bar_volume[row] == pytest.approx([10.0, 1000.0], rel=1e-12)
    assert session_bars(bars, MIXED).tolist() == [24.0, 7.0]
    assert session_bars(alone(bars, EXCHANGE)[0], ALONE) == 7.0


def test_the_lookback_s_newest_bars_give_the_same_risk_at_any_hour_of_the_week() -> None:
    bars, trading = panel(days=60), replace(MIXED, memory_sessions=4)
    lookback = trading_lookback(trading, panel_clock(bars, trading))
    assert lookback < len(bars.timestamps) // 2
    whole = facts_of(bars, trading)
    for stop in range(len(bars.timestamps) - 160, len(bars.timestamps), 53):
        first = stop - lookback - 1
        part = facts_of(bars.rows(slice(first, stop)), trading, lookback - 1)
        for name, values in part._asdict().items():
            assert values[-1] == pytest.approx(getattr(whole, name)[stop - 1], rel=1e-9), name


def test_a_path_keeps_each_symbol_s_sessions() -> None:
    clock = panel_clock(panel(), MIXED)
    rows = np.r_[100:160, 400:460, 405:430]
    path = clock.along(rows)
    for part, whole in zip(path.own, clock.own, strict=True):
        numbers = dict(zip(whole.rows.tolist(), whole.clock.session.tolist(), strict=True))
        assert part.rows.tolist() == [place for place, row in enumerate(rows) if row in numbers]
        own = [numbers[row] for row in rows if row in numbers]
        places = [whole.rows.tolist().index(row) for row in rows if row in numbers]
        begins = np.append(False, (np.diff(own) != 0) | (np.diff(places) != 1))
        assert part.clock.session.tolist() == begins.cumsum().tolist()
    assert [len(part.rows) for part in clock.rows(slice(0, 200)).own] == [
        int((part.rows < 200).sum()) for part in clock.own
    ]


def test_delisting_counts_the_sessions_of_the_symbol_s_own_calendar() -> None:
    bars = panel()
    schedule = session_schedule(bars.timestamps, "XNYS")
    sessions = schedule.closes[(schedule.closes > bars.timestamps[0]) & (schedule.closes <= bars.timestamps[-1])]

    def ending(column: int, at: np.datetime64) -> list[list[int]]:
        gone = bars.without((bars.timestamps > at)[:, None] & (np.arange(2) == column))
        clock = panel_clock(gone, MIXED)
        found = delisted_rows(gone, clock.session, clock.own)
        return [] if found is None else np.argwhere(found).tolist()

    assert ending(EXCHANGE, sessions[-21]) == []  # 20 sessions are missing, in 28 days and more
    after = int(np.searchsorted(bars.timestamps, sessions[-22], side="right"))
    assert ending(EXCHANGE, sessions[-22]) == [[after, EXCHANGE]]
    last = np.datetime64("2024-03-10T23:30", "ns")
    assert bars.timestamps[-1] == last
    assert ending(ALWAYS, last - 20 * 24 * HOUR) == []
    assert ending(ALWAYS, last - 21 * 24 * HOUR) != []


def test_a_symbol_without_a_bar_has_floors_and_does_not_end() -> None:
    bars = panel(days=10)
    silent = bars.without(np.array([[False, True]]))
    clock = panel_clock(silent, MIXED)
    assert (facts_of(silent, MIXED).volatility[:, EXCHANGE] == MIN_VOLATILITY).all()
    assert delisted_rows(silent, clock.session, clock.own) is None


@pytest.mark.parametrize("asset", [ALWAYS, EXCHANGE])
def test_the_sharpe_ratio_of_a_held_symbol_is_that_of_its_own_bars(asset: int) -> None:
    bars = panel(days=364, seed=5)
    own, _ = alone(bars, asset)
    per_year = (365.25 * 24, 252 * 7)[asset]
    simple = torch.from_numpy(own.close[1:, 0] / own.close[:-1, 0] - 1.0)
    wanted = float(sharpe_ratio(simple, per_year))
    held = bars.held_close()[:, asset]
    first = int(np.flatnonzero(np.isfinite(held))[0])
    returns = torch.from_numpy(held[first + 1 :] / held[first:-1] - 1.0)
    mixed = periods_per_year(bars.timestamps, 365.0, mixed=True)
    assert float(sharpe_ratio(returns, mixed)) == pytest.approx(wanted, rel=0.01)
    share = bar_share(bars.present)
    assert share[asset] * mixed == pytest.approx(per_year, rel=0.01)


def test_one_calendar_is_annualised_as_before_and_has_no_clock_of_its_own() -> None:
    bars = panel()
    assert periods_per_year(bars.timestamps, 365.0) == 365.0 * 25.0  # at 21:00 only the exchange has a bar
    assert own_calendars(PLAIN, bars.symbols) == {}
    assert panel_clock(bars, PLAIN).own == ()


def test_a_short_pays_for_the_weekend_by_the_hour() -> None:
    lent = {**MIXED.symbols, "SPY": replace(MIXED.symbols["SPY"], borrow_rate=0.365)}
    setting = replace(MIXED, symbols=lent)
    bars = panel(days=21, seed=None)
    market = market_tensors(bars, np.zeros((*bars.close.shape, 1)), np.ones((len(bars.timestamps), 1)), setting)
    friday, monday = (
        int(np.flatnonzero(bars.timestamps == np.datetime64(end, "ns"))[0])
        for end in ("2024-01-05T21:00", "2024-01-08T15:30")
    )
    facts = market_facts(market, friday, monday, setting)
    accounts = open_accounts(1, 2, setting)
    close = market.close.numpy()[friday]
    hold_positions(accounts, np.array([[0.0, -0.5]]), close[None])
    policies = make_policies(np.array([TARGETS]), 2, 3, targets=np.full((monday - friday, 1, 2), np.nan))
    ledger = simulate(facts, accounts, policies, terms_of(setting, 2))
    days = (2 * 24 + 18.5) / 24
    shares = 0.5 * setting.initial_cash / close[EXCHANGE]
    assert ledger.fills.borrow[:, 0, EXCHANGE].sum() == pytest.approx(shares * close[EXCHANGE] * 0.365 * days / 365)
    assert len(net_returns(ledger)) == monday - friday


def test_bars_outside_the_calendar_of_their_symbol_and_unknown_calendars_are_refused_by_name() -> None:
    bars = panel(days=10)
    rules = {"BTC": SymbolRules(calendar="XNYS"), "SPY": SymbolRules(calendar="24/7")}
    with pytest.raises(ValueError, match=r"the sessions of `trading.symbols.BTC.calendar` XNYS: 2024-01-01T00:30"):
        placed_in_sessions(bars, IngestionParameters(), TradingParameters(symbols=rules))
    with pytest.raises(ValueError, match=r"`trading.symbols.SPY.calendar` must be a name .*'XNYZ'.*names like"):
        symbol_clocks(bars, {"SPY": "XNYZ"})
