"""Every planted market: its law is what it says, and nothing simple earns more than its optimum."""

import numpy as np
import pytest

from planted.catalogue import MARKETS, PlantedMarket
from planted.groups import LeadLagLaw
from planted.laws import VOLUME_SWING, AutoregressiveLaw, DriftLaw, SignalLaw, SizeLaw
from planted.paths import PLAIN_VOLUME, Law, PlantedPath
from planted.scores import expected_profit

BARS = 20_000
EARNING = [name for name in MARKETS if name != "noise"]


def levels(law: Law) -> np.ndarray:
    return np.array([-1.0, 0.0, 1.0]) / law.assets


def profit(positions: np.ndarray, path: PlantedPath, cost: float) -> float:
    return float(expected_profit(positions, path.means, cost).sum(-1).mean())


def last_signs(means: np.ndarray, enter: float, leave: float) -> np.ndarray:
    """Turn to the sign of a mean above ``enter``, leave where it is below ``leave``, else keep ``[T, A]``."""
    decided = (np.abs(means) > enter) | (np.abs(means) < leave)
    signs = np.where(np.abs(means) > enter, np.sign(means), 0.0)
    rows = np.maximum.accumulate(np.where(decided, np.arange(len(means))[:, None], 0), axis=0)
    return np.take_along_axis(signs, rows, axis=0)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first, second)[0, 1])


@pytest.fixture(scope="module", params=EARNING)
def market(request: pytest.FixtureRequest) -> PlantedMarket:
    return MARKETS[request.param]


@pytest.fixture(scope="module")
def path(market: PlantedMarket) -> PlantedPath:
    return market.law.draw(round(BARS / market.law.assets**0.5), seed=5)


@pytest.fixture(scope="module")
def optimum(market: PlantedMarket, path: PlantedPath) -> np.ndarray:
    return market.law.optimum(path, market.cost_bps * 1e-4, levels(market.law))


def test_the_mean_of_the_next_return_is_its_mean(path: PlantedPath) -> None:
    """What is left of a return has mean 0, and nothing of it can be told from the mean: slope 0, to 4 errors."""
    surprise = path.returns[1:] - path.means[:-1]
    assert np.abs(surprise.mean(0)).max() < 4.0 * surprise.std() / len(surprise) ** 0.5
    moving = path.means[:-1].std(0) > 0.0
    for left, mean in zip(surprise.T[moving], path.means[:-1].T[moving], strict=True):
        assert abs(correlation(left, mean)) < 4.0 / len(left) ** 0.5


def test_no_threshold_rule_earns_more(market: PlantedMarket, path: PlantedPath, optimum: np.ndarray) -> None:
    cost, top = market.cost_bps * 1e-4, levels(market.law)[-1]
    best = profit(optimum, path, cost)
    assert best > 0.0
    for enter in np.quantile(np.abs(path.means), np.linspace(0.0, 0.95, 12)):
        for share in (0.0, 0.3, 0.6, 1.0):
            assert profit(top * last_signs(path.means, enter, share * enter), path, cost) <= best * 1.001


def test_who_misjudges_the_cost_earns_no_more(market: PlantedMarket, path: PlantedPath, optimum: np.ndarray) -> None:
    cost = market.cost_bps * 1e-4
    best = profit(optimum, path, cost)
    for factor in (0.0, 0.7, 1.4):
        other = market.law.optimum(path, cost * factor, levels(market.law))
        assert profit(other, path, cost) <= best * 1.0005


def test_the_optimum_knows_no_later_bar(market: PlantedMarket, path: PlantedPath, optimum: np.ndarray) -> None:
    early = PlantedPath(path.returns[:500], path.means[:500], path.volume[:500])
    assert np.array_equal(market.law.optimum(early, market.cost_bps * 1e-4, levels(market.law)), optimum[:500])


