"""The tutorial's files and commands work as they are written, on smaller agents."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT, Project

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)\n```", TUTORIAL, re.DOTALL)
SMALL_TRAINING = {"total_steps": 64, "windows": 4, "minibatches": 2, "validations": 1, "seeds": 1, "device": "cpu"}
NO_STRESS = {"cost_multipliers": None, "latency_bars": None, "start_offsets": None, "paths": None}


def named_files() -> dict[str, str]:
    """The tutorial's YAML blocks by the path that the sentence above each begins with."""
    named = r"\n`(conf/mine/\w+\.yml)` [^\n]*\n(?:[^\n`]+[^\n]*\n)*\n```yaml\n(.*?)```"
    return dict(re.findall(named, TUTORIAL, re.DOTALL))


def options(command: str) -> dict[str, str]:
    kedro, run, *words = shlex.split(command.replace("--env=", "--env "))
    assert (kedro, run) == (".venv/bin/kedro", "run")
    return dict(zip(words[::2], words[1::2], strict=True))


def parameters(written: str) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for pair in filter(None, written.split(",")):
        path, value = pair.split("=")
        *sections, key = path.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[key] = yaml.safe_load(value)
    return nested


@pytest.fixture
def copied(tmp_path: Path) -> Project:
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("credentials*"))
    (tmp_path / "data" / "01_raw").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "01_raw" / "equities_daily.parquet", tmp_path / "data" / "01_raw")
    return Project(tmp_path, env="mine")


def test_a_reader_gets_from_a_csv_to_a_report_a_champion_and_back(
    copied: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.path)
    exec(re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)[0], {})  # noqa: S102 - our own page
    (copied.path / "conf" / "mine").mkdir()
    for name, text in named_files().items():
        (copied.path / name).write_text(text)
    changed = copied.path / "conf" / "mine" / "parameters.yml"
    smaller = yaml.safe_load(changed.read_text())
    smaller["training"] |= SMALL_TRAINING
    smaller["backtest"] |= {"robustness": NO_STRESS}
    smaller["cross_validation"] |= {"folds": 1}
    smaller["reporting"] = {"bootstrap_samples": 50}
    smaller["signals"] = {"replay_bars": 16}
    smaller["promotion"] = {"max_latency_ms": 60_000}  # a busy machine is no reason to refuse
    changed.write_text(yaml.safe_dump(smaller))

    for command in COMMANDS:
        given = options(command)
        assert given["--env"] == "mine"
        pipelines = (given.get("--pipelines") or given.get("--pipeline") or "").split(",")
        copied.run(*filter(None, pipelines), params=parameters(given.get("--params", "")))

    decided = (copied.path / "data" / "registry" / "promotions.jsonl").read_text().splitlines()
    assert [json.loads(line)["decision"] for line in decided] == ["refused", "promoted", "promoted", "rolled_back"]
    for path in re.findall(r"`(data/mine/[^`]+)`", TUTORIAL):
        assert (copied.path / path).is_file(), path
    assert set(pd.read_parquet(copied.artifact("07_model_output/signals.parquet"))["symbol"]) == {"AAPL", "NFLX"}


def test_the_tutorial_names_all_its_files() -> None:
    assert set(named_files()) == {f"conf/mine/{name}.yml" for name in ("globals", "catalog", "parameters")}
    assert len(COMMANDS) >= 3
