"""What the documents show is there and works: links, commands, targets."""

import re
import shlex
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

import gpulab
from clusters import spec
from clusters.api import ControlPlane
from clusters.process import run
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("labs/*/README.md")])


def links(text: str) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]


def commands(text: str) -> list[str]:
    """Command lines in a document: after "$ " in console blocks, and in blocks indented by four spaces."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    shown = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    shown += re.findall(r"^    ((?:gpulab|make|pytest|python) .*)$", text, re.MULTILINE)
    return [part.split("#")[0].strip() for line in shown for part in line.rstrip("\\").split("&&")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    broken = [link for link in links(document.read_text()) if not (document.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(document: Path) -> None:
    targets = re.findall(r"^([a-z./]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands(document.read_text()):
        words = shlex.split(command)
        if words[0] == "make":
            assert words[1] in targets, command
        elif words[0] == "gpulab" and words[1] not in ("kubectl", "helm"):
            gpulab.parser().parse_args(words[1:])  # ends the test with argparse's message when it does not fit
        elif words[0] in ("python", "pytest"):
            assert (ROOT / words[1]).exists(), command


def test_what_stops_an_attack_is_proved_by_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs/attacks.md").read_text())
    assert len(named) >= 30
    missing = [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
    assert missing == []


def test_nothing_is_left_to_be_filled_in() -> None:
    assert not re.search(r"^(SCORECARD|FIGURES)$|: FIRST$", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_documents_show_commands_at_all() -> None:
    assert len(commands((ROOT / "README.md").read_text())) >= 8


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        gpulab.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    commands = (
        "up",
        "down",
        "status",
        "kubeconfig",
        "labs",
        "start",
        "grade",
        "rescore",
        "verify",
        "new-lab",
        "doctor",
    )
    for name in (*commands, "kubectl", "helm"):
        assert name in shown


def test_the_cluster_that_is_shown_is_one_and_shows_every_field(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "clusters.md").read_text(), re.DOTALL)
    (tmp_path / "cluster.yaml").write_text(shown)
    cluster = spec.read(tmp_path / "cluster.yaml")
    assert set(msgspec.to_builtins(cluster)) == set(yaml.safe_load(shown))
    assert set(msgspec.to_builtins(cluster.nodes[1])) == set(yaml.safe_load(shown)["nodes"][1])
    assert cluster.control_plane == ControlPlane()
    assert set(msgspec.to_builtins(cluster.control_plane)) == set(yaml.safe_load(shown)["controlPlane"])


def test_benchmarks_are_named_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in sorted(ROOT.glob("benchmarks/*.py")) if f"benchmarks/{path.name}" not in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.stem)
def test_a_benchmark_starts_by_the_command_that_it_and_the_documents_show(path: Path) -> None:
    documents = "\n".join(each.read_text() for each in DOCUMENTS)
    shown = set(re.findall(rf"\bpython\s(?:benchmarks/{path.name}|-m benchmarks\.{path.stem}\b)", documents))
    (command,) = {" ".join(each.split()) for each in shown}
    assert f"\n    {command} " in path.read_text()
    assert run([sys.executable, *command.split()[1:], "--help"], cwd=ROOT, seconds=PATIENCE).startswith("usage: ")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_that_are_named_are_there(document: Path) -> None:
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", document.read_text())
    absent = [f"{path}::{test}" for path, test in named if f"def {test}(" not in (ROOT / path).read_text()]
    assert absent == []
