"""Columns of the tables of the report: key in the metrics, title and number format."""

from __future__ import annotations

from typing import Literal

Kind = Literal["percent", "small_percent", "number", "count", "times", "interval", "day", "minute", "text"]
Columns = tuple[tuple[str, str, Kind], ...]

SLEEVE_COLUMNS: Columns = (
    ("sleeve", "Sleeve", "text"),
    ("gate_t", "t of the gate", "number"),
    ("gate_sharpe", "Sharpe", "number"),
    ("state", "Gate", "text"),
)

GROUPS: tuple[tuple[str, str, Columns], ...] = (
    (
        "Behaviour",
        "A decision is one asset at one bar. Own exits are round trips that no end of a fold or of the test closed. "
        "Independent bets are round trips less their overlap; those of several assets at once count as one. R\u00b2 "
        "and the t statistic of alpha (Newey and West) belong to a regression on equal weight. The static return is "
        "what each fold's mean positions would have earned, held all through it; the timing return is the rest. Both "
        "are before costs.",
        (
            ("changed_decisions", "Decisions that changed a position", "percent"),
            ("median_holding_bars", "Holding, median bars", "number"),
            ("own_exits", "Own exits", "count"),
            ("effective_bets", "Independent bets", "count"),
            ("market_r2", "R\u00b2 with the market", "number"),
            ("alpha_t", "t of alpha", "number"),
            ("static_return", "Static return", "percent"),
            ("timing_return", "Timing return", "percent"),
        ),
    ),
    (
        "Reward",
        "Net of costs. Ratios are annualised by the calendar of the bars. Bars without a position count as returns of "
        "zero. The Sortino ratio divides by the downside deviation, the Calmar ratio divides the annual return by the "
        "maximum drawdown. The benchmark of the information ratio is equal weight.",
        (
            ("sharpe", "Sharpe", "number"),
            ("interval", "Interval", "interval"),
            ("sortino", "Sortino", "number"),
            ("calmar", "Calmar", "number"),
            ("information_ratio", "Information ratio", "number"),
            ("annual_return", "Annual return", "percent"),
            ("total_return", "Total return", "percent"),
        ),
    ),
    (
        "Risk",
        "Maximum drawdown is the largest loss from the highest equity of all time, initial capital included. A "
        "drawdown lasts until the peak is reached again. Recovery counts from the deepest point; a dash means no "
        "recovery. At bars without headroom the drawdown limit allows no position.",
        (
            ("annual_volatility", "Annual volatility", "percent"),
            ("max_drawdown", "Maximum drawdown", "percent"),
            ("drawdown_bars", "Longest drawdown, bars", "count"),
            ("recovery_bars", "Recovery, bars", "count"),
            ("under_water", "Bars below a peak", "percent"),
            ("idle", "Bars without headroom", "percent"),
        ),
    ),
    (
        "Exposure and turnover",
        "Means over bars, fractions of equity. Bars with trades are those on which a position was changed.",
        (
            ("gross_exposure", "Gross exposure", "percent"),
            ("net_exposure", "Net exposure", "percent"),
            ("invested", "Bars invested", "percent"),
            ("traded_bars", "Bars with trades", "percent"),
            ("turnover_per_year", "Annual turnover", "times"),
        ),
    ),
    (
        "Tails",
        "Empirical, at 95 %. Value at risk is the loss that 95 % of the days (or bars) do not exceed. Conditional "
        "value at risk is the mean loss of the other 5 %. Omega is the sum of gains over the sum of losses. The tail "
        "ratio is the 95 % quantile over the absolute 5 % quantile. Skew and excess kurtosis are those of returns per "
        "bar.",
        (
            ("daily_value_at_risk", "Value at risk, day", "percent"),
            ("daily_conditional_value_at_risk", "Conditional, day", "percent"),
            ("value_at_risk", "Value at risk, bar", "small_percent"),
            ("conditional_value_at_risk", "Conditional, bar", "small_percent"),
            ("omega", "Omega", "number"),
            ("tail_ratio", "Tail ratio", "number"),
            ("skew", "Skew", "number"),
            ("kurtosis", "Excess kurtosis", "number"),
        ),
    ),
    (
        "Round trips",
        "A round trip starts when a position opens or changes sign and ends when it closes or changes sign. Results "
        "are net of costs, as fractions of the equity at entry. Read the win rate together with the mean result. Where "
        "mean win / mean loss is below 1, the mean loss is larger than the mean win. Where costs / gross profit is "
        "above 100 %, costs exceed the gross profit or loss.",
        (
            ("trades", "Round trips", "count"),
            ("win_rate", "Win rate", "percent"),
            ("expectancy", "Mean result", "small_percent"),
            ("round_trip_cost", "Mean cost", "small_percent"),
            ("payoff", "Mean win / mean loss", "number"),
            ("holding_bars", "Holding, bars", "number"),
            ("cost_share", "Costs / gross profit", "percent"),
        ),
    ),
)
FOLD_COLUMNS: Columns = (
    ("period", "Test rows", "text"),
    ("train_sharpe", "Train Sharpe", "number"),
    ("validation_sharpe", "Validation Sharpe", "number"),
    ("gate", "t statistic", "text"),
    ("sharpe", "Test Sharpe", "number"),
    ("annual_return", "Annual return", "percent"),
    ("max_drawdown", "Drawdown", "percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Win rate", "percent"),
    ("cost_share", "Costs / gross profit", "percent"),
)
SEED_COLUMNS: Columns = (
    ("sharpe", "Sharpe", "number"),
    ("sortino", "Sortino", "number"),
    ("calmar", "Calmar", "number"),
    ("annual_return", "Annual return", "percent"),
    ("max_drawdown", "Maximum drawdown", "percent"),
    ("daily_conditional_value_at_risk", "Conditional value at risk, day", "percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Win rate", "percent"),
    ("gross_exposure", "Gross exposure", "percent"),
    ("cost_share", "Costs / gross profit", "percent"),
)
SYMBOL_COLUMNS: Columns = (
    ("net_exposure", "Net exposure", "percent"),
    ("gross_exposure", "Gross exposure", "percent"),
    ("largest", "Largest position", "percent"),
    ("invested", "Bars invested", "percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Win rate", "percent"),
    ("expectancy", "Mean result", "small_percent"),
    ("round_trip_cost", "Mean cost", "small_percent"),
    ("holding_bars", "Holding, bars", "number"),
)
REGIME_COLUMNS: Columns = (
    ("share", "Bars", "percent"),
    ("sharpe", "Sharpe", "number"),
    ("sortino", "Sortino", "number"),
    ("total_return", "Total return", "percent"),
    ("conditional_value_at_risk", "Conditional value at risk", "small_percent"),
    ("gross_exposure", "Gross exposure", "percent"),
    ("turnover_per_bar", "Turnover per bar", "small_percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Win rate", "percent"),
    ("cost_share", "Costs / gross profit", "percent"),
)
YEAR_COLUMNS: Columns = (
    ("bars", "Bars", "count"),
    ("sharpe", "Sharpe", "number"),
    ("sortino", "Sortino", "number"),
    ("total_return", "Return", "percent"),
    ("annual_volatility", "Annual volatility", "percent"),
    ("max_drawdown", "Maximum drawdown", "percent"),
    ("information_ratio", "Information ratio", "number"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Win rate", "percent"),
    ("cost_share", "Costs / gross profit", "percent"),
)
COMPARISON_COLUMNS: Columns = (
    ("sharpe_difference", "Sharpe difference", "number"),
    ("interval", "Interval", "interval"),
    ("information_ratio", "Information ratio", "number"),
    ("annual_return_difference", "Difference of annual return", "percent"),
    ("result", "The agent is", "text"),
)
ORDER_COLUMNS: Columns = (
    ("ordered", "Orders", "percent"),
    ("capped_orders", "Reduced by any limit", "percent"),
    ("projected_orders", "Reduced by a joint limit", "percent"),
    ("margin_calls", "Margin calls", "count"),
    ("bankruptcies", "Bankruptcies", "count"),
)
VALUE_AT_RISK_COLUMNS: Columns = (
    ("sessions", "Asset sessions", "count"),
    ("exceedances", "Exceedances", "count"),
    ("share", "Share", "percent"),
    ("expected", "Expected", "percent"),
    ("p", "Kupiec's p value", "number"),
)
ROBUSTNESS_COLUMNS: Columns = (
    ("sharpe", "Sharpe ratio", "number"),
    ("annual_return", "Annual return", "percent"),
    ("total_return", "Total return", "percent"),
    ("max_drawdown", "Maximum drawdown", "percent"),
    ("turnover", "Turnover per bar", "small_percent"),
    ("correlation", "Correlation of positions", "number"),
)
DRAWDOWN_COLUMNS: Columns = (
    ("depth", "Depth", "percent"),
    ("start", "Start", "day"),
    ("bottom", "Bottom", "day"),
    ("recovery", "Recovery", "text"),
    ("bars_down", "Bars to the bottom", "count"),
    ("bars_to_recover", "Bars to recover", "count"),
)
LIMIT_COLUMNS: Columns = (
    ("deepest", "Deepest drawdown of all time", "percent"),
    ("breaches", "Breaches", "count"),
    ("bars_without_headroom", "Bars without headroom", "percent"),
)
BREACH_COLUMNS: Columns = (
    ("timestamp", "Decision", "minute"),
    ("drawdown_before", "Drawdown before", "percent"),
    ("drawdown", "Drawdown after", "percent"),
    ("loss", "Loss of the bar", "percent"),
    ("gross_exposure", "Gross exposure", "percent"),
    ("market_move", "Market move", "percent"),
    ("move_to_limit", "Move to the limit", "percent"),
)
QUALITY_COLUMNS: Columns = (
    ("first", "First", "day"),
    ("last", "Last", "day"),
    ("bars", "Bars", "count"),
    ("missing_bars", "Missing", "count"),
    ("gaps", "Gaps", "count"),
    ("longest_gap_bars", "Longest gap, bars", "count"),
    ("expected_bars", "Expected", "count"),
    ("missing_share", "Missing of expected", "percent"),
    ("longest_hole", "Longest hole, bars", "count"),
    ("zero_volume_bars", "Without volume", "count"),
    ("biggest_log_return", "Largest log return", "percent"),
)
OPENING_COLUMNS: Columns = (
    ("model", "Model", "text"),
    ("these_agents", "These agents", "text"),
    ("sharpe", "Sharpe ratio", "number"),
)
