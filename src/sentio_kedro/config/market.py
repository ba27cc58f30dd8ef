"""Parameters of the data stages: ingestion, features, regimes, folds."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, model_validator

from sentio_kedro.config.fields import LARGEST, Count, Fraction, Positive, null_is_off, parameters

MIN_BLOCKS = 2  # of a k-fold
MAX_FOLDS = 2_000  # each is trained on its own


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(
            f"`ingestion.timezone` must be a zone of the IANA database, was {name!r}; write one such as "
            "America/New_York, or null where timestamps name their zone."
        )
    return name


BAR_COLUMNS = frozenset(
    {"timestamp", "symbol", "open", "high", "low", "close", "volume", "dividend", "split", "spread", "funding"}
)
"""Columns of bars that have a meaning of their own."""
KNOWN_AT = (
    "bar_end (known when its bar ends), next_bar (known after that, so used from the symbol's next bar on), a delay "
    "after the bar's end such as 15min or 1d, or the name of the column that holds the time of publication"
)
_DELAY = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@parameters
class OwnColumn:
    """When values of an own column may be used: from the first bar of the symbol that ends at that time or later.

    Attributes:
        known_at: ``bar_end``, ``next_bar`` (after the bar's end), a delay after it such as ``15min`` or ``1d`` (s, min,
            h, d, w), or the name of the column that holds the time of publication. There is no default: a wrong one
            looks ahead.
    """

    known_at: str | None = None

    @property
    def delay(self) -> float | None:
        """Seconds from the bar's end to the time from which its value may be used; null if a column holds that time."""
        if self.known_at in ("bar_end", "next_bar"):
            return 0.0 if self.known_at == "bar_end" else 1e-9  # a nanosecond: any bar that ends later
        read = _DELAY.fullmatch(self.known_at or "")
        return None if read is None else float(read[1]) * _SECONDS[read[2]]


@parameters
class IngestionParameters:
    """Ingestion of bars.

    Attributes:
        bar_label: Meaning of the feed's ``timestamp``: ``start`` or ``end`` of its bar. The project uses the end.
        bar_minutes: Length of a bar in minutes, a second to a year, to convert starts into ends; null takes the most
            common gap.
        timezone: Zone of naive timestamps (for example ``America/New_York``); null refuses naive timestamps.
        missing: Treatment of a bar that some asset lacks: ``halt`` makes that asset untradable there, ``drop_bar``
            drops the bar for all assets.
        outside_session: Treatment of a bar that ends outside the sessions of ``trading.calendar``: ``refuse``,
            ``drop``, or ``keep`` for who trades extended hours, where it belongs to the nearer session.
        sessions_per_year: Trading days a year: 365 for crypto, 252 for US equities. Bars per session are counted.
        universe: ``survivorship_biased`` if the symbols were chosen with hindsight (the report warns of it), ``dated``
            if the bars hold the investable symbols of each date, or the catalog gives a table ``universe`` of them.
        columns: Own columns of numbers to keep, by name, each with its ``known_at``; other columns are ignored.
    """

    bar_label: Literal["start", "end"] = "end"
    bar_minutes: Annotated[float, Field(ge=1 / 60, le=366 * 24 * 60)] | None = None
    timezone: Annotated[str, AfterValidator(_known_zone)] | None = None
    missing: Literal["drop_bar", "halt"] = "halt"
    outside_session: Literal["refuse", "drop", "keep"] = "refuse"
    sessions_per_year: Positive = 365.0
    universe: Literal["survivorship_biased", "dated"] = "survivorship_biased"
    columns: dict[str, OwnColumn] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _say_when_known(self) -> IngestionParameters:
        taken = sorted(
            name
            for name in self.columns
            if name in (*BAR_COLUMNS, "member", "delisting_return") or name.startswith("__")
        )
        if taken:
            raise ValueError(
                f"`ingestion.columns` must name own columns of the bars, named {taken}, which bars use themselves; "
                "rename the columns in the feed."
            )
        silent = [name for name, column in self.columns.items() if not column.known_at]
        if silent:
            raise ValueError(
                f"`ingestion.columns` must say from when a value may be used, `known_at` of {silent} was not given; "
                f"set it to {KNOWN_AT}."
            )
        return self


