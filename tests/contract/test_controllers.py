"""A controller that others wrote: kopf from PyPI, installed by Helm from a chart, runs an operator in a pod."""

import shutil
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from clusters.wait import until
from tests.contract.subject import PYTHON, Space
from tests.patience import PATIENCE

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kopf and what it needs, as this environment has them.

    A pod's Python may be of another version: what is compiled in them all has a pure Python form beside it.
    """
    folder = tmp_path_factory.mktemp("packages")
    for name in needed("kopf", set()):
        for file in distribution(name).files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), folder / file)
    return folder


def needed(name: str, known: set[str]) -> set[str]:
    """A distribution and all that it requires, beside those that are known."""
    if name not in known:
        known.add(name)
        for line in distribution(name).requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                needed(wanted.name, known)
    return known


@pytest.fixture(scope="module")
def operator(space: Space, packages: Path) -> Iterator[str]:
    """The API group of the operator, once it runs."""
    space.helm("install", "greeter", str(HERE / "chart"), f"--set=image={PYTHON}")
    found = until(
        lambda: [
            each for each in space.find("Pod", label_selector="app=greeter") if each["status"]["phase"] == "Running"
        ],
        lambda pods: len(pods) == 1,
        what="the operator's pod",
        seconds=PATIENCE,
    )
    name = found[0]["metadata"]["name"]
    space.kubectl("cp", "--no-preserve", f"{packages}/.", f"{name}:/packages")
    space.kubectl("exec", name, "--", "touch", "/packages/complete")
    space.until("Deployment", "greeter", lambda found: found["status"].get("readyReplicas") == 1)
    yield f"{space.name}.test"
    space.helm("uninstall", "greeter", "--wait")


def test_an_operator_answers_for_its_resources(space: Space, operator: str) -> None:
    text = f"{{apiVersion: {operator}/v1, kind: Greeting, metadata: {{name: one}}, spec: {{text: world}}}}"
    space.kubectl("apply", "-f", "-", stdin=text)

    def said() -> str:
        return space.kubectl("get", f"greetings.{operator}", "one", "-o", "jsonpath={.status.said}")

    until(said, lambda text: text == "hello world", what="the operator to greet", seconds=PATIENCE)
    space.kubectl("patch", f"greetings.{operator}", "one", "--type=merge", "-p", '{"spec": {"text": "again"}}')
    until(said, lambda text: text == "hello again", what="the operator to greet again", seconds=PATIENCE)
    space.kubectl("delete", f"greetings.{operator}", "one", f"--timeout={PATIENCE:g}s")
    (pod,) = [each["metadata"]["name"] for each in space.find("Pod", label_selector="app=greeter")]
    assert "goodbye one" in space.log(pod)


def test_a_release_is_upgraded_and_rolled_back(space: Space, operator: str) -> None:
    space.helm("upgrade", "greeter", str(HERE / "chart"), f"--set=image={PYTHON}", "--description=second")
    assert [line.split()[0] for line in space.helm("history", "greeter").splitlines()[1:]] == ["1", "2"]
    space.helm("rollback", "greeter", "1")
    assert "revision: 3" in space.helm("status", "greeter").lower()
