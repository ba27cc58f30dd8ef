"""The vectorised step against its slow readable twin, and properties that hold for all settings."""

from collections import Counter
from typing import Any, NamedTuple

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trading import twin
from torch import Tensor

from sentio_kedro.config import (
    CarryParameters,
    CostParameters,
    MarginParameters,
    MaskParameters,
    OrderParameters,
    TradingParameters,
)
from sentio_kedro.trading.accounts import AccountState, Decision, Fill, Variation, open_accounts
from sentio_kedro.trading.action_masks import LAYERS, forbidden_shares, legal_actions
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.step_data import StepData

DOUBLE = torch.float64
LEVELS = ([-1.0, 0.0, 1.0], [-1.0, -0.5, 0.0, 0.5, 1.0], [0.0, 1.0], [-1.0, 0.0], [-0.3, 0.0, 0.2, 0.7, 1.0])
MONEY = ("cash", "equity", "peak_equity")
SHARES = ("shares", "working", "in_flight")
TOTALS = ("equity_before", "equity", "financing", "shortfall")
LINES = ("price_pnl", "commission", "spread", "impact", "borrow", "funding", "dividends", "traded")


def maybe(strategy: st.SearchStrategy[Any], off: Any = None, share: int = 3) -> st.SearchStrategy[Any]:
    """On in one of ``share`` draws."""
    return st.sampled_from(range(share)).flatmap(lambda draw: strategy if draw == share - 1 else st.just(off))


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


@st.composite
def trading_parameters(draw: st.DrawFn) -> TradingParameters:
    """Every option on or off, with any value that can be met."""
    gross = draw(st.sampled_from([0.7, 1.0, 2.0, 4.0]) | between(0.5, 4.0))
    ceiling = min(1.0, 1.0 / gross) * (1.0 - 1e-9)  # so that rounding leaves 1 / ceiling at or above the gross limit
    initial = draw(maybe(st.just(ceiling) | between(0.5 * ceiling, ceiling), share=2))
    ceiling = initial or ceiling
    maintenance = draw(maybe(between(0.4 * ceiling, ceiling), share=2))
    return TradingParameters(
        initial_cash=draw(st.sampled_from([1_000.0, 20_000.0, 300_000.0])),
        levels=draw(st.sampled_from(LEVELS)),
        gross_limit=gross,
        net_limit=draw(maybe(between(0.1, 3.0))),
        var_limit=draw(maybe(between(0.02, 0.5))),
        max_position=draw(maybe(between(0.2, 4.0), 10.0, share=2)),
        max_drawdown=draw(maybe(between(0.05, 0.99), share=2)),
        drawdown_soft_limit=draw(between(0.0, 0.9)),
        calendar="XNYS",
        costs=CostParameters(
            commission_bps=draw(between(0.0, 30.0)),
            commission_per_share=draw(maybe(between(0.001, 0.1), 0.0)),
            min_commission=draw(maybe(between(0.01, 2.0), 0.0)),
            half_spread_bps=0.0,
            impact=draw(st.sampled_from([0.0, 1.0])),
        ),
        carry=CarryParameters(
            borrow_rate=draw(maybe(between(0.01, 0.5), 0.0)),
            financing_rate=draw(maybe(between(0.01, 0.5), 0.0)),
            interest_rate=draw(maybe(between(0.01, 0.5), 0.0)),
            funding=draw(st.booleans()),
        ),
        margin=MarginParameters(initial=initial, maintenance=maintenance),
        orders=draw(order_parameters()),
        masks=draw(mask_parameters()),
    )


@st.composite
def order_parameters(draw: st.DrawFn) -> OrderParameters:
    return OrderParameters(
        latency_bars=draw(st.sampled_from([0, 0, 1, 3])),
        participation=draw(maybe(st.just(0.1))),
        unfilled=draw(st.sampled_from(["drop", "carry"])),
        lot_size=draw(st.sampled_from([None, None, 1.0, 0.37])),
        min_notional=draw(maybe(between(1.0, 400.0))),
        stop_loss=draw(maybe(between(0.005, 0.3), share=2)),
        take_profit=draw(maybe(between(0.005, 0.3) | st.just(1.5), share=2)),
        flat_at_close=draw(maybe(st.just(True), False)),
    )


