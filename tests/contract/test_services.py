"""Services and EndpointSlices: every type, session affinity, several ports, readiness, a rolling update."""

import pytest

from clusters.process import run
from clusters.wait import until
from tests.contract.subject import PYTHON, Object, Space, is_ready, pod, python, service, template, workload
from tests.patience import PATIENCE

WEB = """
import http.server, os, signal, sys
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ["HOSTNAME"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Answer).serve_forever()
"""
READY = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1}
ASK = "import sys, urllib.request as u\nfor url in sys.argv[1:]: print(u.urlopen(url, timeout=10).read().decode())"


def server(port: int = 80, **container: object) -> Object:
    """A container that answers with the name of its pod."""
    return {"image": PYTHON, "command": ["python3", "-c", WEB, str(port)], **container}


def web(port: int = 80) -> Object:
    return {"tcpSocket": {"port": port}, "periodSeconds": 1}


def ask(space: Space, name: str, *urls: str) -> list[str]:
    """The pods that answer these URLs, asked one after the other by a pod of that name."""
    return space.run(name, "python3", "-c", ASK, *urls, container={"image": PYTHON}).split()


@pytest.fixture(scope="module")
def backends(space: Space) -> list[str]:
    """Names of three pods that answer on ports 80 and 81, and are Ready."""
    second = server(81, name="second", readinessProbe=web(81))
    spec = template("true", container=server(readinessProbe=web()))
    spec["containers"].append(second)
    space.create(workload("Deployment", "web", spec, replicas=3))
    space.until("Deployment", "web", lambda found: found["status"].get("readyReplicas") == 3)
    return sorted(each["metadata"]["name"] for each in space.find("Pod", label_selector="app=web"))


def test_a_cluster_ip_spreads_requests_over_its_ready_pods(space: Space, backends: list[str]) -> None:
    space.create(service("spread", app="web"))
    space.until_endpoints("spread", dict.fromkeys(backends, True))
    assert sorted(set(ask(space, "asks-spread", *["http://spread"] * 40))) == backends


def test_session_affinity_keeps_a_client_with_one_pod(space: Space, backends: list[str]) -> None:
    space.create(service("sticky", app="web", sessionAffinity="ClientIP"))
    space.until_endpoints("sticky", dict.fromkeys(backends, True))
    said = ask(space, "asks-sticky", *["http://sticky"] * 20)
    assert said == [said[0]] * 20


def test_a_service_maps_several_ports_by_number_and_name(space: Space, backends: list[str]) -> None:
    ports = [{"name": "first", "port": 8080, "targetPort": 80}, {"name": "second", "port": 8081, "targetPort": 81}]
    space.create(service("ports", app="web", ports=ports))
    space.until_endpoints("ports", dict.fromkeys(backends, True))
    assert set(ask(space, "asks-ports", "http://ports:8080", "http://ports:8081")) <= set(backends)
    (found,) = space.find("EndpointSlice", label_selector="kubernetes.io/service-name=ports")
    assert {each["name"]: each["port"] for each in found["ports"]} == {"first": 80, "second": 81}


def test_a_node_port_answers_on_every_node(space: Space, backends: list[str]) -> None:
    made = space.create(service("outside", app="web", type="NodePort"))
    port = made["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    space.until_endpoints("outside", dict.fromkeys(backends, True))
    nodes = [
        each["address"]
        for node in space.find("Node")
        for each in node["status"]["addresses"]
        if each["type"] == "InternalIP"
    ]
    said = ask(space, "asks-nodes", *[f"http://{address}:{port}" for address in nodes])
    assert len(said) == len(nodes)


def test_a_pod_reaches_itself_through_its_service(space: Space) -> None:
    code = WEB.replace("http.server.Thr", "server = http.server.Thr").replace(".serve_forever()", "")
    code += """
import threading, urllib.request
threading.Thread(target=server.serve_forever, daemon=True).start()
while True:
    try: print(urllib.request.urlopen("http://itself", timeout=5).read().decode()); break
    except OSError: pass
"""
    space.create(service("itself"))
    assert space.run("itself", "python3", "-c", code, "80", container={"image": PYTHON}).strip() == "itself"


def test_pod_and_service_addresses_answer_from_where_load_is_made(space: Space, backends: list[str]) -> None:
    enter = space.subject.enter
    if enter is None:
        pytest.skip("nothing leads from here into this cluster's network (Cluster.enter)")
    space.create(service("entered", app="web"))
    space.until_endpoints("entered", dict.fromkeys(backends, True))
    address = space.get("Pod", backends[0])["status"]["podIP"]
    virtual = space.get("Service", "entered")["spec"]["clusterIP"]
    said = run(enter(["python3", "-c", ASK, f"http://{address}", f"http://{virtual}"]), seconds=PATIENCE)
    assert said.split()[0] == backends[0]
    assert said.split()[1] in backends


def test_a_pod_that_is_not_ready_leaves_and_comes_back(space: Space) -> None:
    gate: Object = {"readinessGates": [{"conditionType": "contract.test/open"}]}
    space.create(
        pod("gated", "sleep 600", **gate), service("gated"), service("all", app="gated", publishNotReadyAddresses=True)
    )
    space.until("Pod", "gated", lambda found: condition(found, "ContainersReady") == "True")
    space.until_endpoints("gated", {"gated": False})
    space.until_endpoints("all", {"gated": True})
    for status in ("True", "False"):
        body = {"status": {"conditions": [{"type": "contract.test/open", "status": status}]}}
        space.resource("Pod").subresources["status"].patch(
            name="gated", namespace=space.name, body=body, content_type="application/strategic-merge-patch+json"
        )
        space.until_endpoints("gated", {"gated": status == "True"})
    assert not is_ready(space.get("Pod", "gated"))


def condition(found: Object, kind: str) -> str:
    conditions = found["status"].get("conditions") or ()
    return next((each["status"] for each in conditions if each["type"] == kind), "")


ROLLING = """
import time, urllib.request
failed, answers = [], []
print("asking", flush=True)
while answers[-100:] != ["new"] * 100:
    try:
        with urllib.request.urlopen("http://rolling", timeout=5) as answer: answers.append(answer.read().decode())
    except OSError as error:
        failed.append(repr(error))
    time.sleep(0.005)
print(len(answers), answers.count("old") > 0, failed)
"""


def test_a_rolling_update_fails_no_request(space: Space) -> None:
    def spec(version: str) -> Object:
        main = server(readinessProbe=web(), lifecycle={"preStop": {"sleep": {"seconds": 1}}})
        main["env"] = [{"name": "HOSTNAME", "value": version}]
        return template("true", container=main, terminationGracePeriodSeconds=5)

    strategy = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    space.create(workload("Deployment", "rolling", spec("old"), replicas=2, strategy=strategy), service("rolling"))
    space.until("Deployment", "rolling", lambda found: found["status"].get("readyReplicas") == 2)
    space.create(python("asks-rolling", ROLLING))
    space.phase("asks-rolling", "Running")
    until(lambda: space.log("asks-rolling"), bool, what="the client to ask", seconds=PATIENCE)
    body = {"spec": {"template": {"spec": spec("new")}}}
    space.patch("Deployment", "rolling", body)
    space.kubectl("rollout", "status", "deployment/rolling", f"--timeout={PATIENCE:g}s")
    _, saw_old, failed = space.output("asks-rolling").splitlines()[-1].split(maxsplit=2)
    assert (saw_old, failed) == ("True", "[]")
