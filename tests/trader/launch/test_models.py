"""Which agents trade: an alias of the registry, and with money only what the gates promoted."""

from types import SimpleNamespace

import pytest

from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader.launch.build import interval_of
from sentio_kedro.trader.launch.models import registered_agents, require_source

PROMOTED = {"model": "sentio", "decision": "promoted", "champion": None, "version": "2"}


def agent(seed):
    return SimpleNamespace(spec=SimpleNamespace(seed=seed, fold=3))


@pytest.fixture(name="registry")
def registry_fixture(monkeypatch):
    monkeypatch.setattr("sentio_kedro.tracking.registry.aliases", lambda model: {"champion": "2", "challenger": "3"})
    monkeypatch.setattr("sentio_kedro.tracking.candidates.load_agents", lambda model, number: [agent(1), agent(0)])


def parameters(**given):
    venue = {"feed": {"type": "alpaca"}, "broker": {"type": "alpaca"}, "live_account": "A1"}
    return TraderParameters(**({"mode": "live", **venue} if given.pop("live", False) else {}), **given)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("model", "name", "version"),
    [("champion", "sentio/2 (champion)", "2"), ("challenger", "sentio/3 (challenger)", "3"), ("7", "sentio/7", "7")],
)
def test_an_alias_or_a_number_names_the_version(model, name, version):
    chosen = registered_agents(parameters(model=model), "sentio", [])
    assert (chosen.name, chosen.version, [one.spec.seed for one in chosen.agents]) == (name, version, [0, 1])


@pytest.mark.usefixtures("registry")
def test_an_unknown_alias_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"was 'best'; its aliases are \['challenger', 'champion'\]"):
        registered_agents(parameters(model="best"), "sentio", [])


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("ledger", [[], [{**PROMOTED, "version": "1"}]])
def test_a_champion_that_no_promotion_made_trades_no_money(ledger):
    with pytest.raises(ValueError, match="must be promoted to trade in mode live"):
        registered_agents(parameters(model="champion", live=True), "sentio", ledger)


@pytest.mark.usefixtures("registry")
def test_a_promoted_champion_trades_money():
    assert registered_agents(parameters(model="champion", live=True), "sentio", [PROMOTED]).version == "2"


def test_without_a_registered_model_the_remedy_is_named():
    with pytest.raises(ValueError, match=r"`registry.model` must name the registered model"):
        registered_agents(parameters(model="champion"), None, [])


def test_a_feed_of_another_source_is_refused_unless_it_is_named():
    trained = "alpaca-sip-1d"
    assert require_source(trained, trained, None) == require_source(trained, "alpaca-iex-1d", trained) == ""
    with pytest.raises(ValueError, match=r"of alpaca-sip-1d, the feed is alpaca-iex-1d.*`trader.feed.source: alpaca-s"):
        require_source(trained, "alpaca-iex-1d", None)
    with pytest.raises(ValueError, match="the feed is stooq-1d"):
        require_source(trained, trained, "stooq-1d")
    assert "do not say which source" in require_source("", "alpaca-iex-1d", None)
    assert require_source("", "alpaca-iex-1d", "alpaca-iex-1d") == ""


def test_the_interval_is_that_of_the_agents_bars():
    assert [interval_of(None, bars, None) for bars in (1.0, 24.0, 48.0, 1_440.0)] == ["1d", "1h", "30m", "1m"]
    assert interval_of("60m", 24.0, None) == "60m"
    assert interval_of("30m", 13.0, "XNYS") == interval_of("30m", None, None) == "30m"
    with pytest.raises(
        ValueError, match=r"`trader.feed.interval` must be 30m, the length of the agents' bars, was 1m:"
    ):
        interval_of("1m", 48.0, None)
    with pytest.raises(ValueError, match="must be the length of the agents' bars, such as 30m, was null"):
        interval_of(None, 13.0, "XNYS")
