"""A space is typed by the sections that it names and refused before any work if they cannot be built from it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sentio_kedro.config import AgentParameters, NetworkParameters, SearchRange, TradingParameters, TrainingParameters
from sentio_kedro.search.space import base_values, candidate_parameters, search_distributions

BASE = AgentParameters(NetworkParameters(), TrainingParameters(), TradingParameters())


def distributions(fixed: Mapping[str, str] | None = None, **space: Any) -> dict[str, BaseDistribution]:
    ranges = {name.replace("__", "."): SearchRange(**values) for name, values in space.items()}
    return search_distributions(ranges, BASE, fixed or {})


def test_distributions_have_the_types_of_the_parameters() -> None:
    made = distributions(
        training__entropy={"low": 0, "high": 1},  # whole numbers for a fraction
        training__learning_rate={"low": 0.001, "high": 0.1, "log": True},
        training__block_bars={"low": 16, "high": 128, "step": 16},
        network__width={"low": 8, "high": 32, "step": 4},
        training__threads={"low": 1, "high": 4},  # null in the base
        training__advantages={"choices": ["all_action", "sampled"]},
        training__gamma={"choices": [0, 0.5]},
    )
    assert made == {
        "training.entropy": FloatDistribution(0.0, 1.0),
        "training.learning_rate": FloatDistribution(0.001, 0.1, log=True),
        "training.block_bars": IntDistribution(16, 128, step=16),
        "network.width": IntDistribution(8, 32, step=4),
        "training.threads": IntDistribution(1, 4),
        "training.advantages": CategoricalDistribution(["all_action", "sampled"]),
        "training.gamma": CategoricalDistribution([0.0, 0.5]),
    }
    assert isinstance(made["training.gamma"], CategoricalDistribution)
    assert type(made["training.gamma"].choices[0]) is float


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        (
            "training.entropi",
            {"low": 0.1, "high": 1.0},
            "parameters that exist, had `training.entropi`; did you mean `tra",
        ),
        (
            "trading.gross_limit",
            {"low": 0.1, "high": 1.0},
            "parameters of network and training, had `trading.gross_limit`",
        ),
        ("training", {"low": 0.1, "high": 1.0}, "must name single parameters, had `training`"),
        ("training.stopping", {"low": 1, "high": 2}, "name one such as `training.stopping.patience`"),
        (
            "training.gamma",
            {"low": 0.5, "high": 1.0},
            r"`search.space.training.gamma`.*had 1.0: .*less than 1; change it",
        ),
        ("network.width", {"low": 8.5, "high": 16}, r"`search.space.network.width`.*had 8.5: .*fractional part"),
        (
            "network.width",
            {"low": 8, "high": 16, "step": 0.5},
            "step` must be a whole number as the parameter is, was 0.5",
        ),
        ("training.advantages", {"choices": ["sampled", "guessed"]}, r"had 'guessed': .*'all_action' or 'sampled'"),
        ("training.path_baseline", {"low": 0, "high": 1}, "must have `choices`, because the parameter is no number"),
        ("training.seed", {"low": 0, "high": 9}, "the best of several seeds is chance; remove it"),
        ("training.seeds", {"low": 1, "high": 9}, "must be measured with as many seeds"),
        ("training.abstention", {"low": 0.1, "high": 0.5}, "are scored before the gate"),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_remedy(name: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        search_distributions({name: SearchRange(**values)}, BASE, {})


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)entropi.*had 2.0") as refused:
        distributions(training__entropi={"low": 0.1, "high": 1.0}, training__clip={"low": 0.1, "high": 2.0})
    assert len(str(refused.value).splitlines()) == 2


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`search.space` must name at least one parameter, was empty"):
        distributions()


def test_names_can_be_fixed_by_the_caller() -> None:
    with pytest.raises(ValueError, match=r"must not name `network.window`: folds were made with it; remove it"):
        distributions({"network.window": "folds were made with it"}, network__window={"low": 4, "high": 8})


def test_a_value_in_the_middle_of_a_range_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`network.width` = 9 is refused: `network.width` must be a multiple of .* 4"):
        distributions(network__width={"low": 8, "high": 32})


def test_a_combination_that_cannot_be_built_is_refused() -> None:
    heads, width = {"choices": [2, 4]}, {"choices": [8, 12]}
    distributions(network__heads=heads)
    distributions(network__width=width)
    with pytest.raises(ValueError, match=r"`network.heads` = 4, `network.width` = 12 is refused"):
        distributions(network__heads=heads, network__width=width)


def test_the_only_wrong_combination_of_a_small_space_is_found() -> None:
    axes: dict[str, Any] = {
        "training__minibatches": {"choices": [1, 2, 4, 3]},
        "training__epochs": {"low": 1, "high": 5},
        "training__gamma": {"low": 0.0, "high": 0.9, "step": 0.1},
    }
    with pytest.raises(
        ValueError, match=r"minibatches` = 3, `training.epochs` = 1, `training.gamma` = 0.0 is"
    ) as found:
        distributions(**axes)
    assert len(str(found.value).splitlines()) == 3  # and the search for more ended there


def test_a_combination_of_a_large_space_that_cannot_be_built_is_refused() -> None:
    axes = {f"training__{name}": {"low": 1, "high": 30} for name in ("epochs", "checkpoint_updates", "replicas")}
    distributions(**axes)
    with pytest.raises(ValueError, match=r"must divide `training.windows` = 32"):
        distributions(**axes, training__minibatches={"low": 1, "high": 4})


def test_a_combination_may_need_what_the_base_does_not_have() -> None:
    wide = replace(BASE, network=NetworkParameters(width=12, heads=3))
    ranges = {"network.heads": SearchRange(choices=[2, 4]), "network.width": SearchRange(choices=[8, 16])}
    assert list(search_distributions(ranges, wide, {})) == ["network.heads", "network.width"]


def test_a_candidate_changes_what_it_names_and_nothing_else() -> None:
    values = {"network.width": 8, "training.block_bars": 32, "training.gamma": 0.5}
    made = candidate_parameters(BASE, values)
    assert (made.network.width, made.training.block_bars, made.training.gamma) == (8, 32, 0.5)
    back = {"network.width": 16, "training.block_bars": 128, "training.gamma": 0.9}
    assert candidate_parameters(made, back) == BASE
    assert made.trading is BASE.trading


@given(gamma=st.floats(0.0, 0.99), width=st.sampled_from([8, 12, 16]), seed=st.integers(0, 5))
def test_candidates_hold_exactly_the_proposed_values(gamma: float, width: int, seed: int) -> None:
    made = candidate_parameters(BASE, {"training.gamma": gamma, "network.width": width, "training.seed": seed})
    assert (made.training.gamma, made.network.width, made.training.seed) == (gamma, width, seed)


def test_the_base_is_proposed_only_where_the_space_holds_it() -> None:
    inside = distributions(training__gamma={"low": 0.5, "high": 0.99}, network__width={"choices": [8, 16]})
    assert base_values(BASE, inside) == {"training.gamma": 0.9, "network.width": 16}
    outside = distributions(training__gamma={"low": 0.5, "high": 0.99}, network__width={"choices": [8, 32]})
    assert base_values(BASE, outside) is None
