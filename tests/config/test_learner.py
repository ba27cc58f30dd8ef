"""Network and training parameters: learners by name, and settings that fit each other."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config import AgentParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.config.presets import VARIANTS as VARIANT_KEYS

SHIPPED = Path(__file__).parents[2] / "conf" / "base" / "parameters_training.yml"


def test_the_enhanced_learner_is_where_the_classes_start() -> None:
    assert NetworkParameters(variant="enhanced") == NetworkParameters()
    assert TrainingParameters(variant="enhanced") == TrainingParameters()


def test_the_standard_learner_has_no_mask_and_a_critic_of_one_value() -> None:
    network, training = NetworkParameters(variant="standard"), TrainingParameters(variant="standard")
    assert (network.masked, network.quantiles, network.regime_experts) == (False, 1, False)
    assert (training.advantages, training.path_baseline, training.divergence.coefficient) == ("sampled", False, 0.0)
    assert NetworkParameters(variant="maskable").masked


@pytest.mark.parametrize("variant", ["standard", "maskable"])
def test_the_shipped_parameters_leave_a_variant_what_makes_it_plain(variant: str) -> None:
    shipped = yaml.safe_load(SHIPPED.read_text())
    for section, kind in (("network", NetworkParameters), ("training", TrainingParameters)):
        built = TypeAdapter(kind).validate_python(shipped[section] | {"variant": variant})
        assert {key: getattr(built, key) for key in VARIANT_KEYS[variant][section]} == VARIANT_KEYS[variant][section]


def test_single_keys_override_a_variant_however_they_arrive() -> None:
    built = TrainingParameters(variant="standard", path_baseline=True)
    read = TypeAdapter(TrainingParameters).validate_python({"variant": "standard", "path_baseline": True})
    assert built == read
    assert built.path_baseline
    assert built.advantages == "sampled"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "better"}, "variant"),
        ({"critic_target": "distribution"}, "needs `training.advantages: sampled`, was all_action; set it"),
        ({"windows": 32, "minibatches": 4, "accumulation": 3}, "`training.accumulation` must divide"),
        (
            {"divergence": {"min_coefficient": 2.0, "max_coefficient": 1.0}},
            "`training.divergence.min_coefficient` must be at most",
        ),
        ({"divergence": {"coefficient": 1.0, "target": 0.1, "max_kl": 0.1}}, "`training.divergence.max_kl` must be"),
        (
            {"advantages": "sampled", "tail": {"limit": 0.1}},
            "`training.tail.limit` needs `training.advantages: all_act",
        ),
        ({"tail": {"alpha": 0.6}}, "tail.alpha"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(TrainingParameters).validate_python(changes)
    assert message in str(refused.value)


def test_half_a_learner_is_refused() -> None:
    network, training = NetworkParameters(variant="standard"), TrainingParameters()
    with pytest.raises(ValueError, match=r"must be the same learner, were standard and enhanced"):
        AgentParameters(network, training, TradingParameters())


OF_RULE: dict[str, Any] = {
    "network": {"variant": "forecasts"},
    "training": {"variant": "forecasts"},
    "trading": {"unit": "rule"},
}


def agent_of_rule(section: str = "network", **changes: Any) -> AgentParameters:
    given = {name: keys | (changes if name == section else {}) for name, keys in OF_RULE.items()}
    return AgentParameters(
        NetworkParameters(**given["network"]),
        TrainingParameters(**given["training"]),
        TradingParameters(**given["trading"]),
    )


def test_levels_of_the_rule_are_multiples_of_its_position() -> None:
    made = agent_of_rule()
    assert made.trading.levels == [0.0, 0.5, 1.0, 1.5]
    assert (made.network.encoder, made.training.gamma, made.training.abstention) == ("mlp", 0.995, 2.0)
    assert agent_of_rule("trading", levels=[0.0, 1.0]).trading.levels == [0.0, 1.0]
    assert TradingParameters().levels == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("network", {"encoder": "transformer"}, "`network.encoder` must be mlp with `trading.unit: rule`"),
        ("training", {"advantages": "sampled"}, "`training.advantages` must be all_action with"),
        ("training", {"block_bars": 128}, "`training.block_bars` must be null with"),
        ("trading", {"unit": "allocation"}, "`trading.unit` must be rule with `training.variant: forecasts`"),
        ("trading", {"levels": [0.0, 0.5]}, r"must contain 1 \(the rule's own position\)"),
        ("trading", {"levels": [-1.0, 0.0, 1.0]}, r"must lie in \[0, 2\] with `trading.unit: rule`"),
    ],
)
def test_what_does_not_fit_the_rule_is_refused_by_name(section: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agent_of_rule(section, **changes)
