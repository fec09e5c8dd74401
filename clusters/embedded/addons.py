"""What clusters usually add to Kubernetes itself: metrics-server for `kubectl top` and autoscaling, and local volumes.

Place: controlplane.py starts both, last, with what this module says; their rights are in bootstrap.yaml. Limits: one
metrics-server that asks the kubelets every ten seconds, its shortest interval; the size of a volume is not enforced.
"""

import base64
from pathlib import Path
from typing import Any

from clusters.embedded import network
from clusters.embedded.pki import Pair

METRICS = "metrics-server.kube-system.svc"
"""The name that the API server calls metrics-server by, and checks in its certificate."""


def aggregation_flags(front: Path, proxy: Pair) -> list[str]:
    """Flags of kube-apiserver for APIs that others serve (`front`: authority of the calls it passes on, as `proxy`).

    https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
    """
    return [
        f"--requestheader-client-ca-file={front}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={proxy.cert}",
        f"--proxy-client-key-file={proxy.key}",
        "--enable-aggregator-routing",
    ]


def metrics_argv(program: str, client: Path, authority: Path, serving: Pair) -> list[str]:
    """Command line of metrics-server."""
    return [
        program,
        f"--kubeconfig={client}",
        f"--authentication-kubeconfig={client}",
        f"--authorization-kubeconfig={client}",
        f"--bind-address={network.API}",
        f"--secure-port={network.METRICS_PORT}",
        f"--tls-cert-file={serving.cert}",
        f"--tls-private-key-file={serving.key}",
        f"--kubelet-certificate-authority={authority}",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",
    ]


def metrics_api(authority: Path) -> dict[str, Any]:
    """The APIService of metrics-server, made once it listens: the API server looks again only after seconds."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "service": {"name": "metrics-server", "namespace": "kube-system"},
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "caBundle": base64.b64encode(authority.read_bytes()).decode(),
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }


def volumes_argv(program: str, client: Path, folder: Path) -> list[str]:
    """Command line of the provisioner of the StorageClass in bootstrap.yaml; each volume is a folder in `folder`."""
    return [program, f"--kubeconfig={client}", f"--folder={folder}"]
