"""The tutorial's files and commands work as they are written, on smaller agents."""

import json
import re
import shutil
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT, Project
from tests.test_commands import fresh_shell, link_environment, running, typed_in

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)\n```", TUTORIAL, re.DOTALL)
SMALL_TRAINING = {"total_steps": 64, "windows": 4, "minibatches": 2, "validations": 1, "seeds": 1, "device": "cpu"}
SERVE = re.compile(r"((?:^    .*\n)+)", re.MULTILINE)  # the two blocks that serve a model and ask it
PATIENT = "--silent --retry 20 --retry-connrefused "
NO_STRESS = {"cost_multipliers": None, "latency_bars": None, "start_shares": None, "paths": None}


def named_files() -> dict[str, str]:
    """The tutorial's YAML blocks by the path that the sentence above each begins with."""
    named = r"\n`(conf/mine/\w+\.yml)` [^\n]*\n(?:[^\n`]+[^\n]*\n)*\n```yaml\n(.*?)```"
    return dict(re.findall(named, TUTORIAL, re.DOTALL))


@pytest.fixture
def copied(tmp_path: Path) -> Project:
    path = tmp_path / "my clone"
    (path / "src").mkdir(parents=True)  # the package is the installed one
    shutil.copy(ROOT / "pyproject.toml", path)
    link_environment(path)
    shutil.copytree(ROOT / "conf", path / "conf", ignore=shutil.ignore_patterns("credentials*"))
    (path / "data" / "01_raw").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "01_raw" / "equities_daily.parquet", path / "data" / "01_raw")
    return Project(path, env="mine")


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
    smaller["promotion"] = {"max_latency_ms": 60_000, "latency_calls": 2}  # a busy machine is no reason to refuse
    changed.write_text(yaml.safe_dump(smaller))

    shell = fresh_shell()
    done = [typed_in(copied.path, command, shell) for command in COMMANDS[:-1]]
    assert [run.returncode for run in done] == [0, 0, 0, 0, 1, 0, 0], "".join(run.stdout + run.stderr for run in done)
    assert "was refused" in done[4].stderr  # as the page shows

    start, ask = SERVE.findall(TUTORIAL.partition("## Serve it")[2])
    with running(textwrap.dedent(start), copied.path, shell, "Application startup complete"):
        answer = typed_in(copied.path, textwrap.dedent(ask).replace("curl ", f"curl {PATIENT}"), shell)
    assert answer.returncode == 0, answer.stderr
    assert {row["symbol"] for row in json.loads(answer.stdout.splitlines()[-1])["predictions"]} == {"AAPL", "NFLX"}

    back = typed_in(copied.path, COMMANDS[-1], shell)
    assert back.returncode == 0, back.stderr
    decided = (copied.path / "data" / "registry" / "promotions.jsonl").read_text().splitlines()
    assert [json.loads(line)["decision"] for line in decided] == ["refused", "promoted", "promoted", "rolled_back"]
    for path in re.findall(r"`(data/mine/[^`]+)`", TUTORIAL):
        assert (copied.path / path).is_file(), path
    assert set(pd.read_parquet(copied.artifact("07_model_output/signals.parquet"))["symbol"]) == {"AAPL", "NFLX"}


def test_the_tutorial_names_all_its_files() -> None:
    assert set(named_files()) == {f"conf/mine/{name}.yml" for name in ("globals", "catalog", "parameters")}
    assert len(COMMANDS) >= 3