@parameters
class DownloadParameters:
    """Fetching of bars from a vendor into the store.

    Attributes:
        until: Date of the last bars, such as ``2026-01-31``; null takes what the catalog says.
    """

    until: str | None = None


@parameters
class UniverseParameters:
    """How assets leave a dated universe, whose members the dataset ``universe`` lists.

    Attributes:
        exit_bars: Bars after the end of a membership in which a position is only reduced; what is left after them is
            settled at the last price and the table's ``delisting_return``.
    """

    exit_bars: Annotated[int, Field(ge=0, le=1_000)] = 5


IndicatorName = Literal[
    "log_return",
    "volatility",
    "range_volatility",
    "volume_surprise",
    "relative_strength",
    "trend_strength",
    "moving_average_gap",
    "convergence_divergence",
    "band_position",
    "return_rank",
    "time_of_day_sine",
    "time_of_day_cosine",
    "day_of_week_sine",
    "day_of_week_cosine",
    "own_column",
    "own_column_change",
    "own_column_zscore",
    "overnight_gap",
    "prior_close_gap",
    "session_vwap_gap",
    "minute_profile",
    "minutes_since_open",
    "minutes_to_close",
    "exchange_time_sine",
    "exchange_time_cosine",
    "exchange_day_sine",
    "exchange_day_cosine",
]
OWN_INDICATORS = frozenset({"own_column", "own_column_change", "own_column_zscore"})
"""Indicators of a column that the user's bars bring along."""
SESSION_PRICE_INDICATORS = frozenset({"overnight_gap", "prior_close_gap", "session_vwap_gap", "minute_profile"})
"""Indicators that compare a bar with earlier ones of its session or of sessions before."""
SESSION_INDICATORS = SESSION_PRICE_INDICATORS | {
    "minutes_since_open",
    "minutes_to_close",
    "exchange_time_sine",
    "exchange_time_cosine",
    "exchange_day_sine",
    "exchange_day_cosine",
}
"""Indicators that depend on ``trading.calendar``."""


@parameters
class FeatureColumn:
    """One feature column.

    Attributes:
        name: Column name, unique in the list.
        indicator: The formula, one of ``sentio_kedro.market.indicators.INDICATORS``.
        bars: Horizon of the formula in bars; calendar features ignore it. A feature of sessions looks back on as many,
            which must be more than a session has.
        lookback: Bars that reproduce the column to 1e-6; null takes the indicator's lookback, a smaller number is
            refused.
        column: What an ``own_column`` indicator reads: a column of ``ingestion.columns``, ``spread`` or ``funding``;
            null for all others.
    """

    name: str
    indicator: IndicatorName
    bars: Count = 1
    lookback: Count | None = None
    column: Annotated[str | None, Field(exclude_if=lambda column: column is None)] = None

    @model_validator(mode="after")
    def _names_its_column(self) -> FeatureColumn:
        if (self.column is not None) != (self.indicator in OWN_INDICATORS):
            wanted = "must name the own column that it reads" if self.column is None else "must not be given"
            remedy = "name it" if self.column is None else f"leave it out, or choose one of {sorted(OWN_INDICATORS)}"
            raise ValueError(
                f"`features.columns` `{self.name}`: `column` {wanted} with the indicator `{self.indicator}`, was "
                f"{'null' if self.column is None else self.column}; {remedy}."
            )
        return self


@parameters
class FeatureParameters:
    """Inputs of the network for each asset.

    Attributes:
        columns: Feature columns, in the order of the network's inputs; each name once.
    """

    columns: list[FeatureColumn]

    @model_validator(mode="after")
    def _unique_names(self) -> FeatureParameters:
        names = [column.name for column in self.columns]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if not names:
            raise ValueError("`features.columns` must hold at least one column, was empty; add one.")
        if repeated:
            raise ValueError(f"`features.columns` must have unique names; rename one of each: {repeated}.")
        return self