@st.composite
def mask_parameters(draw: st.DrawFn) -> MaskParameters:
    on = {name: draw(maybe(st.just(True), False, share=4)) for name in ("regime", "crisis", "first", "leave", "kelly")}
    return MaskParameters(
        concentration=draw(maybe(between(0.1, 1.0), share=4)),
        daily_loss=draw(maybe(between(0.005, 0.2), share=4)),
        position_var=draw(maybe(between(0.01, 0.5), share=4)),
        target_volatility=draw(maybe(between(0.01, 0.5), share=4)),
        regime_exposure=[1.0, 0.5] if on["regime"] else None,
        crisis_probability=0.9 if on["crisis"] else None,
        first_minutes=30.0 if on["first"] else None,
        overnight=not on["leave"],
        liquidity=draw(maybe(between(0.01, 1.0), share=4)),
        no_short=draw(maybe(st.just(["AAA"]), [], share=4)),
        trades_per_day=draw(maybe(st.integers(1, 4), share=4)),
        pattern_day_trader=draw(maybe(st.just(True), False)),
        min_holding_bars=draw(maybe(st.integers(1, 3), share=4)),
        kelly_fraction=0.5 if on["kelly"] else None,
    )


class Chance:
    """Draws of one seed, float64."""

    def __init__(self, seed: int) -> None:
        self.draws = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.draws, dtype=DOUBLE)

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.draws, dtype=DOUBLE)

    def happens(self, share: float, *shape: int) -> Tensor:
        return self.between(0.0, 1.0, *shape) < share

    def one_of(self, values: list[float], *shape: int) -> Tensor:
        index = torch.randint(len(values), shape, generator=self.draws)
        return torch.tensor(values, dtype=DOUBLE)[index]


def random_step_data(chance: Chance, steps: int, accounts: int, assets: int, trading: TradingParameters) -> StepData:
    """Bars of accounts x assets: gaps, halts, splits, delistings, sessions, thin volumes, calm and violent prices."""
    shape, once = (steps, accounts, assets), (steps, accounts, 1)
    masks, orders, carry = trading.masks, trading.orders, trading.carry
    size = chance.one_of([0.003, 0.02, 0.1, 0.3], 1, accounts, 1)
    gap, bar = (size * chance.normal(*shape) for _ in range(2))
    wick, tail = (size * chance.normal(*shape).abs() for _ in range(2))
    delisted = chance.happens(0.01, *shape)
    after_delisting = delisted.cumsum(0) > 0
    delisted &= after_delisting.cumsum(0) == 1
    fillable = ~after_delisting & chance.happens(0.93, *shape)
    splits = fillable & chance.happens(0.8) & chance.happens(0.05, *shape)
    split = torch.where(splits, chance.one_of([2.0, 3.0, 0.5, 1.5], *shape), 1.0)
    move = torch.where(fillable, gap + bar, 0.0) - split.log()
    next_close = chance.between(5.0, 60.0, 1, accounts, assets) * move.cumsum(0).exp()
    close = torch.cat([next_close[:1] / move[:1].exp(), next_close[:-1]])
    opening = torch.where(fillable, next_close * (-bar).exp(), next_close)
    dividend = torch.where(fillable & chance.happens(0.1, *shape), 0.03 * opening, 0.0)
    typical = trading.initial_cash / next_close
    infinite = torch.full(once, float("inf"), dtype=DOUBLE)
    stops = orders.stop_loss is not None or orders.take_profit is not None
    counted = masks.trades_per_day is not None or masks.pattern_day_trader or masks.daily_loss is not None
    starts = chance.happens(0.3, *once)

    def if_on(on: object, value: Tensor) -> Tensor | None:
        return value if on else None

    return StepData(
        close=close,
        tradable=~after_delisting & chance.happens(0.93, *shape),
        open=opening,
        next_close=next_close,
        fillable=fillable,
        half_spread=chance.between(0.0, 0.003, *shape),
        high=if_on(stops, torch.maximum(opening, next_close) * torch.where(fillable, wick, 0.0).exp()),
        low=if_on(stops, torch.minimum(opening, next_close) * torch.where(fillable, -tail, 0.0).exp()),
        impact=if_on(trading.costs.impact, chance.between(0.0, 0.01, *shape) / typical.sqrt()),
        max_shares=if_on(orders.participation, chance.between(0.0, 1.5, *shape) * typical),
        split=if_on(splits.any(), split),
        dividend=if_on(chance.happens(0.7), dividend),
        funding=if_on(carry.funding, 0.01 * chance.normal(*shape)),
        delisted=delisted,
        years=if_on(
            carry.borrow_rate or carry.financing_rate or carry.interest_rate,
            chance.one_of([1 / 365, 3 / 365, 0.1], *once),
        ),
        session_starts=if_on(counted, starts),
        session_ends=if_on(orders.flat_at_close, torch.cat([starts[1:], starts[:1]])),
        must_leave=if_on(not masks.overnight, chance.happens(0.2, *once)),
        session_cap=if_on(masks.first_minutes, torch.where(chance.happens(0.2, *once), 0.0, infinite)),
        volatility=if_on(trading.var_limit or masks.position_var, chance.between(0.02, 0.3, *shape)),
        var_cap=if_on(masks.position_var, chance.between(0.05, 2.0, *shape)),
        volatility_cap=if_on(masks.target_volatility, chance.between(0.05, 2.0, *shape)),
        regime_cap=if_on(
            masks.regime_exposure or masks.crisis_probability is not None, chance.one_of([0.0, 0.3, 1.0, 2.0], *once)
        ),
        kelly_cap=if_on(masks.kelly_fraction, chance.one_of([0.0, 0.2, 0.7, 3.0], *shape)),
        liquidity=if_on(masks.liquidity, chance.between(0.05, 2.0, *shape) * trading.initial_cash),
        shortable=if_on(masks.no_short, chance.happens(0.5, assets)),
    )


