"""Agents are stored as safetensors and JSON, and refuse bars of their train span."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.agent.awake import awaken

from sentio_kedro.agent.bundle import (
    AgentBundle,
    AgentSpec,
    load_agents,
    refuse_seen_bars,
    same_symbols,
    save_agents,
)
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.agent.saving import write_description
from sentio_kedro.config import FeatureColumn, NetworkParameters, TradingParameters
from sentio_kedro.damage import DamagedFileError

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
    with pytest.raises(ValueError, match="has format 3, this version reads 5; train the agent again"):
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


def told(folder: Path) -> str:
    with pytest.raises(DamagedFileError) as damaged:
        AgentBundle.load(folder)
    return str(damaged.value).replace(f"{folder.as_posix()}/", "")


def described(folder: Path, **changes: object) -> None:
    """Save an agent again whose description has other entries; those that are None are left out."""
    path = folder / "agent.json"
    description = {name: value for name, value in (json.loads(path.read_text()) | changes).items() if value is not None}
    path.write_text(json.dumps(description))


def test_one_byte_of_the_weights_that_changed_is_seen(tmp_path: Path) -> None:
    make_bundle().save(tmp_path)
    path = tmp_path / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # still a whole file of finite weights
    path.write_bytes(bytes(content))
    assert re.fullmatch(
        r"`weights.safetensors` is not the file that was saved: its SHA-256 is \w{8}\.\.\., `agent.json` has "
        r"\w{8}\.\.\.; train the agent again\.",
        told(tmp_path),
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"members": None}, "`members`: Field required"),
        ({"members": "two"}, "`members`: Input should be a valid integer"),
        ({"files": None}, "`agent.json` lacks 'files'; train the agent again"),
        ({"files": {}}, "`agent.json` lacks 'weights.safetensors'"),
        ({"files": 3}, "`agent.json` has another form than is saved here"),
        ({"symbols": "AAA", "trained": 1}, "`trained`: Unexpected keyword argument"),
        ({"regimes": {"means": [0.0]}}, "`agent.json` lacks 'deviations'; train the agent again"),
        ({"members": 3}, "weights of member 2 are not those of the network: encoder."),
        ({"symbols": ["AAA"]}, "weights of member 0 are not those of the network: "),
        (
            {"network": {"width": 16, "heads": 2, "window": 4, "convolution": 2, "hidden": 8}},
            "weights of member 0 are not",
        ),
    ],
)
def test_a_description_of_another_form_is_named_with_its_fault_and_remedy(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    make_bundle().save(tmp_path)
    described(tmp_path, **changes)
    assert said in told(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"format": 5', '"agent"'])
def test_a_description_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    make_bundle().save(tmp_path)
    (tmp_path / "agent.json").write_text(text)
    assert told(tmp_path).startswith("`agent.json` ")


def test_weights_of_other_names_are_named(tmp_path: Path) -> None:
    make_bundle().save(tmp_path)
    save_file({"member_0.nothing": torch.zeros(1)}, tmp_path / "weights.safetensors")
    description = json.loads((tmp_path / "agent.json").read_text())
    write_description(tmp_path / "agent.json", description, ["weights.safetensors"])
    assert "`weights.safetensors` cannot be read (weights of member 0 are not those of the network" in told(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_neither_saved_nor_loaded(tmp_path: Path, value: float) -> None:
    bundle = make_bundle()
    bundle.save(tmp_path)
    name = next(iter(bundle.weights[1]))
    bundle.weights[1][name].view(-1)[0] = value
    with pytest.raises(
        DamagedFileError, match=rf"agent `fold_1/seed_0` must hold finite.*member_1\.{name}\); lower `tr"
    ):
        bundle.save(tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
    tensors = {f"member_{i}.{key}": tensor for i, member in enumerate(bundle.weights) for key, tensor in member.items()}
    save_file(tensors, tmp_path / "weights.safetensors")
    description = json.loads((tmp_path / "agent.json").read_text())
    write_description(tmp_path / "agent.json", description, ["weights.safetensors"])
    assert f"must hold finite numbers, had others in 1 arrays (member_1.{name}); train" in told(tmp_path)


def test_agents_come_back_by_name_and_a_set_that_is_not_the_saved_one_is_refused(tmp_path: Path) -> None:
    save_agents({f"fold_1/seed_{seed}": make_bundle() for seed in (1, 0)}, tmp_path)
    assert list(load_agents(tmp_path)) == ["fold_1/seed_0", "fold_1/seed_1"]
    (tmp_path / "fold_1" / "seed_1" / "agent.json").unlink()
    with pytest.raises(DamagedFileError, match=r"`fold_1/seed_1` is missing. Restore it, or train the agent again"):
        load_agents(tmp_path)
