from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import NetworkParameters, TradingParameters
from sentio_kedro.manifests import (
    STAGES,
    StaleArtifactsError,
    agents_identity,
    code_hash,
    expected_manifest,
    explain_difference,
    flatten_parameters,
    require_manifests,
    upstream_stages,
)

COLUMNS = {"columns": [{"name": "return_1", "indicator": "log_return"}]}
RAW = {
    **{
        name: {}
        for name in (
            "ingestion",
            "universe",
            "cross_validation",
            "regimes",
            "forecasting",
            "trading",
            "network",
            "training",
        )
    },
    "backtest": {},
    "external_test": {},
    "reporting": {},
    "features": COLUMNS,
}
PARAMETERS = flatten_parameters(RAW)


def changed(**dotted):
    return PARAMETERS | {name.replace("__", "."): value for name, value in dotted.items()}


def stale(parameters, bars="bars"):
    """Stages whose manifest differs from that of the default parameters."""
    return [
        stage
        for stage in STAGES
        if expected_manifest(stage, "bars", PARAMETERS).digest != expected_manifest(stage, bars, parameters).digest
    ]


def test_typed_and_plain_parameters_are_the_same():
    typed = {**RAW, "network": NetworkParameters(width=32), "trading": TradingParameters()}
    assert flatten_parameters(typed) == flatten_parameters({**RAW, "network": {"width": 32}})
    assert flatten_parameters(typed)["network.width"] == 32
    assert flatten_parameters(typed)["trading.costs.commission_bps"] == 1.0
    assert flatten_parameters(typed)["trading.levels"] == [-1.0, 0.0, 1.0]


def test_every_parameter_of_the_shipped_configuration_is_flattened(request):
    root = request.config.rootpath / "conf" / "base"
    raw = {}
    for path in sorted(root.glob("parameters_*.yml")):
        raw |= yaml.safe_load(path.read_text())
    assert flatten_parameters(raw).keys() == PARAMETERS.keys()


def test_shipped_configuration_names_every_parameter(request):
    root = request.config.rootpath / "conf" / "base"
    named = set()

    def walk(prefix, value):
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else key, item)
        else:
            named.add(prefix)

    for path in root.glob("parameters_*.yml"):
        walk("", yaml.safe_load(path.read_text()))
    beside = ("signals.", "search.", "comparison.", "promotion.", "registry.", "download.", "trader.")  # no manifest
    known = {name for name in named if not name.startswith(beside)}
    assert known <= PARAMETERS.keys()
    on_pages = ("trading.", "network.", "training.")  # what a preset or variant sets is named by a page of its own
    missing = {name for name in PARAMETERS.keys() - known if not name.startswith(on_pages)}
    assert not missing


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"ingestion__missing": "drop_bar"}, "ingestion"),
        ({"features__columns": []}, "features"),
        ({"cross_validation__folds": 5}, "cross_validation"),
        ({"network__window": 64}, "cross_validation"),
        ({"training__episode_bars": 128}, "cross_validation"),
        ({"trading__orders__latency_bars": 2}, "cross_validation"),
        ({"regimes__memory": 64}, "cross_validation"),
        ({"regimes__states": 2}, "regimes"),
        ({"network__width": 32}, "training"),
        ({"training__seed": 1}, "training"),
        ({"trading__costs__commission_bps": 2.0}, "forecasting"),
        ({"trading__gross_limit": 0.5}, "training"),
        ({"backtest__momentum_bars": 7}, "backtest"),
        ({"reporting__confidence": 0.9}, "reporting"),
    ],
)
def test_a_parameter_makes_its_stage_and_all_later_ones_stale(change, first):
    assert stale(changed(**change)) == list(STAGES[STAGES.index(first) :])


def test_agents_act_on_forecasts():
    assert stale(changed(forecasting__price_of_risk=2.0)) == ["forecasting", "training", "backtest", "reporting"]


def test_other_bars_make_every_stage_stale():
    assert stale(PARAMETERS, bars="other bars") == list(STAGES)


@pytest.mark.parametrize("name", ["training__device", "training__threads", "training__checkpoint_updates"])
def test_how_a_result_is_computed_is_not_what_it_is(name):
    assert stale(changed(**{name: "another"})) == []


@settings(max_examples=20, deadline=None)
@given(st.permutations(sorted(PARAMETERS)))
def test_digest_does_not_depend_on_the_order_of_parameters(names):
    assert stale({name: PARAMETERS[name] for name in names}) == []


def test_an_external_test_needs_bars_alone():
    assert upstream_stages("external_test") == ("ingestion",)
    assert upstream_stages("reporting") == STAGES[:-1]
    manifest = expected_manifest("external_test", "bars", PARAMETERS)
    assert "external_test.agent" in manifest.parameters
    assert "training.gamma" not in manifest.parameters
    assert agents_identity("bars", PARAMETERS) == expected_manifest("training", "bars", PARAMETERS).digest


def test_matching_manifest_is_accepted_and_extra_entries_are_ignored():
    expected = expected_manifest("training", "bars", PARAMETERS)
    assert explain_difference({**expected.to_dict(), "digest": expected.digest}, expected) is None


def test_difference_names_the_key_and_both_values():
    found = expected_manifest("training", "bars", changed(network__width=32, trading__max_drawdown=0.5)).to_dict()
    reason = explain_difference(found, expected_manifest("training", "bars", PARAMETERS))
    assert "`network.width` was 32, is now 16" in reason
    assert "`trading.max_drawdown` was 0.5, is now null" in reason


def test_difference_of_bars_is_said_so():
    found = expected_manifest("ingestion", "other", PARAMETERS).to_dict()
    assert "other bars" in explain_difference(found, expected_manifest("ingestion", "bars", PARAMETERS))


def test_stage_made_from_an_earlier_result_is_stale():
    expected = expected_manifest("regimes", "bars", PARAMETERS)
    found = replace(expected, upstream={**expected.upstream, "cross_validation": "0" * 64}).to_dict()
    assert explain_difference(found, expected) == "`regimes` was made from an earlier result of `cross_validation`"


def test_all_problems_come_at_once_with_the_command_that_solves_them():
    expected = {stage: expected_manifest(stage, "bars", PARAMETERS) for stage in ("features", "regimes")}
    old = expected_manifest("features", "bars", changed(features__columns=[])).to_dict()
    with pytest.raises(StaleArtifactsError) as error:
        require_manifests({"features": old}, expected, options=["--env equities"])
    message = str(error.value)
    assert "`features.columns` was []" in message
    assert "`regimes` has not been run" in message
    assert "`kedro run --pipelines features,regimes --env equities`" in message


def test_any_manifest_will_do_where_only_presence_counts():
    with pytest.raises(StaleArtifactsError, match="kedro run --pipeline training"):
        require_manifests({}, {}, present=["training"])
    require_manifests({"training": {"bars_hash": "other"}}, {}, present=["training"])


def test_the_code_hash_sees_names_and_content(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    first = code_hash(tmp_path)
    assert first == code_hash(tmp_path)
    (tmp_path / "a.py").write_text("x = 2\n")
    second = code_hash(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, code_hash(tmp_path)}) == 3


def test_the_learners_code_hash_sees_its_packages_alone(tmp_path):
    for package in ("agent", "evaluation"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("x = 1\n")
    first = code_hash(tmp_path, ["agent"])
    (tmp_path / "evaluation" / "a.py").write_text("x = 2\n")
    assert code_hash(tmp_path, ["agent"]) == first
    (tmp_path / "agent" / "a.py").write_text("x = 2\n")
    assert code_hash(tmp_path, ["agent"]) != first
