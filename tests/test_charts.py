"""Every chart: its schema is closed, its values are explained, its features render, wrong values are refused."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters.process import CommandFailed, run
from tests.patience import PATIENCE

CHARTS = Path(__file__).parents[1] / "charts"
LIBRARY = CHARTS / "gpulab"
NAMES = sorted(path.parent.name for path in CHARTS.glob("*/Chart.yaml") if path.parent != LIBRARY)
FEATURES = sorted(
    str(path.relative_to(CHARTS)) for name in ("ci/*-values.yaml", "values-*.yaml") for path in CHARTS.glob(f"*/{name}")
)

WRONG = [
    ("vllm", {"engine": {"maxNumSeq": 8}}, "at '/engine': additional properties 'maxNumSeq' not allowed"),
    ("vllm", {"engine": {"maxNumSeqs": 0}}, "at '/engine/maxNumSeqs': minimum: got 0, want 1"),
    ("vllm", {"engine": {"maxNumSeqs": "8"}}, "at '/engine/maxNumSeqs': got string, want null or integer"),
    ("vllm", {"engine": {"gpuMemoryUtilization": 1.5}}, "at '/engine/gpuMemoryUtilization': maximum: got 1.5, want 1"),
    (
        "vllm",
        {"engine": {"dtype": "int3"}},
        "at '/engine/dtype': value must be one of 'auto', 'bfloat16', 'float16', 'float32'",
    ),
    ("vllm", {"engine": None}, "at '': missing property 'engine'"),
    ("vllm", {"probes": {"startup": None}}, "at '/probes': missing property 'startup'"),
    (
        "vllm",
        {"probes": {"readiness": {"port": 1}}},
        "at '/probes/readiness': additional properties 'port' not allowed",
    ),
    ("vllm", {"resources": {"limits": {"gpu": 1}}}, "at '/resources/limits': additional properties 'gpu' not allowed"),
    ("vllm", {"env": {"A-B": "x"}}, "at '/env': additional properties 'A-B' not allowed"),
    ("vllm", {"env": {"A": 1}}, "at '/env/A': got number, want string"),
    ("vllm", {"replicaCount": -1}, "at '/replicaCount': minimum: got -1, want 0"),
    (
        "vllm",
        {"termination": {"gracePeriodSeconds": "30s"}},
        "at '/termination/gracePeriodSeconds': got string, want integer",
    ),
    (
        "vllm",
        {"service": {"name": "Web"}},
        "at '/service/name': 'Web' does not match pattern '^([a-z]([-a-z0-9]{0,61}[a-z0-9])?)?$'",
    ),
    ("vllm", {"histogramBuckets": {"ttft": [1]}}, "at '/histogramBuckets': additional properties 'ttft' not allowed"),
    (
        "vllm",
        {"histogramBuckets": {"request_latency": [0]}},
        "at '/histogramBuckets/request_latency/0': exclusiveMinimum: got 0, want 0",
    ),
    ("vllm", {"model": {"hostPath": "models"}}, "at '/model/hostPath': 'models' does not match pattern '^(/.*)?$'"),
    ("vllm", {"gpulab": {"probe": 1}}, "at '/gpulab': additional properties 'probe' not allowed"),
    ("ddp", {"workers": 0}, "at '/workers': minimum: got 0, want 1"),
    ("ddp", {"torchrun": {"nnode": 2}}, "at '/torchrun': additional properties 'nnode' not allowed"),
    ("ddp", {"torchrun": {"nnodes": 0}}, "at '/torchrun/nnodes': minimum: got 0, want 1"),
    (
        "ddp",
        {"torchrun": {"nnodes": "two"}},
        "at '/torchrun/nnodes': 'two' does not match pattern '^[1-9][0-9]?(:[1-9][0-9]?)?$'",
    ),
    ("ddp", {"torchrun": {"rdzvEndpoint": "here"}}, "at '/torchrun/rdzvEndpoint': got string, want null or boolean"),
    (
        "ddp",
        {"torchrun": {"rdzvBackend": "static"}},
        "at '/torchrun/rdzvBackend': 'static' does not match pattern '^c10d$'",
    ),
    (
        "ddp",
        {"torchrun": {"rdzvConf": {"is_host": 1}}},
        "at '/torchrun/rdzvConf': additional properties 'is_host' not allowed",
    ),
    ("ddp", {"restart": {"policy": "Always"}}, "at '/restart/policy': value must be one of 'Never', 'OnFailure'"),
    ("ddp", {"files": {"../train.py": ""}}, "at '/files': additional properties '../train.py' not allowed"),
    ("ddp", {"resources": {"limits": {"gpu": 1}}}, "at '/resources/limits': additional properties 'gpu' not allowed"),
    (
        "ddp",
        {"checkpoints": {"size": "much"}},
        "at '/checkpoints/size': 'much' does not match pattern '^[1-9][0-9]*(Mi|Gi|Ti)$'",
    ),
    ("ddp-data", {"replicas": 2}, "at '': additional properties 'replicas' not allowed"),
    (
        "ddp-data",
        {"controlToken": "short"},
        "at '/controlToken': 'short' does not match pattern '^([A-Za-z0-9]{16,128})?$'",
    ),
]


def render(helm: Path, chart: str, *options: str) -> list[dict[str, Any]]:
    text = run(
        [str(helm), "template", "release", str(CHARTS / chart), "--namespace", "lab", *options], seconds=PATIENCE
    )
    return [document for document in yaml.safe_load_all(text) if document]


def schema(chart: str) -> dict[str, Any]:
    return dict(json.loads((CHARTS / chart / "values.schema.json").read_text()))


def values(chart: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CHARTS / chart / "values.yaml").read_text()))


def objects(part: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object in a schema."""
    if isinstance(part, dict):
        if part.get("type") == "object":
            yield part
        for inner in part.values():
            yield from objects(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from objects(inner)


def names(part: dict[str, Any], whole: dict[str, Any], path: str = "") -> set[str]:
    """Paths of the values that a schema knows by name."""
    part = whole["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    found: set[str] = set()
    for name, inner in part.get("properties", {}).items():
        found |= {f"{path}{name}"} | names(inner, whole, f"{path}{name}.")
    return found


def paths(part: dict[str, Any], path: str = "") -> set[str]:
    """Paths of the values in a values file."""
    found: set[str] = set()
    for name, inner in part.items():
        found |= {f"{path}{name}"} | (paths(inner, f"{path}{name}.") if isinstance(inner, dict) else set())
    return found


def test_there_are_charts_and_each_has_features() -> None:
    assert NAMES
    assert {feature.split("/")[0] for feature in FEATURES} == set(NAMES)


@pytest.mark.parametrize("chart", [*NAMES, LIBRARY.name])
def test_helm_finds_nothing_to_complain_about(helm: Path, chart: str) -> None:
    assert "0 chart(s) failed" in run([str(helm), "lint", "--strict", str(CHARTS / chart)], seconds=PATIENCE)


@pytest.mark.parametrize("chart", NAMES)
def test_the_schema_leaves_no_object_open(chart: str) -> None:
    whole = schema(chart)

    assert whole["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert [one for one in objects(whole) if one.get("additionalProperties", True) is True] == []


@pytest.mark.parametrize("chart", NAMES)
def test_values_and_schema_name_the_same_values(chart: str) -> None:
    whole = schema(chart)
    optional = {"global", "gpulab", "gpulab.global", "resources.requests", "resources.limits"}

    assert names(whole, whole) - optional == paths(values(chart))


@pytest.mark.parametrize("chart", NAMES)
def test_each_value_has_a_line_that_says_what_it_does(chart: str) -> None:
    lines = (CHARTS / chart / "values.yaml").read_text().splitlines()
    bare = [line for before, line in zip(["", *lines], lines, strict=False) if ": " in line and _value(line, before)]

    assert bare == []


def _value(line: str, before: str) -> bool:
    return not line.strip().startswith("#") and not re.match(r"\s*# [A-Z].*\.$", before)


@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature_renders_objects_named_after_the_release(helm: Path, feature: str) -> None:
    chart = feature.split("/")[0]

    rendered = render(helm, chart, "--values", str(CHARTS / feature))

    assert rendered
    for found in rendered:
        assert found["metadata"]["name"].startswith("release")
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == chart
        assert labels["app.kubernetes.io/instance"] == "release"
        assert {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"} <= labels.keys()


@pytest.mark.parametrize(("chart", "wrong", "reason"), WRONG, ids=[reason for _, _, reason in WRONG])
def test_a_wrong_value_is_refused_with_the_reason(
    helm: Path, tmp_path: Path, chart: str, wrong: dict[str, Any], reason: str
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(wrong))

    with pytest.raises(CommandFailed) as refused:
        render(helm, chart, "--values", str(file))

    said = [line for line in refused.value.output.splitlines() if line and not line.startswith("level=")]
    assert list(dict.fromkeys(said)) == [  # Helm says it twice
        "Error: values don't meet the specifications of the schema(s) in the following chart(s):",
        f"{chart}:",
        f"- {reason}",
    ]


@pytest.mark.parametrize("chart", NAMES)
def test_what_charts_share_comes_along_when_one_is_packed(helm: Path, tmp_path: Path, chart: str) -> None:
    feature = next(str(CHARTS / name) for name in FEATURES if name.startswith(f"{chart}/ci/"))
    run([str(helm), "package", str(CHARTS / chart), "--destination", str(tmp_path)], seconds=PATIENCE)
    (packed,) = tmp_path.iterdir()

    assert render(helm, str(packed), "--values", feature) == render(helm, chart, "--values", feature)


def server(helm: Path, feature: str) -> dict[str, Any]:
    """The pod that the vllm chart renders for a feature."""
    options = ("--values", str(CHARTS / "vllm" / feature)) if feature else ()
    (found,) = (one for one in render(helm, "vllm", *options) if one["kind"] == "Deployment")
    return dict(found["spec"]["template"]["spec"])


def test_vllm_leaves_the_engine_to_itself_unless_told(helm: Path) -> None:
    (container,) = server(helm, "")["containers"]

    assert container["image"] == "vllm/vllm-openai:v0.32.0"
    assert container["args"] == [
        "/models/gpulab-tiny",
        "--served-model-name=gpulab-tiny",
        "--port=8000",
        "--dtype=auto",
        "--shutdown-timeout=20",
    ]
    assert "env" not in container


def test_vllm_passes_every_engine_argument(helm: Path) -> None:
    (container,) = server(helm, "ci/engine-values.yaml")["containers"]

    assert set(container["args"][3:]) == {
        "--dtype=float32",
        "--no-enable-chunked-prefill",
        "--enable-prefix-caching",
        "--enforce-eager",
        "--gpu-memory-utilization=0.85",
        '--custom-histogram-buckets={"request_latency":[1,5],"time_to_first_token":[0.05,0.1,0.5]}',
        "--kv-cache-memory-bytes=1073741824",
        "--max-model-len=4096",
        "--max-num-batched-tokens=2048",
        "--max-num-seqs=64",
        "--shutdown-timeout=20",
        "--tensor-parallel-size=2",
        "--seed=1",
    }
    assert container["args"][-1] == "--seed=1"


def test_vllm_on_processors_may_move_its_threads_unless_told_otherwise(helm: Path) -> None:
    (container,) = server(helm, "ci/cpu-values.yaml")["containers"]

    assert {item["name"]: item["value"] for item in container["env"]} == {
        "OMP_NUM_THREADS": "3",
        "VLLM_CPU_OMP_THREADS_BIND": "0-2",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "DEBUG",
    }


def test_vllm_without_probes_and_grace_has_none(helm: Path) -> None:
    pod = server(helm, "ci/abrupt-values.yaml")

    assert pod["terminationGracePeriodSeconds"] == 1
    assert not {"startupProbe", "readinessProbe", "livenessProbe", "lifecycle"} & pod["containers"][0].keys()


def test_vllm_is_asked_for_its_health_and_gets_time_to_end(helm: Path) -> None:
    pod = server(helm, "")

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod["containers"][0][probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert pod["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert pod["terminationGracePeriodSeconds"] == 30


def test_vllm_is_asked_at_another_path_and_called_otherwise_where_told(helm: Path) -> None:
    rendered = render(helm, "vllm", "--values", str(CHARTS / "vllm/ci/hugging-face-values.yaml"))
    pod = server(helm, "ci/hugging-face-values.yaml")

    assert {one["kind"]: one["metadata"]["name"] for one in rendered} == {
        "Service": "release-web",
        "Deployment": "release",
    }
    assert pod["containers"][0]["readinessProbe"]["httpGet"] == {"path": "/ping", "port": "http"}
    assert pod["enableServiceLinks"] is True


def test_vllm_has_no_rights_it_does_not_need(helm: Path) -> None:
    pod = server(helm, "ci/gpu-values.yaml")

    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 1}


def test_vllm_serves_a_folder_of_the_node_read_only(helm: Path) -> None:
    pod = server(helm, "ci/host-model-values.yaml")

    assert pod["containers"][0]["args"][:2] == ["/model", "--served-model-name=qwen"]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "model", "mountPath": "/model", "readOnly": True}]
    assert pod["volumes"] == [{"name": "model", "hostPath": {"path": "/srv/models/qwen", "type": "Directory"}}]
