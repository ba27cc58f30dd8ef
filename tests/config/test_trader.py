"""Combinations of the trader's parameters that would surprise are refused before anything is connected."""

import pytest
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config.live.trader import TraderParameters

ADAPTER = TypeAdapter(TraderParameters)
VENUE = {"feed": {"type": "alpaca"}, "broker": {"type": "alpaca"}}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"mode": "paper"}, "`trader.feed.type` must be replay in mode replay and a live feed in others"),
        ({"broker": {"type": "alpaca"}}, "`trader.broker.type` must be simulated in mode replay"),
        ({"mode": "venue_paper", "feed": {"type": "ccxt"}}, "`trader.broker.type` must name a venue"),
        ({"mode": "live", "model": "champion", **VENUE}, "`trader.live_account` must be the id of the account"),
        ({"mode": "live", "live_account": "A1", **VENUE}, "`trader.model` must be champion in mode live, was agents"),
        ({"name": "a b"}, "should match pattern"),
        ({"limits": {"gros": 1.0}}, "Unexpected keyword argument"),
    ],
)
def test_what_does_not_fit_together_is_refused(given, text):
    with pytest.raises(ValidationError, match=text.replace("(", r"\(")):
        ADAPTER.validate_python(given)


def test_money_is_traded_with_account_and_champion_named():
    live = ADAPTER.validate_python({"mode": "live", "live_account": "A1", "model": "champion", **VENUE})
    assert (live.mode, live.limits.gross) == ("live", 1.0)
