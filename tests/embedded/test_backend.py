"""What the launcher of a cluster says of a holder that ended, and of one that was started with other images."""

import io
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from clusters import backends
from clusters.api import ClusterError, StartError
from clusters.embedded import backend, prepare
from clusters.embedded.backend import EmbeddedCluster
from tests.conftest import silent


def test_a_holder_that_ends_without_a_word_is_told_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "holder.log").write_text("bwrap: no permission\n")
    child: Any = Mock(status=lambda: 1)
    reports = cast(Any, io.BytesIO(b'{"say": "preparing mounts"}\n'))
    said: list[str] = []
    with pytest.raises(StartError) as caught:
        backend._follow(reports, child, tmp_path, said.append)
    assert said == ["preparing mounts"]
    assert str(caught.value) == ("the cluster did not start; its holder ended with status 1:\nbwrap: no permission")


def test_a_cluster_that_knows_other_images_is_to_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "prepare", lambda *_, **__: tmp_path / "new.json")
    cluster = Mock(EmbeddedCluster, added_images=(), images=tmp_path / "old.json")
    cluster.name = "course"
    with pytest.raises(ClusterError) as caught:
        backends.prepare(cluster, ["python:3.12"], env={}, progress=silent)
    assert str(caught.value) == (
        "the running cluster 'course' was started with another list of images; end it with `gpulab down` and start it "
        "again"
    )
