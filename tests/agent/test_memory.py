"""The allocator is told, where there is one to tell."""

import sys

import pytest
import torch

from sentio_kedro.agent.memory import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
def test_glibc_takes_the_settings_and_tensors_keep_working() -> None:
    assert keep_freed_memory() in {True, False}  # musl has no mallopt
    assert torch.ones(2_000_000).sum().item() == 2_000_000


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
