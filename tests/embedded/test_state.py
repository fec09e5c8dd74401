"""The folder of state: on a full disk, where it cannot be, and when it is gone."""

import os
from pathlib import Path

import pytest

from clusters.api import ClusterSpec, MachineError, NodeSpec
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


def test_a_folder_that_cannot_be_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError) as caught, state.lock(tmp_path / "file/clusters/default"):
        pass
    assert str(caught.value) == (
        f"the folder for the state of clusters, {tmp_path}/file/clusters, cannot be used: Not a directory; give "
        "yourself the right to, or let XDG_STATE_HOME name another"
    )


def test_nodes_of_a_cluster_whose_state_is_gone_are_not_written_down(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        state.rewrite(tmp_path / "default", ClusterSpec(nodes=(NodeSpec("a"),)))
    assert str(caught.value) == f"the state of the cluster in {tmp_path}/default is gone; end it with `gpulab down`"
