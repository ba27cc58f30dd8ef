"""Agents are stored as safetensors and JSON, and refuse bars of their train span."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.agent.awake import awaken

from sentio_kedro.agent.bundle import AgentBundle, AgentSpec, refuse_seen_bars, same_symbols
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.config import FeatureColumn, NetworkParameters, TradingParameters

SMALL = NetworkParameters(width=8, heads=2, window=4, convolution=2, hidden=8, quantiles=5)
REGIMES = {"means": [0.0], "deviations": [0.01], "transition": [[1.0]], "stationary": [1.0], "memory": 4}


def make_bundle(members: int = 2) -> AgentBundle:
    spec = AgentSpec(
        fold=1, seed=0, members=members, symbols=["AAA", "BBB"], periods_per_year=365.0, gamma=0.9, required_bars=20,
        train_start="2020-01-01T00:00:00+00:00", train_end="2020-06-30T00:00:00+00:00",
        features=[FeatureColumn(name="r", indicator="log_return")], network=SMALL, trading=TradingParameters(),
        regimes=REGIMES, train_sharpe=1.5, validation_sharpe=float("nan"), hashes={"bars": "x"},
    )  # fmt: skip
    shape = NetworkShape(features=1, assets=2, regimes=1, actions=3)
    networks = [awaken(build_network(SMALL, shape, torch.Generator().manual_seed(i))) for i in range(members)]
    return AgentBundle(spec, tuple(network.state_dict() for network in networks))


def test_a_bundle_comes_back_bit_for_bit_and_holds_no_pickle(tmp_path: Path) -> None:
    bundle = make_bundle()
    bundle.save(tmp_path / "agent")
    again = AgentBundle.load(tmp_path / "agent")
    assert {path.name for path in (tmp_path / "agent").iterdir()} == {"weights.safetensors", "agent.json"}
    assert again.name == "fold_1/seed_0"
    for before, after in zip(bundle.weights, again.weights, strict=True):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.spec.trading == bundle.spec.trading
    assert again.spec.features == bundle.spec.features
    features = torch.randn(1, 9, 2, 1, dtype=torch.float64)
    outputs = [agent.networks(torch.float64)[1].encoder(features, 3) for agent in (bundle, again)]
    assert torch.equal(*outputs)


def test_a_folder_that_is_no_agent_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not an agent: agent.json and weights.safetensors missing"):
        AgentBundle.load(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    make_bundle().save(tmp_path)
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))  # networks that masked their inputs
    with pytest.raises(ValueError, match="has format 3, this version reads 4"):
        AgentBundle.load(tmp_path)


@pytest.mark.parametrize(
    ("first", "last", "seen"),
    [
        ("2020-07-01T00:00:00+00:00", "2021-01-01T00:00:00+00:00", False),
        ("2020-06-30T00:00:00+00:00", "2021-01-01T00:00:00+00:00", True),
        ("2019-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00", True),
        ("2019-01-01T00:00:00+00:00", "2019-12-31T00:00:00+00:00", False),
        ("2020-02-01T00:00:00+00:00", "2020-03-01T00:00:00+00:00", True),
    ],
)
def test_rows_that_overlap_the_train_span_are_refused(first: str, last: str, seen: bool) -> None:
    spec = make_bundle().spec
    if seen:
        with pytest.raises(ValueError, match="was trained on bars from 2020-01-01"):
            refuse_seen_bars(spec, first, last)
    else:
        refuse_seen_bars(spec, first, last)


def test_other_symbols_are_refused() -> None:
    same_symbols([make_bundle()], ["AAA", "BBB"])
    with pytest.raises(ValueError, match="trades"):
        same_symbols([make_bundle()], ["BBB", "AAA"])
    with pytest.raises(ValueError, match=r"hold \['bbb'\] \(perhaps 'BBB' is meant by 'bbb'\) too"):
        same_symbols([make_bundle()], ["AAA", "bbb"])


def test_what_the_gate_said_travels_with_the_agent_and_older_agents_never_abstain(tmp_path: Path) -> None:
    bundle = make_bundle()
    assert math.isnan(bundle.spec.validation_t)
    replace(bundle, spec=replace(bundle.spec, validation_t=0.25, abstains=True)).save(tmp_path)
    again = AgentBundle.load(tmp_path).spec
    assert (again.validation_t, again.abstains) == (0.25, True)
    path = tmp_path / "agent.json"
    older = {
        name: value for name, value in json.loads(path.read_text()).items() if name not in ("validation_t", "abstains")
    }
    path.write_text(json.dumps(older))
    assert not AgentBundle.load(tmp_path).spec.abstains
    assert math.isnan(AgentBundle.load(tmp_path).spec.validation_t)


def test_what_became_of_missing_bars_travels_with_the_agent_and_older_agents_halt(tmp_path: Path) -> None:
    bundle = make_bundle()
    AgentBundle(replace(bundle.spec, missing="drop_bar"), bundle.weights).save(tmp_path)
    assert AgentBundle.load(tmp_path).spec.missing == "drop_bar"
    path = tmp_path / "agent.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in known.items() if name != "missing"}))
    assert AgentBundle.load(tmp_path).spec.missing == "halt"
