"""Estimates against what was measured, limits of control groups, and the largest values that fit."""

import pytest
import torch

from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.config import NetworkParameters
from sentio_kedro.preflight import resources
from sentio_kedro.preflight.sizes import Sizes

SMALL = {
    **{"bars": 2_699, "assets": 2, "states": 2, "folds": 1, "validation": 230, "tested": 700, "inputs": 8},
    **{"workers": 1, "parts": 2, "sampled": False, "attends": True, "levels": 3, "replicas": 8, "total_steps": 1},
    **{"seeds": 1, "members": 1, "windows": 4, "episode_bars": 16, "width": 8, "layers": 1, "heads": 2, "window": 8},
    **{"convolution": 2, "hidden": 8, "quantiles": 11, "drawdown_sessions": 0, "paths": 0, "bootstrap_samples": 50},
    "forecast_workers": 1,
}

MEASURED = [  # peak of two updates and their validation beyond the process before, megabytes; benchmarks/memory.py
    (91, {"windows": 1_024}),
    (363, {"windows": 4_096}),
    (286, {"windows": 4_096, "parts": 64}),
    (473, {"windows": 2_048, "parts": 64, "episode_bars": 64}),
    (412, {"windows": 2_048, "parts": 64, "hidden": 128}),
    (511, {"windows": 2_048, "hidden": 128}),
    (540, {"windows": 2_048, "parts": 64, "width": 64}),
    (743, {"windows": 2_048, "width": 64}),
    (1_404, {"windows": 2_048, "width": 64, "layers": 3}),
    (342, {"windows": 2_048, "quantiles": 101}),
    (594, {"windows": 2_048, "window": 32, "width": 16}),
    (260, {"windows": 2_048, "parts": 64, "levels": 5}),
    (421, {"windows": 2_048, "parts": 64, "sampled": True}),
    (658, {"windows": 1_024, "sampled": True, "quantiles": 51, "hidden": 64}),
    (1_126, {"width": 2_048}),
    (2_473, {"hidden": 100_000}),
    (427, {"quantiles": 5_000}),
    (276, {"windows": 1_024, "assets": 10}),
    (353, {"windows": 512, "assets": 10, "parts": 64, "episode_bars": 64}),
    (582, {"windows": 512, "assets": 10, "width": 64}),
]


@pytest.mark.parametrize(("megabytes", "settings"), MEASURED)
def test_the_memory_of_training_is_estimated_within_a_factor_of_two(megabytes, settings):
    sizes = Sizes(**{**SMALL, **settings})
    assert 0.6 < resources.training_bytes(sizes) / (megabytes * 1e6) < 1.7


@pytest.mark.parametrize(
    ("encoder", "width", "layers", "assets"), [("transformer", 16, 1, 2), ("transformer", 64, 3, 1), ("mlp", 32, 2, 5)]
)
def test_weights_are_counted(encoder, width, layers, assets):
    parameters = NetworkParameters(encoder=encoder, width=width, layers=layers)
    built = build_network(parameters, NetworkShape(8, assets, 2, 3), torch.Generator())
    sizes = Sizes(
        **{
            **SMALL,
            "attends": encoder == "transformer",
            "width": width,
            "layers": layers,
            "assets": assets,
            "hidden": parameters.hidden,
            "quantiles": parameters.quantiles,
        }
    )
    assert sizes.weights == pytest.approx(sum(weight.numel() for weight in built.parameters()), rel=0.15)


def test_the_largest_value_that_fits_is_named():
    sizes = Sizes(**{**SMALL, "windows": 10**9, "parts": 4})
    (problem,) = resources.resource_problems(sizes, {"training"}, resources.Path(), memory=1e9, disk=1e12)
    fitting = int(problem.partition("at most ")[2].rstrip(".").replace(",", ""))
    assert fitting % 4 == 0  # minibatches of whole windows

    def fits(windows):
        at = Sizes(**{**SMALL, "windows": windows, "parts": 4})
        return resources.resource_problems(at, {"training"}, resources.Path(), memory=1e9, disk=1e12) == []

    assert (fits(fitting), fits(fitting + 4)) == (True, False)


def test_large_arrays_of_a_market_do_not_count_as_memory():
    small, large = (Sizes(**{**SMALL, "bars": bars, "assets": 100}) for bars in (2_000, 2_000_000))
    assert resources.market_bytes(small) == 100 * 2_000 * (600 + 20 * 8)
    assert resources.market_bytes(large) < 0.5 * 1_000 * resources.market_bytes(small)


def test_pipelines_that_do_not_train_need_no_memory_for_it():
    sizes = Sizes(**{**SMALL, "windows": 10**9})
    assert resources.memory_bytes(sizes, {"ingestion", "features"}) < 1e9


@pytest.mark.parametrize(
    ("limit", "statistics"),
    [("memory.max", "memory.stat"), ("memory/memory.limit_in_bytes", "memory/memory.stat")],
)
def test_a_control_group_limits_the_memory(tmp_path, limit, statistics):
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("50000000\n")
    (tmp_path / statistics).write_text("anon 20000000\nfile 25000000\ntotal_rss 20000000\n")
    assert resources.available_memory(tmp_path) == 30e6  # what files hold is given back


def test_without_a_limit_the_machine_counts(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.stat").write_text("anon 1\n")
    assert resources.available_memory(tmp_path) > 50e6


def test_disk_is_looked_up_where_a_folder_will_be(tmp_path):
    assert resources.free_disk(tmp_path / "not" / "yet") == pytest.approx(resources.free_disk(tmp_path), rel=0.1)