def rows_of(row: StepData) -> list[StepData]:
    """The same facts for each account alone, as plain numbers."""
    accounts, assets = row.close.shape
    columns = {}
    for name, value in row._asdict().items():
        if value is None or name == "levels":
            columns[name] = [None] * accounts
        elif name in ("years", "session_starts", "session_ends", "must_leave", "session_cap", "regime_cap"):
            columns[name] = value[:, 0].tolist()
        else:
            columns[name] = value.expand(accounts, assets).tolist()
    return [StepData(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def accounts_of(state: AccountState) -> list[AccountState]:
    return [AccountState(*values) for values in zip(*(column.tolist() for column in state), strict=True)]


def variations_of(variation: Variation | None, accounts: int) -> list[twin.Variation]:
    if variation is None:
        return [twin.Variation()] * accounts
    given = {name: value[:, 0].tolist() for name, value in variation._asdict().items() if value is not None}
    return [twin.Variation(**{name: values[i] for name, values in given.items()}) for i in range(accounts)]


class Simulation(NamedTuple):
    """Inputs of a simulation of N accounts."""

    trading: TradingParameters
    step_data: StepData
    levels: Tensor
    holds: Tensor
    variation: Variation | None


def random_simulation(trading: TradingParameters, seed: int, steps: int, accounts: int) -> Simulation:
    chance = Chance(seed)
    assets = [1, 2, 5][seed % 3]
    shape = (steps, accounts, assets)
    step_data = random_step_data(chance, steps, accounts, assets, trading)
    levels = torch.where(
        chance.happens(0.8, *shape), chance.one_of(trading.levels, *shape), chance.between(-1.0, 1.0, *shape)
    )
    varied = [chance.happens(0.7).item() for _ in range(3)]
    variation = Variation(
        cost_multiplier=chance.between(0.0, 3.0, accounts, 1) if varied[0] else None,
        latency=(chance.between(0.0, 1.0, accounts, 1) * (trading.orders.latency_bars + 1)).long()
        if varied[1]
        else None,
        guarded=chance.happens(0.5, accounts, 1) if varied[2] else None,
    )
    return Simulation(trading, step_data, levels, chance.happens(0.4, *shape), variation if any(varied) else None)


def as_type(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def legal_of_all(simulation: Simulation, state: AccountState, step: int) -> tuple[Tensor, Tensor]:
    """Legal actions, and the share of levels that each layer forbids."""
    row = simulation.step_data.step(step)
    limits = position_limits(state, row, simulation.trading)
    return legal_actions(state, limits, row, simulation.trading), forbidden_shares(
        state.alive, state.equity, limits, row, simulation.trading
    )


def legal_of_each(simulation: Simulation, accounts: list[AccountState], step: int) -> tuple[Tensor, Tensor]:
    """The same by the twin."""
    rows = rows_of(simulation.step_data.step(step))
    both = [twin.legal(account, row, simulation.trading) for account, row in zip(accounts, rows, strict=True)]
    shares = [[forbidden[layer] for layer in LAYERS] for _, forbidden in both]
    return torch.tensor([legal for legal, _ in both]), torch.tensor(shares, dtype=DOUBLE)


def advance(simulation: Simulation, state: AccountState, step: int) -> tuple[AccountState, Fill]:
    """One vectorised step."""
    row = simulation.step_data.step(step)
    limits = position_limits(state, row, simulation.trading, simulation.variation)
    decision = Decision(simulation.levels[step].to(state.cash.dtype), simulation.holds[step])
    return execute(state, limits, decision, row, simulation.trading, simulation.variation)


def follow(
    simulation: Simulation, accounts: list[AccountState], step: int
) -> tuple[list[AccountState], list[twin.Ledger]]:
    """The same step by the twin, account by account."""
    rows = rows_of(simulation.step_data.step(step))
    variations = variations_of(simulation.variation, len(accounts))
    levels, holds = simulation.levels[step].tolist(), simulation.holds[step].tolist()
    both = [
        twin.step(account, level, hold, row, simulation.trading, variation)
        for account, level, hold, row, variation in zip(accounts, levels, holds, rows, variations, strict=True)
    ]
    return [account for account, _ in both], [book for _, book in both]


def differences(
    simulation: Simulation,
    step: int,
    got: tuple[AccountState, Fill],
    want: tuple[list[AccountState], list[twin.Ledger]],
    scale: Tensor | None = None,
) -> dict[str, Tensor]:
    """Largest difference of each field ``[N]``: of money over starting equity, of shares over what that buys."""
    state, fill = got
    accounts, books = want
    masks, orders = simulation.trading.masks, simulation.trading.orders
    scale = state.initial_equity if scale is None else scale
    close = simulation.step_data.next_close[step]
    slow = {
        name: torch.tensor([getattr(account, name) for account in accounts], dtype=DOUBLE)
        for name in AccountState._fields
    }
    errors: dict[str, Tensor] = {}

    def compare(name: str, fast: Tensor | None, slow: Tensor, unit: Tensor | float) -> None:
        there = torch.zeros_like(slow) if fast is None else fast.to(DOUBLE)
        error = ((there - slow).abs() / unit).nan_to_num(float("inf"))
        error = torch.where((there == slow) | (there.isnan() & slow.isnan()), 0.0, error)
        errors[name] = error.reshape(len(accounts), -1).amax(-1) if error.numel() else torch.zeros(len(accounts))

    for name in MONEY:
        compare(name, getattr(state, name), slow[name], scale)
    for name in SHARES:
        unit = scale[:, None] / close
        compare(name, getattr(state, name), slow[name], unit if name != "in_flight" else unit[..., None])
    compare("alive", state.alive, slow["alive"], 1.0)
    compare("bars_held", state.bars_held, slow["bars_held"], 1.0)
    if orders.stop_loss is not None or orders.take_profit is not None:
        compare("entry_price", state.entry_price, slow["entry_price"], close)
    alive_accounts = slow["alive"][:, None] > 0
    if masks.daily_loss is not None:
        alive = alive_accounts[:, 0]
        compare("session_equity", state.session_equity * alive, slow["session_equity"] * alive, scale)
    if masks.trades_per_day is not None:
        compare("trades_today", state.trades_today * alive_accounts, slow["trades_today"] * alive_accounts, 1.0)
    if masks.pattern_day_trader:
        compare("opened_today", state.opened_today * alive_accounts, slow["opened_today"] * alive_accounts, 1.0)
        compare("day_trades", state.day_trades * alive_accounts, slow["day_trades"] * alive_accounts, 1.0)
    for name in (*TOTALS, "headroom", "called"):
        column = torch.tensor([getattr(book, name) for book in books], dtype=DOUBLE)
        compare(f"ledger {name}", getattr(fill, name), column, scale if name in TOTALS else 1.0)
    for name in twin.LINES:
        column = torch.tensor([[line[name] for line in book.assets] for book in books], dtype=DOUBLE)
        unit = {"position": 1.0, "exit_price": close, "shares": scale[:, None] / close}
        unit["filled_shares"] = unit["shares"]
        value = getattr(fill, name)
        value = torch.full_like(column, float("nan")) if value is None and name == "exit_price" else value
        compare(f"ledger {name}", value, column, unit.get(name, scale[:, None]))
    return errors


def wrong_fields(errors: dict[str, Tensor], tolerance: float = 1e-9) -> dict[str, Tensor]:
    return {name: error for name, error in errors.items() if error.max() > tolerance}


def events_of(simulation: Simulation, books: list[twin.Ledger]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for book in books:
        counts["margin calls"] += book.called
        counts["shortfalls"] += book.shortfall > 0
        counts["exits"] += any(line["exit_price"] == line["exit_price"] for line in book.assets)
        counts["trades"] += any(line["traded"] for line in book.assets)
    return counts


def opened(simulation: Simulation, dtype: torch.dtype) -> AccountState:
    _, accounts, assets = simulation.levels.shape
    cash = torch.full((accounts,), simulation.trading.initial_cash, dtype=dtype)
    return open_accounts(cash, assets, simulation.trading.orders.latency_bars)


def mixed(take: Tensor, one: list[AccountState], other: list[AccountState]) -> list[AccountState]:
    return [a if use else b for use, a, b in zip(take.tolist(), one, other, strict=True)]


def test_the_vectorised_step_equals_its_twin_for_all_settings() -> None:
    counts: Counter[str] = Counter()

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(trading=trading_parameters(), seed=st.integers(0, 2**32 - 1))
    def simulate_both(trading: TradingParameters, seed: int) -> None:
        simulation = random_simulation(trading, seed, steps=12, accounts=16)
        state = opened(simulation, DOUBLE)
        slow = accounts_of(state)
        for step in range(simulation.step_data.steps):
            (legal, layers), (slow_legal, slow_layers) = (
                legal_of_all(simulation, state, step),
                legal_of_each(simulation, slow, step),
            )
            assert torch.equal(legal, slow_legal), step
            other = ((layers.to(DOUBLE) - slow_layers).abs() > 1e-6) & state.alive[:, None]
            # Selling exactly one lot ties with the smallest order of one lot: rounding decides its validity.
            counts["ties"] += int(other[:, LAYERS.index("validity")].sum())
            assert other.any(0).nonzero().flatten().tolist() in ([], [LAYERS.index("validity")]), step
            before = accounts_of(state)
            state, fill = advance(simulation, state, step)
            slow, books = follow(simulation, slow, step)
            apart = wrong_fields(differences(simulation, step, (state, fill), (slow, books)))
            # Noise of 1e-16 between the two simulations can decide whether a last 1e-14 of a share is traded. The twin
            # must then agree if it starts this step from the other's account.
            again = follow(simulation, before, step) if apart else (slow, books)
            wrong = wrong_fields(differences(simulation, step, (state, fill), again))
            assert not wrong, (step, wrong)
            noisy = torch.stack([error > 1e-9 for error in apart.values()]).any(0) if apart else ~state.alive & False
            slow = mixed(noisy, accounts_of(state), slow)
            counts.update(events_of(simulation, books), account_steps=len(books), noise=int(noisy.sum()))

    simulate_both()
    assert counts["account_steps"] >= 10_000
    assert counts["noise"] + counts["ties"] <= 1e-3 * counts["account_steps"]
    assert all(counts[event] for event in ("trades", "exits", "margin calls", "shortfalls"))


def single(simulation: Simulation, step: int, index: int) -> Simulation:
    """One step of one account of a simulation."""
    row = simulation.step_data._asdict().items()
    step_data = StepData(
        **{name: x if x is None or name == "shortable" else x[step : step + 1, index : index + 1] for name, x in row}
    )
    variation = simulation.variation
    if variation is not None:
        variation = Variation(*(None if x is None else x[index : index + 1] for x in variation))
    decisions = (x[step : step + 1, index : index + 1] for x in (simulation.levels, simulation.holds))
    return Simulation(simulation.trading, step_data, *decisions, variation)


def near_a_threshold(simulation: Simulation, account: AccountState, scale: float) -> bool:
    """Whether the twin of this one step jumps when prices and caps move by less than a hundred thousandth."""
    chance = Chance(0)

    def outcome(step_data: StepData, start: AccountState, levels: Tensor = simulation.levels) -> Tensor:
        legal, _ = legal_of_each(simulation._replace(step_data=step_data), [start], 0)
        (after,), (book,) = follow(simulation._replace(step_data=step_data, levels=levels), [start], 0)
        worth = torch.tensor(step_data.next_close[0, 0].tolist(), dtype=DOUBLE) / scale
        shares = [torch.tensor(after.shares) * worth, torch.tensor(after.working) * worth]
        counts = [
            *after.bars_held,
            *after.trades_today,
            *after.opened_today,
            *after.day_trades,
            after.alive,
            book.called,
        ]
        money = torch.tensor([after.equity / scale, after.cash / scale], dtype=DOUBLE)
        queued = (torch.tensor(after.in_flight, dtype=DOUBLE) * worth[:, None]).flatten()
        return torch.cat([legal.to(DOUBLE).flatten(), *shares, money, queued, torch.tensor(counts, dtype=DOUBLE)])

    def moved(name: str, value: Any) -> Any:
        if name == "split" or not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        return value.to(DOUBLE) * (1.0 + 1e-5 * chance.between(-1.0, 1.0, *value.shape))

    def jittered(value: Any) -> Any:
        if isinstance(value, list):
            return [jittered(part) for part in value]
        return value * (1.0 + 1e-6 * chance.between(-1.0, 1.0).item())

    base = outcome(simulation.step_data, account)
    for _ in range(40):
        step_data = StepData(*(moved(name, value) for name, value in simulation.step_data._asdict().items()))
        names = ("cash", "shares", "equity", "entry_price", "working", "in_flight")
        start = account._replace(**{name: jittered(getattr(account, name)) for name in names})
        levels = simulation.levels.to(DOUBLE) * (1.0 + 1e-6 * chance.between(-1.0, 1.0, *simulation.levels.shape))
        if ((outcome(step_data, start, levels) - base).abs() > 1e-4).any():
            return True
    return False


def test_single_steps_in_float32_stay_within_a_ten_thousandth_of_the_twin() -> None:
    counts: Counter[str] = Counter()

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(trading=trading_parameters(), seed=st.integers(0, 2**32 - 1))
    def simulate_singly(trading: TradingParameters, seed: int) -> None:
        simulation = random_simulation(trading, seed, steps=12, accounts=16)
        simulation = simulation._replace(
            step_data=StepData(*(as_type(value, torch.float32) for value in simulation.step_data)),
            levels=simulation.levels.float(),
            variation=simulation.variation
            and Variation(*(as_type(value, torch.float32) for value in simulation.variation)),
        )
        state = opened(simulation, torch.float32)
        for step in range(simulation.step_data.steps):
            row, before = simulation.step_data.step(step), accounts_of(state)
            gross = (state.shares * row.close).abs().sum(-1)
            errors = {
                "legal": (legal_of_all(simulation, state, step)[0] != legal_of_each(simulation, before, step)[0])
                .flatten(1)
                .any(1)
            }
            state, fill = advance(simulation, state, step)
            scale = torch.maximum(fill.equity_before, gross + fill.traded.sum(-1)).to(DOUBLE)
            errors |= differences(simulation, step, (state, fill), follow(simulation, before, step), scale)
            off = torch.stack([error.to(DOUBLE) for error in errors.values()]).amax(0) > 1e-4
            for index in off.nonzero().flatten().tolist():
                wrong = {name: error[index].item() for name, error in errors.items() if error[index] > 1e-4}
                assert near_a_threshold(single(simulation, step, index), before[index], scale[index].item()), (
                    step,
                    index,
                    wrong,
                )
            counts.update(account_steps=len(before), thresholds=int(off.sum()))

    simulate_singly()
    assert counts["account_steps"] >= 10_000
    assert counts["thresholds"] <= 1e-3 * counts["account_steps"]


def test_every_step_of_the_ledger_adds_up_with_every_option_on() -> None:
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(trading=trading_parameters(), seed=st.integers(0, 2**32 - 1))
    def add_up(trading: TradingParameters, seed: int) -> None:
        simulation = random_simulation(trading, seed, steps=10, accounts=32)
        state = opened(simulation, DOUBLE)
        for step in range(simulation.step_data.steps):
            before = state.equity
            state, fill = advance(simulation, state, step)
            total = (fill.price_pnl - fill.commission - fill.spread).sum(-1)
            for cost in (fill.impact, fill.borrow, fill.funding):
                total = total if cost is None else total - cost.sum(-1)
            total = total if fill.dividends is None else total + fill.dividends.sum(-1)
            total = total if fill.financing is None else total - fill.financing
            total = total if fill.shortfall is None else total + fill.shortfall
            size = torch.maximum(before, state.equity) + fill.price_pnl.abs().sum(-1) + fill.traded.sum(-1)
            assert ((state.equity - before - total).abs() <= 1e-9 * size).all()
            worth = state.cash + (state.shares * simulation.step_data.next_close[step]).sum(-1)
            assert ((state.equity - worth).abs() <= 1e-9 * (size + state.initial_equity)).all()

    add_up()


@st.composite
def positions(draw: st.DrawFn) -> tuple[TradingParameters, AccountState, Decision, StepData]:
    """Accounts within their joint limits, and any combination of levels, at prices that do not move."""
    accounts, assets = 8, draw(st.sampled_from([1, 2, 5]))
    trading = TradingParameters(
        gross_limit=draw(between(0.5, 4.0)),
        net_limit=draw(maybe(between(0.1, 2.0), share=2)),
        var_limit=draw(maybe(between(0.02, 0.5), share=2)),
        max_position=draw(between(0.2, 4.0)),
        max_drawdown=draw(maybe(between(0.05, 0.5), share=2)),
        costs=CostParameters(commission_bps=0.0, half_spread_bps=0.0),
    )
    chance = Chance(draw(st.integers(0, 2**32 - 1)))
    shape = (accounts, assets)
    price, volatility = chance.between(5.0, 50.0, *shape), chance.between(0.02, 0.3, *shape)
    state = open_accounts(torch.full((accounts,), 1000.0, dtype=DOUBLE), assets)
    state = state._replace(peak_equity=1000.0 * (1.0 + chance.between(0.0, 0.3, accounts)))
    room = position_limits(state, flat_row(price, volatility), trading).headroom * trading.gross_limit
    exposure = chance.normal(*shape) * chance.happens(0.7, *shape)
    limits = [room / exposure.abs().sum(-1).clamp_min(1e-12)]
    if trading.net_limit is not None:
        limits.append(trading.net_limit / exposure.sum(-1).abs().clamp_min(1e-12))
    if trading.var_limit is not None:
        limits.append(trading.var_limit / (volatility * exposure.abs()).sum(-1).clamp_min(1e-12))
    share = torch.stack(limits).amin(0) * chance.between(0.0, 1.0, accounts)
    shares = share[:, None] * exposure * 1000.0 / price
    state = state._replace(shares=shares, cash=1000.0 - (shares * price).sum(-1))
    decision = Decision(chance.between(-1.0, 1.0, *shape), chance.happens(0.3, *shape))
    return trading, state, decision, flat_row(price, volatility)


def flat_row(price: Tensor, volatility: Tensor) -> StepData:
    everywhere = torch.ones_like(price, dtype=torch.bool)
    return StepData(price, everywhere, price, price, everywhere, torch.zeros_like(price), volatility=volatility)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(given=positions())
def test_joint_limits_hold_for_any_combination_of_levels_and_reductions_pass_whole(
    given: tuple[TradingParameters, AccountState, Decision, StepData],
) -> None:
    trading, state, decision, row = given
    limits = position_limits(state, row, trading)
    after, _ = execute(state, limits, decision, row, trading)
    assert torch.allclose(after.equity, state.equity)
    position = after.shares * row.close / state.equity[:, None]
    assert (position.abs().sum(-1) <= trading.gross_limit * limits.headroom + 1e-9).all()
    wish = (decision.level * trading.gross_limit / position.shape[-1]).clamp(-limits.cap, limits.cap)
    wish = torch.where(decision.hold, limits.position, wish)
    reduced = wish.clamp(limits.position.clamp_max(0.0), limits.position.clamp_min(0.0))
    if trading.net_limit is not None:
        # A reduction passes unscaled even where it unbalances the book; nothing may add to that.
        assert (position.sum(-1).abs() <= reduced.sum(-1).abs().clamp_min(trading.net_limit) + 1e-9).all()
    if trading.var_limit is not None:
        assert ((row.volatility * position.abs()).sum(-1) <= trading.var_limit + 1e-9).all()
    shrinks = reduced == wish
    assert torch.allclose(position[shrinks], wish[shrinks], atol=1e-9)
    assert ((position - reduced) * (wish - reduced) >= -1e-12).all()  # never away from the wish
    assert ((position - reduced).abs() <= (wish - reduced).abs() + 1e-9).all()  # nor beyond it


@settings(max_examples=40, deadline=None, derandomize=True)
@given(trading=trading_parameters(), seed=st.integers(0, 2**32 - 1))
def test_something_is_always_legal_flat_wherever_one_can_trade_and_hold_alone_elsewhere(
    trading: TradingParameters, seed: int
) -> None:
    simulation = random_simulation(trading, seed, steps=6, accounts=32)
    state = opened(simulation, DOUBLE)
    for step in range(simulation.step_data.steps):
        legal, _ = legal_of_all(simulation, state, step)
        free = simulation.step_data.tradable[step] & state.alive[:, None]
        assert legal.any(-1).all()
        assert legal[..., 1 + trading.levels.index(0.0)][free].all()
        assert legal[..., 0][~free].all()
        assert not legal[..., 1:][~free].any()
        state, _ = advance(simulation, state, step)


COSTS = {
    "costs": ("commission_bps", "commission_per_share", "min_commission"),
    "carry": ("borrow_rate", "financing_rate"),
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_raising_any_single_cost_never_raises_equity(seed: int, data: st.DataObject) -> None:
    before = {"costs": CostParameters(impact=1.0), "carry": CarryParameters(borrow_rate=0.01, financing_rate=0.01)}
    cheap = TradingParameters(**before, gross_limit=2.0)
    simulation = random_simulation(cheap, seed, steps=5, accounts=32)._replace(variation=None)
    state = opened(simulation, DOUBLE)
    for step in range(4):
        state, _ = advance(simulation, state, step)
    section, name = data.draw(
        st.sampled_from([(s, n) for s, names in COSTS.items() for n in names] + [("step_data", "x")])
    )
    if section == "step_data":
        line = data.draw(st.sampled_from(["half_spread", "impact"]))
        dear = simulation._replace(
            step_data=simulation.step_data._replace(**{line: 3.0 * getattr(simulation.step_data, line)})
        )
    else:
        kinds = {"costs": CostParameters, "carry": CarryParameters}
        costs = {field: getattr(before[section], field) for field in before[section].__dataclass_fields__}
        raised = kinds[section](**(costs | {name: 2.0 * costs[name] + 0.5}))
        dear = simulation._replace(trading=TradingParameters(**(before | {section: raised}), gross_limit=2.0))
    cheaply, dearly = (advance(each, state, 4) for each in (simulation, dear))
    same = (cheaply[1].filled_shares == dearly[1].filled_shares).all(-1)
    assert (dearly[0].equity[same] <= cheaply[0].equity[same] + 1e-9).all()
    alike = same & state.alive & cheaply[0].alive & dearly[0].alive
    if section == "costs" and name == "commission_bps":
        traded = cheaply[1].traded.sum(-1) > 0.0
        assert (dearly[0].equity < cheaply[0].equity)[alike & traded].all()
