"""The test of superior predictive ability is arch's, has its size, and knows how many models were tried."""

from __future__ import annotations

import numpy as np
import pytest
from arch.bootstrap import SPA
from scipy import stats

from sentio_kedro.evaluation.statistics import superior_ability as module
from sentio_kedro.evaluation.statistics.bootstrap import automatic_block
from sentio_kedro.evaluation.statistics.superior_ability import superiority


def test_it_agrees_with_arch_called_directly() -> None:
    rng = np.random.default_rng(0)
    baseline, agent = rng.normal(0.0, 0.01, 500), rng.normal(0.001, 0.02, 500)
    block = max(1, round(automatic_block(agent - baseline)))
    direct = SPA(-baseline, -agent, block, 300, seed=5)
    direct.compute()
    assert superiority(agent, baseline, samples=300, seed=5) == direct.pvalues["consistent"]


def test_of_several_models_it_agrees_with_arch_on_scaled_differences() -> None:
    rng = np.random.default_rng(0)
    baseline, models = rng.normal(0.0, 0.01, 500), rng.normal(0.0, 0.01, (500, 6))
    models[:, 0] += 0.002  # the agent is the best of them
    differences = models - baseline[:, None]
    direct = SPA(np.zeros(500), -differences / differences.std(axis=0), 10, 300, seed=1)
    direct.compute()
    p = superiority(models[:, 0], baseline, models[:, 1:], samples=300, mean_block=10.0, seed=1)
    assert p == direct.pvalues["consistent"]


def test_on_noise_it_has_a_size_of_five_percent() -> None:
    rng = np.random.default_rng(0)
    sets, rejected = 300, 0
    for seed in range(sets):
        baseline, *models = rng.normal(0.0, 0.01, (5, 120))
        best, *others = sorted(models, key=np.mean, reverse=True)
        p = superiority(best, baseline, np.stack(others, axis=1), samples=100, mean_block=2.0, seed=seed)
        rejected += p < 0.05
    low, high = stats.binom.interval(0.999, sets, 0.05)
    assert low <= rejected <= high


def test_the_best_of_many_noise_models_is_not_superior_though_it_looks_so_alone() -> None:
    returns = np.random.default_rng(2).normal(0.0, 0.01, (600, 101))
    best = 1 + returns[:, 1:].mean(axis=0).argmax()
    others = np.delete(returns, [0, best], axis=1)
    assert superiority(returns[:, best], returns[:, 0], samples=300) < 0.05
    assert superiority(returns[:, best], returns[:, 0], others, samples=300) > 0.1


def test_a_better_model_does_not_lend_its_p_value_to_the_agent() -> None:
    rng = np.random.default_rng(0)
    baseline, agent = rng.normal(0.0, 0.01, (2, 800))
    great = rng.normal(0.005, 0.01, (800, 1))
    assert superiority(great[:, 0], baseline, agent[:, None], samples=200) < 0.05
    assert superiority(agent, baseline, great, samples=200) > 0.3


def test_bars_are_summed_where_there_are_many_and_the_answer_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    baseline, agent = rng.normal(0.0, 0.01, 1_001), rng.normal(0.0004, 0.01, 1_001)
    whole = superiority(agent, baseline, samples=2_000, mean_block=32.0)
    asked: list[tuple[int, int]] = []

    def spying(benchmark: np.ndarray, models: np.ndarray, block: int, samples: int, *, seed: int) -> SPA:
        asked.append((len(models), block))
        return SPA(benchmark, models, block, samples, seed=seed)

    monkeypatch.setattr(module, "MAX_OBSERVATIONS", 250)
    monkeypatch.setattr("arch.bootstrap.SPA", spying)
    assert superiority(agent, baseline, samples=2_000, mean_block=32.0) == pytest.approx(whole, abs=0.04)
    assert asked == [(201, 6)]  # five bars an observation: blocks of 32 bars are about six of them


def test_leverage_alone_lends_a_model_no_weight() -> None:
    rng = np.random.default_rng(0)
    agent, other = rng.normal(0.001, 0.01, 500), rng.normal(0.0, 0.01, (500, 1))
    cash = np.zeros(500)
    assert superiority(agent, cash, other, samples=200) == superiority(agent, cash, 50.0 * other, samples=200)


def test_the_baseline_itself_is_not_superior_and_other_rows_are_refused() -> None:
    path = np.random.default_rng(0).normal(0.0, 0.01, 50)
    assert superiority(path, path) == 1.0
    with pytest.raises(ValueError, match="rows of `agent`, 50, had 49"):
        superiority(path, path[1:])


def test_a_lead_of_rounding_is_none() -> None:
    agent = np.random.default_rng(0).normal(0.0005, 0.004, 500)
    assert superiority(agent, agent - 1e-19 * np.arange(500.0)) == 1.0
    assert superiority(agent, (agent * 3.0) / 3.0 * (1.0 - 1e-15)) == 1.0
