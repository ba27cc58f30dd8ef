"""Network and training parameters: learners by name, a page that lists every key, and settings that fit each other."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError
from tests.config.pages import leaves, written

from sentio_kedro.config import AgentParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.config.presets import VARIANTS as VARIANT_KEYS

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
VARIANTS = ("standard", "maskable", "enhanced")


@pytest.mark.parametrize(("section", "kind"), [("network", NetworkParameters), ("training", TrainingParameters)])
def test_the_page_lists_every_key_with_its_value_in_every_variant(section: str, kind: Any) -> None:
    values = [leaves(kind(variant=variant)) for variant in VARIANTS]
    page = PAGE.read_text()
    for key in values[0].keys() - {"variant"}:
        cells = " | ".join(written(variant[key]) for variant in values)
        assert f"| `{section}.{key}` | {cells} |" in page, key


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
    shipped = yaml.safe_load((PAGE.parents[1] / "conf" / "base" / "parameters_training.yml").read_text())
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
        ({"entropy": 0.1, "min_entropy": 0.2}, "`training.min_entropy` must be at most"),
        (
            {"divergence": {"min_coefficient": 2.0, "max_coefficient": 1.0}},
            "`training.divergence.min_coefficient` must be at most",
        ),
        ({"divergence": {"coefficient": 1.0, "target": 0.1, "max_kl": 0.1}}, "`training.divergence.max_kl` must be"),
        ({"advantages": "sampled", "replicas": 1, "path_baseline": False, "tail": {"limit": 0.1}}, "at least 2"),
        ({"tail": {"pool": 100}}, "tail.pool"),
        ({"averaging": 1.0}, "averaging"),
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