@parameters
class RegimeParameters:
    """Hidden Markov model of the market's volatility regimes.

    Attributes:
        states: Number of states K, ordered from calm to volatile; 1 switches regimes off.
        memory: Bars of the forward filter; the posterior is a function of these bars alone.
        restarts: Random starts of the fit, of which the one with the highest likelihood is used.
        iterations: Maximum EM iterations of one start.
        min_occupancy: Minimum share of the train rows in a state; a smaller state is merged, with a warning.
    """

    states: Annotated[int, Field(ge=1, le=8)] = 3
    memory: Count = 512
    restarts: Annotated[int, Field(ge=1, le=10_000)] = 3
    iterations: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    min_occupancy: Fraction = 0.02


@parameters
class CrossValidationParameters:
    """Folds of decision rows, and the lockbox.

    Attributes:
        scheme: ``walk_forward`` (train on the past alone), ``k_fold`` (purged k-fold: every row is tested once) or
            ``combinatorial`` (purged combinatorial folds: every row is tested several times). The last two give a
            distribution of outcomes, not a track record, since they also train on later data.
        folds: Number of walk-forward folds, each with its own test block; blocks of a k-fold, at least 2.
        first_test: Share of the usable rows before the first walk-forward test block.
        validation: Share of the rows before a walk-forward test block that are validation rows; of a k-fold, the share
            of the rows outside the test block, the latest ones.
        window: ``expanding`` trains on all rows before validation, ``rolling`` on as many as the first fold has.
        groups: Number of groups that combinatorial folds cut the rows into.
        test_groups: Groups tested at once in a combinatorial fold.
        lockbox: Share of the bars, the last ones, that no fold touches and only ``kedro run --pipeline lockbox``
            opens; null is off.
    """

    scheme: Literal["walk_forward", "k_fold", "combinatorial"] = "walk_forward"
    folds: Count = 4
    first_test: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    validation: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.15
    window: Literal["expanding", "rolling"] = "expanding"
    groups: Annotated[int, Field(ge=3, le=LARGEST)] = 6
    test_groups: Count = 2
    lockbox: Annotated[Annotated[float, Field(gt=0.0, lt=0.9)] | None, null_is_off("cross_validation.lockbox")] = 0.15

    @model_validator(mode="after")
    def _leaves_train_groups(self) -> CrossValidationParameters:
        if self.test_groups > self.groups - 2:
            raise ValueError(
                f"`cross_validation.test_groups` must be at most groups - 2 = {self.groups - 2}, so that one group is "
                f"for training and one for validation; was {self.test_groups}; lower it."
            )
        return self

    @model_validator(mode="after")
    def _can_be_trained(self) -> CrossValidationParameters:
        count = min(self.groups, MAX_FOLDS + 1)  # so that the binomial coefficient of a huge number is not computed
        folds = self.folds if self.scheme != "combinatorial" else math.comb(count, min(self.test_groups, count - 2))
        if folds > MAX_FOLDS:
            given = f"`folds` = {self.folds}"
            if self.scheme == "combinatorial":
                given = f"`groups` = {self.groups} and `test_groups` = {self.test_groups}"
            raise ValueError(
                f"`cross_validation` must make at most {MAX_FOLDS:,} folds, each of which is trained on its own, had "
                f"{given}; lower them."
            )
        return self

    @model_validator(mode="after")
    def _leaves_train_blocks(self) -> CrossValidationParameters:
        if self.scheme == "k_fold" and self.folds < MIN_BLOCKS:
            raise ValueError(
                f"`cross_validation.folds` must be at least {MIN_BLOCKS} where the scheme is k_fold, so that some rows "
                f"lie outside the test block; was {self.folds}; raise it."
            )
        return self
