import hashlib

import pytest

from sentio_kedro.datasets.agents import AgentBundles
from sentio_kedro.datasets.files import JSONDataset
from sentio_kedro.hooks.artifacts import digest_of, explain_files, file_hashes


def sha(text):
    return hashlib.sha256(text).hexdigest()


def test_a_file_and_each_file_of_a_folder_are_hashed_by_name(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{}")
    assert file_hashes(JSONDataset(filepath=str(tmp_path / "a.json"))) == {"a.json": sha(b"{}")}
    (tmp_path / "agents" / "fold_0").mkdir(parents=True)
    (tmp_path / "agents" / "fold_0" / "agent.json").write_bytes(b"x")
    assert file_hashes(AgentBundles(filepath=str(tmp_path / "agents"))) == {"fold_0/agent.json": sha(b"x")}


def test_what_is_not_there_has_no_hash_and_what_is_elsewhere_is_not_hashed(tmp_path):
    assert file_hashes(JSONDataset(filepath=str(tmp_path / "none.json"))) == {}
    assert file_hashes(JSONDataset(filepath="memory://a.json")) is None
    assert file_hashes(object()) is None
    assert digest_of(None) is None


@pytest.mark.parametrize(
    ("present", "clause"),
    [
        ({"a": "1", "b": "2"}, None),
        ({"a": "1"}, "`b` missing"),
        ({"a": "1", "b": "3"}, "`b` changed"),
        ({"a": "1", "b": "2", "c": "3"}, "`c` added"),
        ({"b": "3", "c": "3"}, "`a` missing; `b` changed; `c` added"),
    ],
)
def test_differences_are_named_by_file_and_kind(present, clause):
    assert explain_files({"a": "1", "b": "2"}, present) == clause


def test_three_files_of_a_kind_are_named():
    assert explain_files({name: "1" for name in "abcde"}, {}) == "`a`, `b`, `c` and 2 more missing"
