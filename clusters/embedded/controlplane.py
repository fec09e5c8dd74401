"""The control plane: what each program is started with, in which order, and when it is ready.

Place: holder.py runs `ControlPlane` inside its namespaces. Limits: one etcd without fsync (a cluster is not meant to
outlive its machine), no leader election, one kube-proxy for all nodes as they share a network namespace.
"""

import http.client
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from clusters.api import ClusterError, StartError
from clusters.api import ControlPlane as Times
from clusters.embedded import addons, network
from clusters.embedded.pki import Authority, Pair, kubeconfig
from clusters.embedded.private import write_private
from clusters.embedded.rest import Api, get
from clusters.embedded.supervisor import Supervisor
from clusters.process import Child
from clusters.sockets import listens
from clusters.wait import WaitTimeout, until

BOOTSTRAP = Path(__file__).with_name("bootstrap.yaml")
_ETCD = "unix://localhost:23790"  # etcd wants host:port; it is the name of the socket's file in etcd's own folder
_ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
# Two hooks of kube-apiserver sleep a second before they make roles and priority classes (storage_rbac.go and
# storage_scheduling.go in k8s.io/kubernetes/pkg/registry), in which what needs neither can start.
_SLEEPERS = ("rbac/bootstrap-roles", "scheduling/bootstrap-system-priority-classes")
_SERVES = "/readyz?" + "&".join(f"exclude=poststarthook/{hook}" for hook in _SLEEPERS)
_DEADLINE = 60.0
_PAUSE = 0.05  # each look at the API server costs it a TLS handshake, just when it has the most to do


