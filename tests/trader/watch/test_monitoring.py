"""What Prometheus and Grafana read follows from the list of alarms, and promtool agrees with it."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sentio_kedro.config.live.alarms import ALARMS, PREFIX
from sentio_kedro.trader.watch.metrics import HELP

FOLDER = Path(__file__).parents[3] / "monitoring"
PROMTOOL = shutil.which("promtool")


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate_monitoring", FOLDER / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_files_are_what_the_list_makes(generate):
    for name, text in generate.files().items():
        assert (FOLDER / name).read_text() == text, f"python monitoring/generate.py makes another {name}"


def test_each_alarm_has_a_rule_and_two_tests_or_more():
    rules = yaml.safe_load((FOLDER / "alarms.rules.yml").read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules] == [alarm.name for alarm in ALARMS]
    tests = [part for test in yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
             for part in test["alert_rule_test"]]  # fmt: skip
    for alarm in ALARMS:
        outcomes = [bool(test["exp_alerts"]) for test in tests if test["alertname"] == alarm.name]
        assert True in outcomes
        assert False in outcomes


def test_the_dashboard_asks_for_metrics_that_there_are():
    board = json.loads((FOLDER / "dashboard.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(queries) >= 30
    asked = {name for query in queries for name in re.findall(rf"{PREFIX}(\w+)", query)}
    histograms = {f"{name}_bucket" for name in ("decision_seconds", "order_ack_seconds")}
    assert asked <= {*HELP, *histograms, "alarm"}
    assert all('{trader=~"$trader"' in query for query in queries)
    assert len({panel["title"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.skipif(PROMTOOL is None, reason="Needs promtool: install the package `prometheus` to run this test.")
@pytest.mark.parametrize("command", [("check", "rules", "alarms.rules.yml"), ("test", "rules", "rules_test.yml"),
                                     ("check", "config", "prometheus.yml")])  # fmt: skip
def test_promtool_agrees(command):
    ran = subprocess.run([PROMTOOL, *command], cwd=FOLDER, capture_output=True, text=True, check=False)  # noqa: S603
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="Needs promtool: install the package `prometheus` to run this test.")
def test_promtool_notices_a_rule_with_another_threshold(tmp_path):
    for name in ("alarms.rules.yml", "rules_test.yml"):
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(text.replace("sentio_bar_age_bars > 2", "sentio_bar_age_bars > 9"))
    ran = subprocess.run(  # noqa: S603
        [PROMTOOL, "test", "rules", "rules_test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode != 0
    assert "StaleBars" in ran.stdout + ran.stderr
