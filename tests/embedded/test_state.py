"""The folder of state on a full disk."""

import os
from pathlib import Path

import pytest

from clusters.api import MachineError
from clusters.embedded import state


def test_a_start_on_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LEAST_SPACE", 1 << 60)
    with pytest.raises(MachineError) as caught:
        state.begin(tmp_path / "default")
    assert str(caught.value).startswith(f"the folder for the state of clusters, {tmp_path}, has ")
    assert str(caught.value).endswith(
        " MiB left, and a cluster needs 1099511627776; make room, or let XDG_STATE_HOME name another"
    )
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names are all that is wanted


def test_the_reason_of_an_end_has_space_kept_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "default"
    state.begin(folder)
    kept = sum(each.stat().st_blocks * 512 for each in folder.iterdir())
    state.tell_end(folder, "etcd: " + "x" * 100_000)
    assert sum(each.stat().st_blocks * 512 for each in folder.iterdir()) <= kept
    found = next(iter(folder.iterdir()))
    assert len(found.read_text()) == 1 << 15
