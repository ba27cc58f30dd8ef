import pytest
import torch
from kedro.io import DatasetError
from safetensors import SafetensorError

from sentio_kedro.datasets.checkpoints import CheckpointStore, CheckpointStoreDataset


def test_checkpoint_comes_back_bit_for_bit(tmp_path):
    store = CheckpointStore(tmp_path)
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    tensors = {
        "weights": weights,
        "transposed": weights.T,
        "shared": weights,
        "generator": torch.Generator().manual_seed(1).get_state(),
        "scalar": torch.tensor(0.1, dtype=torch.float64),
    }
    state = {"update": 7, "best": 0.1 + 0.2, "curve": [1.5, None]}
    assert store.load("fold_0/seed_1/member_0") is None
    store.save("fold_0/seed_1/member_0", tensors, state)
    loaded, loaded_state = store.load("fold_0/seed_1/member_0")
    assert loaded.keys() == tensors.keys()
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )
    assert loaded_state == state
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["member_0.safetensors"]


def test_crash_while_saving_keeps_the_previous_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save("a", {"x": torch.zeros(1)}, {"update": 1})
    with pytest.raises(TypeError):
        store.save("a", {"x": torch.ones(1)}, {"update": object()})
    assert store.load("a")[1] == {"update": 1}


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save("a", {"x": torch.zeros(1)}, {"update": 1})

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.safetensors"):
        store.save("a", {"x": torch.ones(1)}, {"update": 2})
    assert store.load("a")[1] == {"update": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_unreadable_checkpoint_is_named_with_its_remedy(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"a\.safetensors.*delete it"):
        CheckpointStore(tmp_path).load("a")


@pytest.mark.parametrize("key", ["", "../a", "/a", "a//b", "a b", "a/"])
def test_keys_stay_inside_the_store(tmp_path, key):
    with pytest.raises(ValueError, match="`key`"):
        CheckpointStore(tmp_path).save(key, {}, {})


def test_checkpoints_of_other_parameters_are_not_continued_and_the_log_says_so(tmp_path, caplog):
    dataset = CheckpointStoreDataset(filepath=str(tmp_path / "checkpoints"))
    dataset.bind("a" * 64)
    dataset.load().save("fold_0", {"x": torch.zeros(1)}, {})
    dataset.bind("a" * 64)
    assert "afresh" not in caplog.text
    dataset.bind("b" * 64)
    assert "of other bars, parameters or code; the training starts afresh" in caplog.text
    assert dataset.load().load("fold_0") is None
    dataset.bind("a" * 64)
    assert dataset.load().load("fold_0") is not None
    dataset.load().clear()
    assert dataset.load().load("fold_0") is None


def test_a_node_cannot_save_a_store(tmp_path):
    dataset = CheckpointStoreDataset(filepath=str(tmp_path))
    with pytest.raises(DatasetError, match="one by one"):
        dataset.save(CheckpointStore(tmp_path))
