"""NODE.json."""

from pathlib import Path

import msgspec
import pytest

from clusters.api import Gpus, Mig, NodeSpec, SpecError
from clusters.embedded.gpu.devices import assign
from clusters.embedded.runtime.config import NodeConfig, read

CONFIG = NodeConfig(
    name="n",
    socket="/s",
    pods="10.244.1.0/24",
    logs="/l",
    state="/st",
    descriptors="/d",
    streaming="/s",
    images="/i",
    launch="/la",
    shm="/sh",
    gpus=assign([NodeSpec("n", gpus=Gpus("NVIDIA-H200", 1, mig=Mig("1g.18gb", 2)))], ())[0],
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_bytes(msgspec.json.encode(CONFIG))
    assert read(tmp_path / "node.json") == CONFIG
    assert CONFIG.kubelet == "/var/lib/kubelet"


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text('{"name": 1}')
    with pytest.raises(SpecError) as caught:
        read(tmp_path / "node.json")
    assert str(caught.value) == (
        f"{tmp_path}/node.json is no configuration of a node's runtime: Expected `str`, got `int` - at `$.name`"
    )
