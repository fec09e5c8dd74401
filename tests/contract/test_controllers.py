"""A controller that others wrote: kopf from PyPI, installed by Helm from a chart, runs an operator in a pod."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.process import CommandFailed, run
from clusters.wait import until
from tests.contract.subject import PYTHON, SECONDS, Space

HERE = Path(__file__).parent
VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


@pytest.fixture(scope="module")
def packages(space: Space, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kopf and what it needs, as locked, for the Python that pods have."""
    version = space.run("version", "python3", "-c", VERSION, container={"image": PYTHON}).strip()
    folder = tmp_path_factory.mktemp("packages")
    uv = Path(sys.executable).with_name("uv")
    words = ["pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile"]
    words += [f"--python-version={version}", f"--target={folder}", "--requirements", str(HERE / "kopf.txt")]
    env = {**os.environ, "UV_SYSTEM_CERTS": os.environ.get("UV_SYSTEM_CERTS", "1")}
    try:
        run([str(uv), *words], env=env, seconds=2 * SECONDS)
    except CommandFailed as error:
        pytest.skip(f"kopf's packages cannot be had here: {error.output.strip()[-300:]}")
    (folder / "complete").touch()
    return folder


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
        seconds=SECONDS,
    )
    name = found[0]["metadata"]["name"]
    space.kubectl("cp", f"{packages}/.", f"{name}:/packages")
    space.until("Deployment", "greeter", lambda found: found["status"].get("readyReplicas") == 1)
    yield f"{space.name}.test"
    space.helm("uninstall", "greeter", "--wait")


def test_an_operator_answers_for_its_resources(space: Space, operator: str) -> None:
    text = f"{{apiVersion: {operator}/v1, kind: Greeting, metadata: {{name: one}}, spec: {{text: world}}}}"
    space.kubectl("apply", "-f", "-", stdin=text)

    def said() -> str:
        return space.kubectl("get", f"greetings.{operator}", "one", "-o", "jsonpath={.status.said}")

    until(said, lambda text: text == "hello world", what="the operator to greet", seconds=SECONDS)
    space.kubectl("patch", f"greetings.{operator}", "one", "--type=merge", "-p", '{"spec": {"text": "again"}}')
    until(said, lambda text: text == "hello again", what="the operator to greet again", seconds=SECONDS)
    space.kubectl("delete", f"greetings.{operator}", "one", "--timeout=60s")
    (pod,) = [each["metadata"]["name"] for each in space.find("Pod", label_selector="app=greeter")]
    assert "goodbye one" in space.log(pod)


def test_a_release_is_upgraded_and_rolled_back(space: Space, operator: str) -> None:
    space.helm("upgrade", "greeter", str(HERE / "chart"), f"--set=image={PYTHON}", "--description=second")
    assert [line.split()[0] for line in space.helm("history", "greeter").splitlines()[1:]] == ["1", "2"]
    space.helm("rollback", "greeter", "1")
    assert "revision: 3" in space.helm("status", "greeter").lower()