@dataclass(frozen=True)
class Files:
    """Folders and certificates of one cluster; `front` signs for the calls that the API server passes on."""

    state: Path
    programs: Path
    authority: Authority
    front: Authority

    @property
    def etcd(self) -> Path:
        """Folder of etcd's data and socket."""
        return self.state / "etcd"

    def program(self, name: str) -> str:
        """Path of a Kubernetes program."""
        return str(self.programs / "bin" / name)

    def log(self, name: str) -> Path:
        """Log file of a component."""
        return self.state / "logs" / f"{name}.log"

    def client(self, name: str, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig, for use inside the holder, for `user` in `groups`."""
        pair = self.authority.issue(name, user, groups)
        server = f"https://{network.API}:{network.API_PORT}"
        return kubeconfig(self.state / "pki" / f"{name}.conf", server, self.authority.cert, pair, "gpulab")


def files(state: Path, programs: Path) -> Files:
    """Makes the folders and the certificate authorities of a new cluster in `state`."""
    for name in ("etcd", "logs", "nodes", "pki", "volumes"):
        (state / name).mkdir(mode=0o700)
    pki, now = state / "pki", datetime.now(UTC)
    return Files(state, programs, Authority(pki, now), Authority(pki, now, "front-proxy-ca"))


def etcd_argv(program: str, folder: Path) -> list[str]:
    """Command line of etcd, to be run in `folder`, where its socket appears."""
    peer = "unix://localhost:23800"
    return [
        program,
        f"--data-dir={folder / 'data'}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        # The only member waits for up to one election timeout before it elects itself, and writes nothing until then.
        "--heartbeat-interval=50",
        "--election-timeout=250",
        "--log-level=warn",
    ]


def apiserver_argv(program: str, pki: Path, authority: Path, serving: Pair, kubelet: Pair, signing: Path) -> list[str]:
    """Command line of kube-apiserver, to be run in etcd's folder; `apiserver_times` adds to it."""
    return [
        program,
        f"--etcd-servers={_ETCD}",
        f"--secure-port={network.API_PORT}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={network.API}",
        f"--cert-dir={pki}",
        f"--tls-cert-file={serving.cert}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority}",
        "--anonymous-auth=false",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-certificate-authority={authority}",
        f"--kubelet-client-certificate={kubelet.cert}",
        f"--kubelet-client-key={kubelet.key}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={signing}",
        f"--service-account-signing-key-file={signing}",
        f"--service-account-issuer=https://kubernetes.default.svc.{network.DOMAIN}",
        f"--service-cluster-ip-range={network.SERVICES}",
        "--profiling=false",
    ]


def apiserver_times(times: Times) -> list[str]:
    """Flags of kube-apiserver: how long pods stay on a node that is not ready, or not heard of."""
    return [
        f"--default-not-ready-toleration-seconds={times.default_not_ready_toleration_seconds}",
        f"--default-unreachable-toleration-seconds={times.default_unreachable_toleration_seconds}",
    ]


def manager_times(times: Times) -> list[str]:
    """Flags of kube-controller-manager: how often it looks at nodes, and when a silent one is not ready."""
    return [
        f"--node-monitor-period={times.node_monitor_period_seconds}s",
        f"--node-monitor-grace-period={times.node_monitor_grace_period_seconds}s",
    ]


def proxy_config(client: Path, node: str) -> dict[str, Any]:
    """Configuration of kube-proxy; zeros keep it from sysctls that a user namespace may not write."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(client)},
        "hostnameOverride": node,
        "clusterCIDR": network.PODS,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nodePortAddresses": [network.NODES],  # by default the first node's alone, as there is one kube-proxy for all
        "nftables": {"minSyncPeriod": "50ms", "syncPeriod": "30s"},
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
    }


def corefile(client: Path) -> str:
    """Configuration of CoreDNS: the cluster's names and no others, as there is no way out."""
    return f"""\
.:53 {{
  bind {network.API}
  errors
  ready {network.API}:8181
  kubernetes {network.DOMAIN} in-addr.arpa {{
    kubeconfig {client}
    pods insecure
  }}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
  cache 5
}}
"""


class ControlPlane:
    """Starts the control plane's programs, which `supervisor` keeps from then on."""

    def __init__(self, files: Files, supervisor: Supervisor, say: Callable[[str], None]) -> None:
        self.files, self._supervisor, self._say = files, supervisor, say
        self._admin = files.authority.issue("admin", "gpulab-admin", ["system:masters"])
        self.api = Api(str(files.authority.cert), self._admin)

    def kubeconfig(self, path: Path, server: str, name: str) -> None:
        """Writes the administrator's kubeconfig for `server`."""
        kubeconfig(path, server, self.files.authority.cert, self._admin, name)

    def start_store(self, times: Times) -> None:
        """Starts etcd and kube-apiserver, and returns without waiting for the second."""
        files, issue = self.files, self.files.authority.issue
        self._start("etcd", etcd_argv(files.program("etcd"), files.etcd), cwd=files.etcd)
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        names += [f"kubernetes.default.svc.{network.DOMAIN}", network.API, network.API_SERVICE, "127.0.0.1"]
        serving = issue("kube-apiserver", "kube-apiserver", hosts=names)
        kubelet = issue("kube-apiserver-kubelet-client", "kube-apiserver-kubelet-client")
        self._signing = files.authority.signing_key("service-accounts.key")
        authority = files.authority.cert
        argv = apiserver_argv(
            files.program("kube-apiserver"), files.state / "pki", authority, serving, kubelet, self._signing
        )
        argv += apiserver_times(times)
        argv += addons.aggregation_flags(
            files.front.cert, files.front.issue("front-proxy-client", "front-proxy-client")
        )
        self._wait("etcd to listen", lambda: listens(files.etcd / "localhost:23790"))
        self._start("kube-apiserver", argv, cwd=files.etcd)

    def wait_for_api(self) -> None:
        """Returns once kube-apiserver serves and holds the first objects; the roles it comes with follow later."""
        objects = list(yaml.load_all(BOOTSTRAP.read_text(), yaml.CSafeLoader))
        self._wait("kube-apiserver to serve", lambda: self.api.get(_SERVES) is not None)
        self._wait("the first objects to be made", lambda: self._makes(*objects))

    def start_network(self, first_node: str) -> None:
        """Starts kube-proxy and CoreDNS."""
        files = self.files
        proxy = proxy_config(files.client("kube-proxy", "system:kube-proxy"), first_node)
        config = write_private(files.state / "kube-proxy.json", json.dumps(proxy).encode())
        self._start("kube-proxy", [files.program("kube-proxy"), f"--config={config}"])
        names = corefile(files.client("coredns", "system:coredns"))
        config = write_private(files.state / "Corefile", names.encode())
        self._start("coredns", [files.program("coredns"), "-conf", str(config)])

    def start_controllers(self, times: Times) -> None:
        """Starts the controllers and the scheduler once kube-apiserver has made their roles."""
        files = self.files
        self._wait("kube-apiserver to be ready", lambda: self.api.get("/readyz") is not None)
        manager = files.client("kube-controller-manager", "system:kube-controller-manager")
        self._start(
            "kube-controller-manager",
            [
                files.program("kube-controller-manager"),
                f"--kubeconfig={manager}",
                f"--service-account-private-key-file={self._signing}",
                f"--root-ca-file={files.authority.cert}",
                "--use-service-account-credentials",
                # Each of 40 controllers makes its account and token first; at the usual 20 calls/s that takes 5 s.
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
                *manager_times(times),
                "--leader-elect=false",
                "--secure-port=0",
                "--profiling=false",
            ],
        )
        scheduler = files.client("kube-scheduler", "system:kube-scheduler")
        argv = [files.program("kube-scheduler"), f"--kubeconfig={scheduler}", "--leader-elect=false", "--secure-port=0"]
        self._start("kube-scheduler", argv)

    def start_addons(self) -> None:
        """Starts metrics-server and the volume provisioner, and registers the API of the first."""
        files = self.files
        volumes = files.client("volume-provisioner", "system:volume-provisioner")
        argv = addons.volumes_argv(files.program("volume-provisioner"), volumes, files.state / "volumes")
        self._start("volume-provisioner", argv)
        authority = files.authority.cert
        serving = files.authority.issue("metrics-server-serving", "metrics-server", hosts=[addons.METRICS])
        client = files.client("metrics-server", "system:metrics-server")
        self._start("metrics-server", addons.metrics_argv(files.program("metrics-server"), client, authority, serving))
        self._wait("metrics-server to listen", lambda: listens((network.API, network.METRICS_PORT)))
        self._wait("the metrics API to be registered", lambda: self._makes(addons.metrics_api(authority)))

    def wait_until_ready(self, nodes: Sequence[str]) -> None:
        """Returns once every node is Ready, kube-proxy has written its rules and CoreDNS answers."""
        self._wait(f"{len(nodes)} nodes to be Ready", lambda: set(nodes) <= set(self._ready_nodes()))
        # Without it no pod can be made; kube-controller-manager would make it too, a second later.
        self._wait("the default service account", lambda: self._makes(_ACCOUNT))
        self._wait("CoreDNS to be ready", lambda: _answers(network.API, 8181, "/ready"))
        self._wait("kube-proxy to be ready", lambda: _answers("127.0.0.1", 10256, "/healthz"))

    def _makes(self, *wanted: dict[str, Any]) -> bool:
        """True once objects are there; raises while the API server is starting, or starting again."""
        self.api.create(*wanted)
        return True

    def _start(self, name: str, argv: list[str], cwd: Path | None = None) -> None:
        log = self.files.log(name)
        self._supervisor.start(name, lambda: Child(argv, log=log, cwd=cwd), log)

    def _wait(self, what: str, done: Callable[[], bool]) -> None:
        def missing() -> str:
            self._supervisor.look()
            try:
                return "" if done() else "not yet"
            except ClusterError as error:
                return str(error)

        self._say(f"waiting for {what}")
        try:
            until(missing, lambda words: not words, what=what, seconds=_DEADLINE, interval=_PAUSE)
        except WaitTimeout as error:
            raise StartError(str(error)) from error

    def _ready_nodes(self) -> list[str]:
        nodes = json.loads(self.api.get("/api/v1/nodes") or '{"items": []}')["items"]
        return [node["metadata"]["name"] for node in nodes if is_ready(node)]


def is_ready(node: dict[str, Any], since: datetime | None = None) -> bool:
    """Whether a Node object has the condition Ready, told by its kubelet at or after `since`, to the second."""
    for each in node["status"].get("conditions", []):
        if each["type"] == "Ready" and each["status"] == "True":
            told = datetime.fromisoformat(each["lastHeartbeatTime"]) if since else None
            return since is None or told is None or told >= since.replace(microsecond=0)
    return False


def _answers(host: str, port: int, path: str) -> bool:
    return get(http.client.HTTPConnection(host, port, timeout=5), path) is not None
