"""Quick conformance specs of every SIG, run together on a cluster of their own; each is a test."""

import os
import sys
from contextlib import nullcontext

import pytest

from clusters.api import MachineError
from clusters.progress import Display
from tests.conformance import run, suite

pytestmark = [pytest.mark.cluster, pytest.mark.conformance]
GROUPS = [
    "api-machinery",
    "apps",
    "architecture",
    "auth",
    "cli",
    "instrumentation",
    "network",
    "node",
    "scheduling",
    "storage",
]
SPECS = (
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap [Conformance]",
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "creating/deleting custom resource definition objects works [Conformance]",
    "[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup [Conformance]",
    "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the "
    "selector [Conformance]",
    "[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones [Conformance]",
    "[sig-apps] DisruptionController should create a PodDisruptionBudget [Conformance]",
    "[sig-apps] Job should apply changes to a job status [Conformance]",
    "[sig-apps] ReplicaSet Replicaset should have a working scale subresource [Conformance]",
    "[sig-architecture] Conformance Tests should have at least two untainted nodes [Conformance]",
    "[sig-auth] ServiceAccounts should mount an API token into pods [Conformance]",
    "[sig-auth] SubjectReview should support SubjectReview API operations [Conformance]",
    "[sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions [Conformance]",
    "[sig-cli] Kubectl client Kubectl label should update the label on a resource [Conformance]",
    "[sig-instrumentation] Events should manage the lifecycle of an event [Conformance]",
    "[sig-network] DNS should provide DNS for ExternalName services [Conformance]",
    "[sig-network] EndpointSlice should create and delete EndpointSlices for a Service with a selector that matches no "
    "pods [Conformance]",
    "[sig-network] Services should be able to change the type from ExternalName to NodePort [Conformance]",
    "[sig-network] Services should serve a basic endpoint from pods [Conformance]",
    "[sig-node] Containers should be able to override the image's default command (container entrypoint) [Conformance] "
    "[NodeConformance]",
    "[sig-node] Downward API should provide hostIPs as an env var [Conformance] [NodeConformance]",
    "[sig-node] InitContainer should invoke init containers on a RestartAlways pod [Conformance] [NodeConformance]",
    "[sig-node] Pods should support retrieving logs from the container over websockets [Conformance] [NodeConformance]",
    "[sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534 "
    "[LinuxOnly] [Conformance] [NodeConformance]",
    "[sig-node] Variable Expansion should allow substituting values in a volume subpath [Conformance]",
    "[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. "
    "[Conformance]",
    "[sig-storage] ConfigMap binary data should be reflected in volume [Conformance] [NodeConformance]",
    "[sig-storage] EmptyDir volumes should support (root,0666,default) [LinuxOnly] [Conformance] [NodeConformance]",
    "[sig-storage] EmptyDir wrapper volumes should not conflict [Conformance]",
    "[sig-storage] Projected downwardAPI should provide podname only [Conformance] [NodeConformance]",
    "[sig-storage] Secrets should be immutable if `immutable` field is set [Conformance]",
)

TOKENS = "service account tokens for pods of other users"
NEED_TOKENS = {name for name in SPECS if "runAsUser" in name or "logs from the container over websockets" in name}


@pytest.fixture(scope="module")
def outcomes(
    machine: None, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, suite.Result | None]:
    """What came of each spec, by name; None of one that asks for what the cluster's traits say it lacks."""
    folder = tmp_path_factory.mktemp("conformance")
    env = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext(), Display(sys.stderr) as display:
        try:
            built, kubernetes = run.make(env, display)
            cluster = run.start(built, kubernetes, 2, folder, env, display)
        except MachineError as error:
            pytest.skip(f"the conformance suite cannot be had here: {error}")
        try:
            left_out = NEED_TOKENS if TOKENS in cluster.traits.not_enforced else set()
            names = suite.exactly(name for name in SPECS if name not in left_out)
            report = folder / "subset.json"
            chosen = suite.command(built, labels="Conformance", focus=[names], skip=[], procs=8, report=report)
            found = run.specs(run.seen_inside(cluster, folder), chosen, report, env, display)
        finally:
            cluster.stop()
    return {**dict.fromkeys(left_out), **{result.name: result for result in found}}


def test_the_subset_has_thirty_specs_of_all_groups() -> None:
    groups = [suite.sig(name) for name in SPECS]
    assert len(set(SPECS)) == 30
    assert set(groups) == {f"sig-{name}" for name in GROUPS}
    assert len(NEED_TOKENS) == 2


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_of_kubernetes_passes(outcomes: dict[str, suite.Result | None], name: str) -> None:
    outcome = outcomes[name]
    if outcome is None:
        pytest.skip(f"this cluster's traits say that it does not enforce {TOKENS}")
    assert outcome.reason == ""
