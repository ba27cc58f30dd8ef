"""Two variants as the documentation runs them: side by side, compared."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def variants(finished, tmp_path_factory):
    """The smoke run and a second variant of it: an environment of its own, the same experiment."""
    project = finished.copy(tmp_path_factory.mktemp("variants"))
    folder = project.path / "conf" / "second"
    shutil.copytree(project.path / "conf" / "smoke", folder)
    (folder / "globals.yml").write_text("artifacts: data/second\nexperiment: sentio_kedro_smoke\n")
    shutil.copy(project.path / "conf" / "maskable" / "parameters_training.yml", folder / "parameters_variant.yml")
    project.env = "second"
    project.run(params={"training": {"total_steps": 64, "validations": 1}})
    return project


def test_each_variant_has_its_artifacts_and_both_are_compared(finished, variants):
    variants.run("comparison", params={"comparison": {"runs": "enhanced maskable", "bootstrap_samples": 20}})
    table = pd.read_csv(variants.artifact("08_reporting/comparison.csv"))
    assert table["variant"].tolist() == ["enhanced", "maskable"]
    assert table["comparable"].all()
    assert np.isfinite(table["sharpe_difference"][1])
    first, second = finished.artifact("08_reporting/metrics.json"), variants.artifact("08_reporting/metrics.json")
    sharpes = [json.loads(path.read_text())["agent"]["sharpe"] for path in (first, second)]
    assert table["agent.sharpe"].tolist() == pytest.approx(sharpes)
    beside = variants.path / "data" / "smoke" / "08_reporting" / "metrics.json"
    assert beside.read_bytes() == first.read_bytes()
