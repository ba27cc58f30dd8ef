"""Agents of a registered version are those that were logged, or it is refused by name."""

import mlflow
import pytest

from sentio_kedro.agent.saving import write_index
from sentio_kedro.tracking.candidates import AGENTS_FOLDER, load_agents
from sentio_kedro.tracking.runs import StoreError


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (True, r"`artifacts/agents` is not what was saved and `index.json` names: `fold_0/seed_1` is missing"),
        (False, r"`artifacts/agents/index.json` is missing; train the agent again"),
    ],
)
def test_a_version_that_lost_an_agent_is_refused(tmp_path, monkeypatch, kept, said):
    def download(uri, dst_path):
        root = tmp_path / AGENTS_FOLDER
        for seed in range(2):
            (root / f"fold_0/seed_{seed}").mkdir(parents=True)
            (root / f"fold_0/seed_{seed}" / "agent.json").write_text("{}")
        if kept:
            write_index(root, "agent.json")
        (root / "fold_0/seed_1" / "agent.json").unlink()
        return str(tmp_path)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    with pytest.raises(StoreError, match=rf"^Version 3 of model `toy` cannot be read: {said}"):
        load_agents("toy", "3")
