"""Helm, of which a program stands in that shows a chart and then fails in the words of the real one."""

from pathlib import Path

import pytest

from clusters.helm import Helm, HelmFailed, ValuesRefused

INVALID = (
    'Error: release lab failed, and has been uninstalled: Job.batch "lab" is invalid: spec.template.spec.containers[0]'
    '.resources.requests: Invalid value: "1": must be less than or equal to cpu limit of 50m'
)
SCHEMA = (
    "Error: values don't meet the specifications of the schema(s) in the following chart(s):\n"
    "ddp:\n- at '/workers': got string, want integer"
)
UNREACHED = 'Error: Kubernetes cluster unreachable: Get "https://127.0.0.1:1/version": connection refused'


@pytest.mark.parametrize(("said", "kind"), [(INVALID, ValuesRefused), (SCHEMA, ValuesRefused), (UNREACHED, HelmFailed)])
def test_values_that_are_refused_are_told_from_a_cluster_that_does_not_answer(
    said: str, kind: type[HelmFailed], tmp_path: Path
) -> None:
    program = tmp_path / "helm"
    program.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        "version) printf v4.0.0;;\n"
        'show) printf "apiVersion: v2\\nname: ddp\\nversion: 1.0.0\\n";;\n'
        f"*) cat >&2 <<'END'\n{said}\nEND\nexit 1;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    with pytest.raises(HelmFailed) as caught:
        Helm(program, tmp_path / "kubeconfig").install("lab", Path("charts/ddp"), {}, "default")
    assert type(caught.value) is kind
    assert str(caught.value) == f"asked Helm to install the chart ddp as lab: {said.removeprefix('Error: ')}"