def test_a_seed_draws_one_path_and_a_longer_one_needs_no_other(market: PlantedMarket) -> None:
    first, again, other = (market.law.draw(300, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.returns, again.returns)
    assert not np.array_equal(first.returns, other.returns)
    assert first.returns.shape == first.means.shape == first.volume.shape == (300, market.law.assets)


def test_prohibitive_costs_leave_nothing_to_trade() -> None:
    for name in ("ar1", "reversal", "signal", "lead_lag"):  # the others drift a little, which pays for one entry
        law = MARKETS[name].law
        assert not law.optimum(law.draw(2_000, 0), 0.05, levels(law)).any(), name


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_an_autoregression_is_correlated_at_its_lag_alone(lag: int) -> None:
    returns = AutoregressiveLaw(0.3, 0.01, lag).draw(60_000, seed=1).returns[:, 0]
    for back in (1, 2, 3):
        expected = 0.3 if back % lag == 0 and back == lag else 0.3 ** (back // lag) if back % lag == 0 else 0.0
        assert correlation(returns[back:], returns[:-back]) == pytest.approx(expected, abs=0.02)
    assert returns.std() == pytest.approx(0.01 / (1 - 0.09) ** 0.5, rel=0.02)


def test_the_volume_shows_the_slow_signal() -> None:
    law = SignalLaw(0.1, 0.004, 0.95)
    path = law.draw(60_000, seed=1)
    signal = np.log(path.volume[:, 0] / PLAIN_VOLUME) / VOLUME_SWING
    assert path.means[:, 0] == pytest.approx(0.1 * 0.004 * signal)
    assert signal.std() == pytest.approx(1.0, rel=0.08)
    assert correlation(signal[1:], signal[:-1]) == pytest.approx(0.95, abs=0.01)


def test_a_strong_signal_moves_the_next_bar_and_no_other() -> None:
    path = SignalLaw(2.0, 0.004, 0.5).draw(20_000, seed=1)
    assert (path.returns[1:] - path.means[:-1]).std() == pytest.approx(0.004, rel=0.03)
    assert (path.returns - path.means).std() > 0.008


def test_sizes_tell_signs_and_signs_tell_nothing() -> None:
    returns = SizeLaw(0.3, 0.004).draw(60_000, seed=1).returns[:, 0]
    sizes = np.abs(returns[:-1])
    assert np.polyfit(sizes, returns[1:], 1)[0] == pytest.approx(0.3, abs=0.02)
    assert abs(correlation(returns[1:], returns[:-1])) < 0.03  # the skew of the sizes' own drift leaves a little


def test_a_drift_is_held_in_its_direction() -> None:
    for mean, held in ((1e-4, 1.0), (-1e-4, -1.0)):
        law = DriftLaw(mean, 0.004)
        path = law.draw(100_000, seed=1)
        assert path.returns.mean() == pytest.approx(mean, abs=4 * 0.004 / 100_000**0.5)
        assert (law.optimum(path, 2e-4, levels(law)) == held).all()


def test_the_second_asset_lags_the_first_by_one_bar() -> None:
    law = LeadLagLaw(0.3, 0.01)
    path = law.draw(100_000, seed=1)
    lead, follower = path.returns.T
    assert correlation(follower[1:], lead[:-1]) == pytest.approx(0.3 / (1.0 + 0.09) ** 0.5, abs=0.01)
    for first, second in (
        (lead[1:], lead[:-1]),
        (lead[1:], follower[:-1]),
        (follower[1:], follower[:-1]),
        path.returns.T,
    ):
        assert abs(correlation(first, second)) < 0.015
    assert not law.optimum(path, 2e-4, levels(law))[:, 0].any()


def test_independent_assets_are_solved_one_by_one() -> None:
    law = MARKETS["assets20"].law
    path = law.draw(1_000, seed=3)
    together = law.optimum(path, 2e-4, levels(law))
    phi = law.phis[5]  # type: ignore[attr-defined]
    alone = AutoregressiveLaw(phi, 0.004)
    column = PlantedPath.of(path.returns[:, 5:6], path.means[:, 5:6])
    assert np.array_equal(together[:, 5:6], alone.optimum(column, 2e-4, levels(law)))
    assert path.means[:, 5] == pytest.approx(phi * path.returns[:, 5])


def test_noise_has_nothing_to_earn() -> None:
    law = MARKETS["noise"].law
    path = law.draw(1_000, seed=0)
    assert not path.means.any()
    assert not law.optimum(path, 2e-4, levels(law)).any()
