"""The contract's cluster: an embedded one of this session, or any that --contract-kubeconfig names.

Place: the only part of the suite that knows a backend. Limits: on a named cluster nothing reaches pod addresses from
here, and what its traits would say is not known.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest
from kubernetes.dynamic import DynamicClient

from clusters.wait import until
from tests.contract.subject import Space, Subject, unique
from tests.patience import PATIENCE

_OPTION = "--contract-kubeconfig"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names another cluster."""
    parser.addoption(_OPTION, type=Path, metavar="FILE", help="run tests/contract on the cluster of this kubeconfig")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.contract)
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def subject(
    request: pytest.FixtureRequest, programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    """The cluster that the contract is held to."""
    named: Path | None = request.config.getoption(_OPTION, default=None)
    if named:
        kubeconfig, enter, not_enforced = named, None, None
    else:
        cluster = request.getfixturevalue("embedded")
        kubeconfig, enter, not_enforced = cluster.kubeconfig, cluster.enter, cluster.traits.not_enforced
    with kubernetes.config.new_client_from_config(str(kubeconfig)) as api:
        found = tmp_path_factory.mktemp("discovery") / "found.json"
        dynamic = DynamicClient(api, cache_file=str(found))
        yield Subject(
            kubeconfig, programs / "bin" / "kubectl", programs / "bin" / "helm", api, dynamic, enter, not_enforced
        )


@pytest.fixture(autouse=True)
def trait(request: pytest.FixtureRequest) -> None:
    """Skips a test marked `trait(...)` whose subject's traits say that one of these is not enforced or offered.

    An embedded cluster offers all that its traits do not name, so there a test of it fails rather than skips.
    """
    for mark in request.node.iter_markers("trait"):
        known = request.getfixturevalue("subject").not_enforced
        if known is None:
            pytest.skip(f"a named kubeconfig has no traits that say whether it offers {', '.join(mark.args)}")
        for each in sorted(set(mark.args) & set(known)):
            pytest.skip(f"this cluster's traits say that it does not enforce {each}")


@pytest.fixture(scope="session")
def cluster_wide(subject: Subject) -> Space:
    """The default namespace, for looking at what belongs to none; nothing is left in it."""
    return Space(subject, "default")


@pytest.fixture(scope="module")
def space(subject: Subject, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace for the tests of one module."""
    yield from new_space(subject, re.sub(r".*test_|\.py$", "", request.path.name).replace("_", "-"))


def new_space(subject: Subject, prefix: str, **labels: str) -> Iterator[Space]:
    """A namespace that is removed in the end; it is there once pods can be made in it."""
    made = Space(subject, unique(prefix))
    made.create({"kind": "Namespace", "metadata": {"name": made.name, "labels": labels}})
    try:
        until(lambda: _can_run(made), bool, what="the namespace's service account and root", seconds=PATIENCE)
        yield made
    finally:
        made.delete("Namespace", made.name)


def _can_run(space: Space) -> bool:
    return space.exists("ServiceAccount", "default") and space.exists("ConfigMap", "kube-root-ca.crt")
