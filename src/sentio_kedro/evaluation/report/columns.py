"""Which figures the tables of the report show, under which titles."""

from __future__ import annotations

from sentio_kedro.evaluation.report.tables import Kind

Columns = tuple[tuple[str, str, Kind], ...]
"""Key in the metrics, title, and how the number is written."""

GROUPS: tuple[tuple[str, str, Columns], ...] = (
    (
        "Reward",
        "Net of costs. Ratios are annualised by the calendar of the bars; bars without a position count as returns of "
        "zero. Sortino divides by the deviation of losses, Calmar the return a year by the maximum drawdown. The "
        "information ratio is measured against equal weight.",
        (
            ("sharpe", "Sharpe", "number"),
            ("interval", "Interval", "number"),
            ("sortino", "Sortino", "number"),
            ("calmar", "Calmar", "number"),
            ("information_ratio", "Information ratio", "number"),
            ("annual_return", "Return a year", "percent"),
            ("total_return", "Return in all", "percent"),
        ),
    ),
    (
        "Risk",
        "Drawdown is the largest loss from a peak, the start included; it lasts until the peak is reached again. "
        "Recovery counts from its deepest point; a dash says that the old peak was not reached again.",
        (
            ("annual_volatility", "Volatility a year", "percent"),
            ("max_drawdown", "Maximum drawdown", "percent"),
            ("drawdown_bars", "Longest drawdown, bars", "count"),
            ("recovery_bars", "Recovery, bars", "count"),
            ("under_water", "Bars below a peak", "percent"),
            ("gross_exposure", "Gross exposure", "percent"),
            ("net_exposure", "Net exposure", "percent"),
            ("invested", "Bars invested", "percent"),
        ),
    ),
    (
        "Tails",
        "Empirical, at 95 %. Value at risk is the loss that 95 % of the days (or bars) stay above, conditional value "
        "at risk the mean loss of the others. Omega is the sum of gains over the sum of losses, the tail ratio the "
        "95 % quantile over the size of the 5 % one; skew and excess kurtosis are those of bars.",
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
        "Round trips and turnover",
        "A round trip goes from flat, or a change of sign, to the next; results are net of costs and fractions of the "
        "equity at entry. The share that won says little without the mean result beside it. A ratio of mean win to "
        "mean loss below 1 means that losses are larger. Above 100 % of the gross profit, costs outweigh what prices "
        "gave or took.",
        (
            ("trades", "Round trips", "count"),
            ("win_rate", "Won", "percent"),
            ("expectancy", "Mean result", "small_percent"),
            ("round_trip_cost", "Mean cost", "small_percent"),
            ("payoff", "Mean win / mean loss", "number"),
            ("holding_bars", "Bars held", "number"),
            ("turnover_per_year", "Turnover a year", "times"),
            ("cost_share", "Costs / gross profit", "percent"),
        ),
    ),
)
FOLD_COLUMNS: Columns = (
    ("train_sharpe", "Train Sharpe", "number"),
    ("validation_sharpe", "Validation Sharpe", "number"),
    ("generalisation_gap", "Gap", "number"),
    ("validation_t", "Evidence t", "number"),
    ("sharpe", "Test Sharpe", "number"),
    ("annual_return", "Return a year", "percent"),
    ("max_drawdown", "Drawdown", "percent"),
    ("conditional_value_at_risk", "Conditional value at risk", "small_percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Won", "percent"),
    ("turnover_per_bar", "Turnover per bar", "small_percent"),
    ("cost_share", "Costs / gross profit", "percent"),
)
SEED_COLUMNS: Columns = (
    ("sharpe", "Sharpe", "number"),
    ("sortino", "Sortino", "number"),
    ("calmar", "Calmar", "number"),
    ("annual_return", "Return a year", "percent"),
    ("max_drawdown", "Maximum drawdown", "percent"),
    ("daily_conditional_value_at_risk", "Conditional value at risk, day", "percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Won", "percent"),
    ("gross_exposure", "Gross exposure", "percent"),
    ("cost_share", "Costs / gross profit", "percent"),
)
SYMBOL_COLUMNS: Columns = (
    ("net_exposure", "Net exposure", "percent"),
    ("gross_exposure", "Gross exposure", "percent"),
    ("largest", "Largest position", "percent"),
    ("invested", "Bars invested", "percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Won", "percent"),
    ("expectancy", "Mean result", "small_percent"),
    ("round_trip_cost", "Mean cost", "small_percent"),
    ("holding_bars", "Bars held", "number"),
)
