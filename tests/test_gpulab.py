"""The command line's answers to what cannot be done, word for word, and what it does on a cluster that is not there."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import gpulab
from clusters import backends
from clusters.api import ClusterError
from clusters.process import Child, run
from clusters.wait import until
from commands import grading
from tests.conftest import processes_with
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State of the test's own; the variable is what a user would set."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = gpulab.main(words)
    return status, capsys.readouterr().err


def test_an_unknown_lab_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    expected = "gpulab: there is no lab '99_none'; the labs are: 02_ddp, 03_vllm\n"
    for command in ("grade 99_none", "start 99_none", "up --lab 99_none", "prepare --lab 99_none"):
        assert said(capsys, *command.split()) == (2, expected)


@pytest.mark.parametrize("command", [["kubeconfig"], ["kubectl", "get", "pods"], ["helm", "list"]])
def test_what_needs_a_cluster_says_how_to_start_one(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert said(capsys, *command) == (2, "gpulab: no cluster 'default' runs; start one with `gpulab up`\n")


def test_a_file_of_images_that_is_not_there_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, words = said(capsys, "up", "--images", str(tmp_path / "own.toml"))
    assert status == 2
    assert words.splitlines()[-1] == (
        f"gpulab: the file of images {tmp_path}/own.toml cannot be read: No such file or directory"
    )


def test_a_broken_file_in_the_state_folder_is_said_too(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = state / "gpulab" / "images"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("images = 1\n")
    status, words = said(capsys, "up")
    assert status == 2
    assert words.splitlines()[-1] == (
        f"gpulab: the file of images {folder}/mine.toml is wrong: Expected `array`, got `int` - at `$.images`"
    )


def test_status_and_down_without_a_cluster_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpulab.main(["status"]) == 1
    assert gpulab.main(["down"]) == 0
    assert capsys.readouterr().out == ("No cluster runs; `gpulab up` starts one.\nNo cluster 'default' runs.\n")


@pytest.mark.parametrize(
    ("shared", "why"),
    [
        (
            False,
            "a grading of yours runs on one of that name just now; wait for its end, or choose another --name",
        ),
        (
            True,
            "it runs already; use it (KUBECONFIG=/state/kubeconfig), end it first with `gpulab down --name course`, or "
            "choose another --name",
        ),
    ],
)
def test_a_cluster_that_runs_is_not_started_again(
    shared: bool, why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = SimpleNamespace(shared=shared, kubeconfig=Path("/state/kubeconfig"))
    monkeypatch.setattr(backends, "find", lambda *_: running)
    expected = f"gpulab: asked to start the cluster 'course', but {why}\n"
    assert said(capsys, "up", "--name", "course") == (3, expected)


def test_a_cluster_that_is_starting_is_not_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "is_held", lambda *_: True)
    expected = "gpulab: the cluster 'default' is just starting; interrupt its start, or wait and ask again\n"
    assert said(capsys, "down") == (3, expected)


def test_nodes_that_stay_as_they_are_are_not_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "find", lambda *_: SimpleNamespace(name="fixed"))
    expected = "gpulab: the nodes of the cluster 'fixed' cannot be changed; the embedded cluster's can\n"
    assert said(capsys, "node", "lose", "a") == (2, expected)


def test_clusters_have_names_that_flag_or_variable_choose(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULAB_CLUSTER", "course")
    assert gpulab.main(["down"]) == 0
    assert gpulab.main(["down", "--name", "other"]) == 0
    assert gpulab.main(["status"]) == 1
    assert capsys.readouterr().out == (
        "No cluster 'course' runs.\nNo cluster 'other' runs.\nNo cluster 'course' runs.\n"
    )
    wrong = "gpulab: asked for a cluster named 'My Lab'; use small letters, digits and dashes, 63 at most\n"
    assert said(capsys, "up", "--name", "My Lab") == (2, wrong)
    missing = "gpulab: no cluster 'course' runs; start one with `gpulab up --name course`\n"
    assert said(capsys, "kubectl", "get", "pods") == (2, missing)


def test_an_unknown_backend_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        gpulab.main(["up", "--cluster", "minikube"])
    assert caught.value.code == 2
    assert "argument --cluster: invalid choice: 'minikube' (choose from" in capsys.readouterr().err


def test_starting_copies_the_starter_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grading.copy_starter("03_vllm", tmp_path) == tmp_path / "03_vllm"
    copied = (tmp_path / "03_vllm" / "values.yaml").read_text()
    assert copied == (ROOT / "labs/03_vllm/starter/values.yaml").read_text()
    with pytest.raises(ClusterError) as caught:
        grading.copy_starter("03_vllm", tmp_path)
    assert str(caught.value) == (f"{tmp_path / '03_vllm'} is there already; edit it, or move it away to start again")


def test_a_students_numbers_are_told_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grading, "WORK", tmp_path)
    monkeypatch.setenv("GPULAB_COURSE_SECRET", "the secret of these tests")
    assert gpulab.main(["start", "03_vllm", "--student", "alice"]) == 0
    told = capsys.readouterr().out
    assert "Numbers of alice that are not those of the README:\n  L1: " in told
    assert gpulab.main(["variant", "03_vllm", "--student", "alice"]) == 0
    written = capsys.readouterr().out
    assert gpulab.main(["variant", "03_vllm", "--student", "alice", "--out", str(tmp_path / "alice.json")]) == 0
    assert (tmp_path / "alice.json").read_text() == written
    assert "the secret of these tests" not in told + written


def test_what_lacks_for_a_students_numbers_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPULAB_COURSE_SECRET", raising=False)
    monkeypatch.setattr(grading, "WORK", tmp_path)
    needs = (
        "gpulab: 03_vllm has other numbers for each student, and those of 'alice' need the course's secret; give "
        "--course-secret-file FILE, set GPULAB_COURSE_SECRET, give the numbers themselves (--variant FILE), or ask for "
        "the lab's own (--no-variants)\n"
    )
    assert said(capsys, "grade", "03_vllm", "--student", "alice") == (2, needs)
    both = (
        "gpulab: a student's numbers are drawn from an id and the course's secret; give both: --student ID and "
        "--course-secret-file FILE (or GPULAB_COURSE_SECRET)\n"
    )
    assert said(capsys, "variant", "03_vllm", "--student", "alice") == (2, both)
    assert said(capsys, "start", "03_vllm", "--student", "alice") == (2, both)
    assert said(capsys, "variant", "03_vllm") == (2, both)
    assert not (tmp_path / "03_vllm").exists()


def test_a_lab_whose_numbers_are_everybodys_has_none_to_draw(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "variant", "02_ddp", "--student", "alice") == (
        2,
        "gpulab: asked for a student's numbers of 02_ddp, which has the same for everybody; start and grade it "
        "without\n",
    )


@pytest.mark.cluster
def test_ctrl_c_while_a_cluster_starts_leaves_nothing(machine: None, programs: Path, state: Path) -> None:
    log = state / "up.log"
    up = Child([str(Path(sys.executable).with_name("gpulab")), "up"], log=log)
    until(lambda: log.read_text(), lambda text: "kube-apiserver" in text, what="the start to begin", seconds=PATIENCE)
    os.kill(up.pid, signal.SIGINT)
    assert up.wait(PATIENCE) == 130
    assert log.read_text().endswith("gpulab: interrupted; what was started has been ended\n")
    until(lambda: processes_with(f"{state}/"), lambda left: not left, what="everything to end", seconds=PATIENCE)
    assert list((state / "gpulab" / "clusters").glob("[!.]*")) == []


@pytest.mark.cluster
def test_a_killed_start_is_not_left_half_alive(machine: None, programs: Path, state: Path) -> None:
    log = state / "up.log"
    up = Child([str(Path(sys.executable).with_name("gpulab")), "up"], log=log)
    until(lambda: log.read_text(), lambda text: "kube-apiserver" in text, what="the start to begin", seconds=PATIENCE)
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    until(lambda: processes_with(f"{state}/"), lambda left: not left, what="everything to end", seconds=PATIENCE)
    assert run([str(Path(sys.executable).with_name("gpulab")), "down"]) == (
        "No cluster 'default' runs; what the last one left behind is removed.\n"
    )
    assert list((state / "gpulab" / "clusters").glob("[!.]*")) == []


@pytest.mark.cluster
def test_what_is_ready_is_not_made_again(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpulab.main(["prepare"]) == 0
    assert capsys.readouterr().out == "All is ready; `gpulab up` and `gpulab grade` start at once.\n"


@pytest.mark.cluster
def test_a_port_that_is_no_port_is_refused(machine: None, programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, words = said(capsys, "up", "--port", "70000")
    assert status == 2
    assert words.endswith("gpulab: asked for port 70000 for the API server; a port is a number from 0 to 65535\n")


@pytest.mark.cluster
def test_clusters_of_other_names_start_at_once_and_live_apart(
    machine: None, programs: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = str(Path(sys.executable).with_name("gpulab"))
    starting = {name: Child([program, "up", "--name", name], log=state / f"{name}.log") for name in ("one", "two")}
    try:
        assert [child.wait(PATIENCE) for child in starting.values()] == [0, 0]
        monkeypatch.setenv("GPULAB_CLUSTER", "one")
        run([program, "kubectl", "create", "namespace", "only-here"])
        assert "only-here" not in run(
            [program, "kubectl", "get", "namespaces"], env={**os.environ, "GPULAB_CLUSTER": "two"}
        )
        monkeypatch.delenv("GPULAB_CLUSTER")
        lines = run([program, "status"]).splitlines()
        assert [line for line in lines if line.startswith("cluster")] == [
            "cluster 'one': backend embedded, level L1, GPUs simulated",
            "cluster 'two': backend embedded, level L1, GPUs simulated",
        ]
        assert run([program, "down", "--name", "one"]) == "The cluster 'one' has ended.\n"
        assert "only-here" not in run(
            [program, "kubectl", "get", "namespaces"], env={**os.environ, "GPULAB_CLUSTER": "two"}
        )
    finally:
        for name in starting:
            run([program, "down", "--name", name])
