"""The life of containers: init and sidecar containers, probes, hooks, messages, logs, limits, ephemeral containers."""

import itertools

import pytest

from clusters.wait import until
from tests.contract.subject import SHELL, Object, Space, is_ready, pod, python
from tests.patience import PATIENCE

WEB = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/live" else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("", 8080), Answer).serve_forever()
"""
SLEEP = "exec sleep 600"


def status(found: Object, name: str = "main", kind: str = "containerStatuses") -> Object:
    return next((each for each in found["status"].get(kind) or () if each["name"] == name), {})


def ended(found: Object, name: str = "main", kind: str = "containerStatuses") -> Object:
    return dict(status(found, name, kind).get("state", {}).get("terminated") or {})


def beside(name: str, command: str, **more: object) -> Object:
    return {"name": name, "image": SHELL, "command": ["sh", "-c", command], **more}


def probe(kind: str, **action: object) -> Object:
    return {kind: action, "periodSeconds": 1, "failureThreshold": 1}


@pytest.fixture(scope="module", autouse=True)
def started(space: Space) -> None:
    """Most pods of this module, which live beside each other."""
    flag: Object = {"volumes": [{"name": "flag", "emptyDir": {}}]}
    at = {"volumeMounts": [{"name": "flag", "mountPath": "/flag"}]}
    sidecar = beside("sidecar", "echo begun > /flag/sidecar; trap 'exit 0' TERM; while :; do sleep 0.1; done", **at)
    first = [
        beside("first", "echo 1 > /flag/first", **at),
        sidecar | {"restartPolicy": "Always", "startupProbe": probe("exec", command=["test", "-e", "/flag/sidecar"])},
        beside("second", "cat /flag/first /flag/sidecar", **at),
    ]
    hook = {"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo hooked > /flag/hook"]}}}}
    waits = "until test -s /flag/hook; do sleep 0.05; done; cat /flag/hook"
    startup = probe("exec", command=["test", "-e", "/flag/up"]) | {"failureThreshold": 100}
    slow = "sleep 1.5; touch /flag/up; exec sleep 600"
    space.create(
        pod("ordered", "cat /flag/first", container=at, initContainers=first, **flag),
        pod("ends", "echo out; echo err >&2; exit 7"),
        pod("init-fails", "true", initContainers=[beside("breaks", "exit 3")]),
        pod("hook", waits, container=at | hook, **flag),
        pod("message", "echo my last words > /dev/termination-log; exit 1"),
        pod("fallback", "echo from the log; exit 1", container={"terminationMessagePolicy": "FallbackToLogsOnError"}),
        pod("restarts", "exit 1", restartPolicy="Always"),
        pod("fails-once", f"test -e /flag/ran && {SLEEP}; touch /flag/ran; echo run; exit 1",
            container=at, restartPolicy="Always", **flag),
        pod("killed", SLEEP, container={"livenessProbe": probe("exec", command=["false"])}, restartPolicy="Always"),
        pod("starts", slow, container=at | {"startupProbe": startup, "livenessProbe": probe("exec", command=["true"])},
            **flag),
        python("web", WEB, container={"readinessProbe": probe("httpGet", path="/live", port=8080)}),
        python("refuses", WEB, container={"readinessProbe": probe("httpGet", path="/dead", port=8080)}),
        python("tcp", WEB, container={"readinessProbe": probe("tcpSocket", port=8080)}),
        python("grpc", WEB, container={"readinessProbe": probe("grpc", port=8080)}),
        pod("missing", "true", container={"command": ["/no/such/program"]}),
        pod("no-image", "true", container={"image": "contract.invalid/no/such:1", "imagePullPolicy": "IfNotPresent"}),
        pod("several", "echo main; sleep 600", labels={"app": "several"}),
        pod("term", "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done",
            terminationGracePeriodSeconds=30),
        pod("shares", "cat /proc/[0-9]*/comm",
            shareProcessNamespace=True, initContainers=[
                beside("other", SLEEP, restartPolicy="Always")]),
    )  # fmt: skip


def test_a_container_ends_with_its_code_and_reason(space: Space) -> None:
    state = ended(space.phase("ends", "Failed"))
    assert (state["exitCode"], state["reason"]) == (7, "Error")
    assert sorted(space.log("ends").split()) == ["err", "out"]


def test_init_containers_and_sidecars_begin_in_order(space: Space) -> None:
    found = space.phase("ordered", "Succeeded")
    assert space.log("ordered", container="second").split() == ["1", "begun"]
    assert space.log("ordered").strip() == "1"
    assert ended(found, "second", "initContainerStatuses")["reason"] == "Completed"
    assert ended(found, "sidecar", "initContainerStatuses")["exitCode"] == 0


def test_a_failed_init_container_fails_the_pod(space: Space) -> None:
    found = space.phase("init-fails", "Failed")
    assert ended(found, "breaks", "initContainerStatuses")["exitCode"] == 3
    assert status(found)["state"]["waiting"]["reason"] == "PodInitializing"


def test_a_hook_runs_after_the_start(space: Space) -> None:
    assert space.output("hook").strip() == "hooked"


def test_a_container_leaves_a_message(space: Space) -> None:
    assert ended(space.phase("message", "Failed"))["message"] == "my last words\n"
    assert ended(space.phase("fallback", "Failed"))["message"] == "from the log\n"


def test_a_container_that_keeps_failing_is_restarted_with_back_off(space: Space) -> None:
    looks = itertools.count()

    def seen() -> Object:
        # A kubelet tells of a back-off when it looks at the pod again, which a change of the pod brings about.
        return status(space.patch("Pod", "restarts", {"metadata": {"annotations": {"looks": str(next(looks))}}}))

    found = until(seen, waits, what="the back-off", seconds=PATIENCE, interval=1)
    assert found["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert found["restartCount"] >= 1
    assert found["lastState"]["terminated"]["exitCode"] == 1
    assert "Back-off restarting failed container" in space.events("restarts")


def waits(container: Object) -> bool:
    return "waiting" in container.get("state", {}) and container["restartCount"] > 0


def test_the_log_of_the_run_before_is_kept(space: Space) -> None:
    again = {"restartCount": 1, "ready": True}
    space.until("Pod", "fails-once", lambda found: again.items() <= status(found).items())
    assert space.log("fails-once", previous=True) == "run\n"


def test_a_liveness_probe_restarts_the_container(space: Space) -> None:
    space.until("Pod", "killed", lambda found: status(found).get("restartCount", 0) >= 1)
    assert "failed liveness probe, will be restarted" in space.events("killed")


def test_a_startup_probe_holds_the_others_back(space: Space) -> None:
    found = space.ready("starts")
    assert status(found)["started"] is True
    assert status(found)["restartCount"] == 0


def test_readiness_is_asked_by_http_and_tcp(space: Space) -> None:
    space.ready("web")
    space.ready("tcp")
    until(
        lambda: space.events("refuses"),
        lambda said: "statuscode: 503" in said,
        what="the probe to be refused",
        seconds=PATIENCE,
    )
    assert not is_ready(space.get("Pod", "refuses"))


def test_a_grpc_probe_fails_where_nobody_speaks_grpc(space: Space) -> None:
    said = until(
        lambda: space.events("grpc"), lambda said: "Readiness probe failed" in said, what="a refusal", seconds=PATIENCE
    )
    assert "8080" in said
    assert not is_ready(space.get("Pod", "grpc"))


def test_a_program_that_is_not_there_is_told_by_name(space: Space) -> None:
    found = space.phase("missing", "Failed")
    state = ended(found)
    assert state["exitCode"] in (127, 128)
    assert state["reason"] in ("StartError", "ContainerCannotRun")
    assert "/no/such/program" in state["message"]


def test_an_image_that_cannot_be_had_says_so(space: Space) -> None:
    def reason(found: Object) -> str:
        return str(status(found).get("state", {}).get("waiting", {}).get("reason", ""))

    found = space.until("Pod", "no-image", lambda found: reason(found) in ("ErrImagePull", "ImagePullBackOff"))
    assert "contract.invalid/no/such:1" in status(found)["state"]["waiting"]["message"]


def test_a_container_is_asked_to_end_and_may_tidy_up(space: Space) -> None:
    space.phase("term", "Running")
    until(lambda: space.log("term"), lambda said: "up" in said, what="the container to listen", seconds=PATIENCE)
    space.delete("Pod", "term")
    space.gone("Pod", "term")
    assert "Stopping container main" in space.events("term")


def test_containers_of_a_pod_may_share_their_processes(space: Space) -> None:
    assert "sleep" in space.output("shares").split()


def test_logs_are_cut_by_lines_time_and_container(space: Space) -> None:
    space.create(pod("speaks", "for n in 1 2 3; do echo line $n; done"))
    space.output("speaks")
    assert space.log("speaks", tail_lines=1) == "line 3\n"
    assert space.log("speaks", limit_bytes=6) == "line 1"
    assert space.log("speaks", since_seconds=3600).count("line") == 3
    stamp, _, text = space.log("speaks", timestamps=True, tail_lines=1).partition(" ")
    assert (stamp[10], text) == ("T", "line 3\n")
    assert space.kubectl("logs", "speaks", "--prefix", "--tail=1") == "[pod/speaks/main] line 3\n"


def test_a_followed_log_ends_with_its_container(space: Space) -> None:
    space.create(pod("followed", "for n in 1 2 3 4; do echo $n; sleep 0.2; done"))
    space.phase("followed", "Running")
    assert space.kubectl("logs", "--follow", "followed").split() == ["1", "2", "3", "4"]


@pytest.mark.trait("limits of memory")
def test_memory_over_its_limit_is_an_oom_kill(space: Space) -> None:
    code = "import time\nkept = [bytearray(10_000_000) for _ in range(30)]\ntime.sleep(600)"
    space.create(python("greedy", code, container={"resources": {"limits": {"memory": "100Mi"}}}))
    state = ended(space.phase("greedy", "Failed"))
    assert (state["reason"], state["exitCode"]) == ("OOMKilled", 137)


def test_an_ephemeral_container_joins_a_running_pod(space: Space) -> None:
    space.phase("several", "Running")
    body = {"spec": {"ephemeralContainers": [beside("looks", "echo here; hostname") | {"targetContainerName": "main"}]}}
    space.resource("Pod").subresources["ephemeralcontainers"].patch(
        name="several", namespace=space.name, body=body, content_type="application/strategic-merge-patch+json"
    )
    space.until("Pod", "several", lambda found: ended(found, "looks", "ephemeralContainerStatuses"))
    assert space.log("several", container="looks").split() == ["here", "several"]


def test_what_a_pod_knows_of_itself_is_in_its_environment(space: Space) -> None:
    field = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    limit = {"valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}
    env = [{"name": "NAME", **field}, {"name": "LIMIT", **limit}, {"name": "BOTH", "value": "$(NAME)/$(LIMIT)"}]
    main = {"env": env, "workingDir": "/tmp", "resources": {"limits": {"memory": "64Mi"}}}
    said = space.run("knows", "echo $BOTH; pwd; id -u; echo $KUBERNETES_SERVICE_PORT", container=main)
    assert said.split() == ["knows/64", "/tmp", "0", "443"]


@pytest.mark.trait("service account tokens for pods of other users")
def test_a_container_runs_as_the_user_that_its_pod_asks_for(space: Space) -> None:
    user = {"runAsUser": 1234, "runAsGroup": 2345, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
    main = {"securityContext": user | {"capabilities": {"drop": ["ALL"]}}}
    said = space.run("user", "id -u; id -g; touch /x 2>/dev/null || echo refused", container=main)
    assert said.split() == ["1234", "2345", "refused"]
