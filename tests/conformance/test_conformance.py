"""What `make conformance` is made of: pins, roots, command lines, and what is read from a report."""

import re
from pathlib import Path

import msgspec
import pytest

from clusters.api import MachineError
from clusters.embedded import additions, build
from tests.conformance import programs, roots, run, suite

REPORT = [
    {
        "SpecReports": [
            {"LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "passed"},
            {
                "LeafNodeType": "It",
                "ContainerHierarchyTexts": ["[sig-apps] Job", "with limits"],
                "LeafNodeText": "should run [Conformance]",
                "State": "passed",
                "RunTime": 1_500_000_000,
            },
            {
                "LeafNodeType": "It",
                "ContainerHierarchyTexts": ["[sig-node] Pods"],
                "LeafNodeText": "should end [Conformance]",
                "State": "failed",
                "RunTime": 2_000_000_000,
                "Failure": {
                    "Message": "Unexpected error:\n    <*errors.errorString | 0xc1>: \n    no such pod\n    {\n"
                },
            },
            {"LeafNodeType": "It", "LeafNodeText": "[sig-node] other", "State": "skipped"},
        ]
    }
]


def pins(go_mod: Path) -> dict[str, str]:
    return {name: pin for name, pin in build.versions(go_mod.read_text()).items() if name.startswith("k8s.io/")}


def test_the_suite_is_that_of_the_clusters_kubernetes() -> None:
    own, cluster = pins(programs.SOURCES / "go.mod"), pins(build.SOURCES / "go.mod")
    assert own["k8s.io/kubernetes"] == cluster["k8s.io/kubernetes"]
    assert {name: pin for name, pin in own.items() if cluster.get(name, pin) != pin} == {}


def test_results_are_the_specs_that_ran_and_the_line_that_tells_why() -> None:
    assert suite.results(msgspec.json.encode(REPORT)) == [
        suite.Result("[sig-apps] Job with limits should run [Conformance]", "sig-apps", True, 1.5),
        suite.Result("[sig-node] Pods should end [Conformance]", "sig-node", False, 2.0, "no such pod"),
    ]


def test_a_failed_set_up_of_the_suite_is_a_result() -> None:
    broken = {"LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "failed"}
    report = [{"SpecReports": [{**broken, "Failure": {"Message": "no nodes are schedulable"}}]}]
    assert suite.results(msgspec.json.encode(report)) == [
        suite.Result("", "suite", False, 0.0, "no nodes are schedulable")
    ]


def test_the_table_and_the_failures() -> None:
    found = suite.results(msgspec.json.encode(REPORT))
    assert suite.table(found) == (
        "| SIG | passed | of |\n|---|---|---|\n| sig-apps | 1 | 1 |\n| sig-node | 0 | 1 |\n| all | 1 | 2 |"
    )
    assert suite.failures(found) == "[sig-node] Pods should end [Conformance]\n    no such pod"


def test_the_command_line_chooses_by_label_and_name() -> None:
    words = suite.command(
        Path("/b"),
        labels=suite.SERIAL,
        focus=["DNS"],
        skip=["slow"],
        procs=1,
        report=Path("/r/serial.json"),
    )
    assert " ".join(words) == (
        "/b/ginkgo -v --no-color --timeout=3h --procs=1 --label-filter=Conformance && Serial --focus=DNS --skip=slow "
        "--output-dir=/r --json-report=serial.json /b/e2e.test --"
    )


def test_the_images_are_images_of_ones_own(tmp_path: Path) -> None:
    text = run.IMAGES.read_text()
    for name in re.findall(r"\{[a-z]+\}/[\w./-]+", text):
        place = tmp_path / name
        if "/" in name.removeprefix("{roots}/"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        else:
            place.mkdir(parents=True, exist_ok=True)
    (tmp_path / "images.toml").write_text(text)
    tables = set(msgspec.toml.decode(roots.TABLE.read_bytes(), type=dict[str, roots.Root]))

    entries = additions.read([tmp_path / "images.toml"])

    used = {Path(entry.image.root).name for entry in entries if entry.image}
    assert used == tables
    assert all(name.startswith("registry.k8s.io/") for entry in entries for name in entry.references)


def test_without_packages_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package bash-static' >&2; exit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(MachineError) as raised:
        roots.make(tmp_path / "cache", "v1", lambda: tmp_path, lambda _: None)

    assert str(raised.value) == (
        "the Debian packages bash-static, busybox-static cannot be fetched: E: Unable to locate package bash-static\n"
        "The images of the conformance suite are made of them; let `apt-get update` work here, or point KUBECONFIG at "
        "a cluster with a container runtime"
    )


def test_what_a_spec_leaves_in_its_temporary_folder_is_removed(tmp_path: Path) -> None:
    report = tmp_path / "subset.json"
    shell = 'touch "$TMPDIR/left"; printf %s "$TMPDIR" >place; echo "[]" >subset.json; exit 1; # '
    tested = run.Tested(tmp_path / "kubeconfig", tmp_path / "kubectl")

    assert run.specs(tested, ["/bin/sh", "-c", shell], report, {"PATH": "/usr/bin:/bin"}, lambda _: None) == []

    place = Path((tmp_path / "place").read_text())
    assert place.name.startswith("gpulab-conformance-")
    assert not place.exists()


def test_a_suite_that_ends_without_its_report_says_where_its_words_are(tmp_path: Path) -> None:
    tested = run.Tested(tmp_path / "kubeconfig", tmp_path / "kubectl")

    with pytest.raises(MachineError) as raised:
        run.specs(tested, ["/bin/sh", "-c", "exit 2"], tmp_path / "serial.json", {"PATH": "/bin"}, lambda _: None)

    assert str(raised.value) == (
        f"the suite ended before it wrote {tmp_path}/serial.json; what it said is in {tmp_path}/serial.log"
    )
