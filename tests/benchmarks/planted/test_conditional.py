"""Laws that depend on a second column or the clock, and noise that clusters."""

import numpy as np
import pytest

from planted.catalogue import CONDITIONAL
from planted.conditional import DAY, PAYING, ClusteredNoiseLaw, HoursLaw, InteractionLaw
from planted.paths import PLAIN_VOLUME
from planted.scores import expected_profit

LEVELS = np.array([-1.0, 0.0, 1.0])


@pytest.mark.parametrize("name", ["interaction", "hours"])
def test_no_threshold_rule_earns_more_than_the_optimum(name: str) -> None:
    market = CONDITIONAL[name]
    cost, path = market.cost_bps * 1e-4, market.law.draw(20_000, 0)
    best = expected_profit(market.law.optimum(path, cost, LEVELS), path.means, cost).sum()
    assert best > 0.0
    for threshold in np.quantile(np.abs(path.means), [0.0, 0.3, 0.6, 0.8, 0.9]):
        held = np.where(np.abs(path.means) > threshold, np.sign(path.means), 0.0)
        assert expected_profit(held, path.means, cost).sum() <= best * 1.001
    early = type(path)(path.returns[:400], path.means[:400], path.volume[:400])
    np.testing.assert_array_equal(market.law.optimum(early, cost, LEVELS), market.law.optimum(path, cost, LEVELS)[:400])


def test_neither_column_of_the_interaction_predicts_alone() -> None:
    law = InteractionLaw(0.15, 0.004, 50.0)
    path = law.draw(200_000, 1)
    returns, state = path.returns[:, 0], np.sign(np.log(path.volume[:, 0] / PLAIN_VOLUME))
    assert abs(np.corrcoef(returns[:-1], returns[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(state[:-1], returns[1:])[0, 1]) < 0.01
    assert np.corrcoef(state[:-1] * returns[:-1], returns[1:])[0, 1] == pytest.approx(0.15, abs=0.01)
    assert (state[1:] != state[:-1]).mean() == pytest.approx(1 / 50, abs=0.003)


def test_hours_pay_after_the_named_times() -> None:
    path = HoursLaw(0.0014, -0.0002, 0.004).draw(48 * 4_000, 2)
    after = np.roll(path.returns[:, 0], -1)[:-48].reshape(-1, DAY).mean(axis=0)
    assert after[list(PAYING)] == pytest.approx([0.0014] * len(PAYING), abs=3e-4)
    assert np.delete(after, PAYING) == pytest.approx([-0.0002] * (DAY - len(PAYING)), abs=3e-4)


def test_the_noise_has_no_mean_and_its_size_clusters() -> None:
    law = ClusteredNoiseLaw(0.004)
    path = law.draw(100_000, 3)
    returns = path.returns[:, 0]
    assert not path.means.any()
    assert not law.optimum(path, 1e-4, LEVELS).any()
    assert abs(np.corrcoef(returns[:-1], returns[1:])[0, 1]) < 0.02
    size = np.minimum(np.abs(returns), 0.02)
    assert np.corrcoef(size[:-1], size[1:])[0, 1] > 0.1
    assert returns.std() == pytest.approx(0.004, rel=0.25)
