import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from kedro.io import DatasetError

from sentio_kedro.agent.forecasting.rule import ForecastRule
from sentio_kedro.datasets.agents import AgentBundles, ForecastRules


class Bundle:
    """Stands in for an agent: saving and loading a folder is all that the dataset asks of one."""

    def __init__(self, name: str, broken: bool = False) -> None:
        self.name, self.broken = name, broken

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "agent.json").write_text(self.name)
        if self.broken:
            raise OSError("disk full")

    @classmethod
    def load(cls, folder: Path) -> "Bundle":
        return cls((folder / "agent.json").read_text())


@pytest.fixture
def agents(tmp_path, monkeypatch):
    module = ModuleType("sentio_kedro.agent.bundle")
    module.AgentBundle = Bundle
    monkeypatch.setitem(sys.modules, "sentio_kedro.agent.bundle", module)
    return AgentBundles(filepath=str(tmp_path / "agents"))


def test_agents_come_back_by_key(agents):
    agents.save({"fold_1/seed_0": Bundle("c"), "fold_0/seed_0": Bundle("a"), "fold_0/seed_1": Bundle("b")})
    assert {key: agent.name for key, agent in agents.load().items()} == {
        "fold_0/seed_0": "a",
        "fold_0/seed_1": "b",
        "fold_1/seed_0": "c",
    }


def test_agents_of_two_trainings_never_mix(agents):
    agents.save({"fold_0/seed_0": Bundle("old"), "fold_1/seed_0": Bundle("old")})
    agents.save({"fold_0/seed_0": Bundle("new")})
    assert {key: agent.name for key, agent in agents.load().items()} == {"fold_0/seed_0": "new"}


def test_failed_save_keeps_the_old_agents(agents):
    agents.save({"fold_0/seed_0": Bundle("old")})
    with pytest.raises(DatasetError):
        agents.save({"fold_0/seed_0": Bundle("new"), "fold_1/seed_0": Bundle("new", broken=True)})
    assert [agent.name for agent in agents.load().values()] == ["old"]


def test_no_agents_says_what_to_run(agents):
    assert not agents.exists()
    with pytest.raises(DatasetError, match="kedro run --pipeline training"):
        agents.load()


def test_rules_come_back_by_fold(tmp_path):
    rules = ForecastRules(filepath=str(tmp_path / "rules"))
    with pytest.raises(DatasetError, match="kedro run --pipeline forecasting"):
        rules.load()
    for begins in (("2020", "2021"), ("2022",)):
        rules.save({f"fold_{n}": ForecastRule((), (), np.arange(n), begin) for n, begin in enumerate(begins)})
        assert {key: (rule.begin, rule.minutes.tolist()) for key, rule in rules.load().items()} == {
            f"fold_{n}": (begin, list(range(n))) for n, begin in enumerate(begins)
        }


def test_an_agent_that_is_missing_or_was_added_is_named(agents, tmp_path):
    agents.save({"fold_0/seed_0": Bundle("a"), "fold_0/seed_1": Bundle("b")})
    folder = tmp_path / "agents" / "fold_0"
    (folder / "seed_1" / "agent.json").unlink()
    with pytest.raises(DatasetError, match=r"`fold_0/seed_1` is missing. Restore it, or run `kedro run --pipeline tr"):
        agents.load()
    Bundle("b").save(folder / "seed_1")
    Bundle("c").save(folder / "seed_2")
    with pytest.raises(DatasetError, match=r"`fold_0/seed_2` was added"):
        agents.load()
