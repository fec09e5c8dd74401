"""The design's rules on who may import whom, from the syntax tree; each also catches a violation planted for it."""

import ast
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmarks", "clusters", "commands", "graders", "labs", "tests")
BACKENDS = ("embedded", "existing", "k3s", "kind")
LAYERS = (
    (
        "errors",
        "api_server",
        "seeds",
        "arrivals",
        "lengths",
        "trace",
        "prompts",
        "stats",
        "sequential",
        "steady",
        "packed",
        "redact",
        "lines",
        "signing",
        "record",
        "stored",
        "pod_watch",
        "cluster_evidence",
        "lab",
        "machine",
        "submission",
        "provenance",
        "process",
        "pods",
        "allowance",
        "knee",
        "variants",
        "lateness",
    ),
    (
        "http1",
        "sse",
        "client",
        "connection",
        "diagnosis",
        "floor",
        "null_server",
        "tls",
        "workers",
        "plan",
        "faults",
        "contrast",
        "honesty",
        "gpu_claims",
        "samples",
        "watch",
        "workload",
        "load",
        "during",
        "streaming",
        "metrics",
        "sampler",
        "scrape",
        "gpu_telemetry",
        "gpu_recorder",
        "gpu_scrape",
        "ledger",
        "bounds",
        "crosscheck",
        "rubric",
        "told",
        "next_steps",
        "beside",
        "judging",
        "budget",
    ),
    (
        "report",
        "exports",
        "check",
        "fixtures",
        "rescore",
        "audit",
        "retry",
        "attempts",
        "variance",
        "terms",
        "flags",
        "html",
        "gates",
    ),
    ("plugin",),
)
OWN = ("clusters", "commands", "graders", "conftest", "gpulab", "labs", "tests", "benchmarks")
LAB_MAY = ("graders", "clusters.api", "clusters.wait")
EMPTY_NAMES = ("common", "helper", "helpers", "misc", "util", "utils")
PROGRAM_STARTERS = (
    "subprocess",
    "os.system",
    "os.popen",
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
)

# The second starts the processes of containers, from an event loop and with pipes to read; nothing else may.
CLUSTERS_START_IN = ("clusters/process.py", "clusters/embedded/runtime/spawn.py")

Sources = Mapping[str, str]
Rule = Callable[[Sources], list[str]]


def sources() -> dict[str, str]:
    """Text of every Python module of the project, by path from its root."""
    paths = [ROOT / "conftest.py", ROOT / "gpulab.py"]
    paths += [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(paths) if path.is_file()}


def imports(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported, relative imports and import_module("...") included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(PurePosixPath(path).parts[: -node.level]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((node.lineno, str(each.value)) for each in node.args if isinstance(each, ast.Constant))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def clusters_and_graders_apart(sources: Sources) -> list[str]:
    found = []
    for one, other in (("clusters", "graders"), ("graders", "clusters")):
        for path, source in sources.items():
            if path.startswith(f"{one}/"):
                lines = [(line, name) for line, name in imports(path, source) if within(name, other)]
                found += [f"{path}:{line}: {one} imports {name}; they meet in conftest.py" for line, name in lines]
    return found


def backends_apart(sources: Sources) -> list[str]:
    found = []
    for path, source in sources.items():
        own = PurePosixPath(path).with_suffix("").parts[1:2]
        if path.startswith("clusters/") and own and own[0] in BACKENDS:
            for line, name in imports(path, source):
                others = [each for each in BACKENDS if each != own[0] and within(name, f"clusters.{each}")]
                found += [f"{path}:{line}: the backend {own[0]} imports the backend {each}" for each in others]
    return found


def labs_know_graders_and_two_modules(sources: Sources) -> list[str]:
    return [
        f"{path}:{line}: a lab imports {name}; it may import {', '.join(LAB_MAY)} and libraries"
        for path, source in sources.items()
        if PurePosixPath(path).match("labs/*/test_*.py") or PurePosixPath(path).match("labs/*/*_lab/*.py")
        for line, name in imports(path, source)
        if any(within(name, own) for own in OWN) and not any(within(name, allowed) for allowed in LAB_MAY)
    ]


def starters_import_nothing_of_ours(sources: Sources) -> list[str]:
    return [
        f"{path}:{line}: a starter imports {name}; it is the learner's and knows nothing of ours"
        for path, source in sources.items()
        if path.startswith("labs/") and "starter" in PurePosixPath(path).parts
        for line, name in imports(path, source)
        if any(within(name, own) for own in OWN)
    ]


def graders_point_down(sources: Sources) -> list[str]:
    found = []
    height = {module: level for level, layer in enumerate(LAYERS) for module in layer}
    for path, source in sources.items():
        module = "".join(PurePosixPath(path).with_suffix("").parts[1:2])
        if not path.startswith("graders/") or module == "__init__":
            continue
        if module not in height:
            found.append(f"{path}:1: {module} has no place among the layers of graders; give it one in this test")
            continue
        for line, name in imports(path, source):
            other = name.split(".")[1:2] if within(name, "graders") else []
            if other and height.get(other[0], 0) > height[module]:
                found.append(f"{path}:{line}: {module} imports {other[0]}, which is above it")
    return found


def programs_start_in_one_place(sources: Sources) -> list[str]:
    starts: dict[str, dict[str, int]] = {"clusters": {}, "graders": {}}
    for path, source in sources.items():
        package = path.split("/")[0]
        if package in starts:
            names = [*imports(path, source), *calls(source)]
            lines = [line for line, name in names if any(within(name, starter) for starter in PROGRAM_STARTERS)]
            if lines:
                starts[package][path] = min(lines)
    found = [
        f"{path}:{line}: starts programs; clusters does so in clusters/process.py only"
        for path, line in starts["clusters"].items()
        if path not in CLUSTERS_START_IN
    ]
    if len(starts["graders"]) > 1:
        found += [
            f"{path}:{line}: starts programs; one module of graders may" for path, line in starts["graders"].items()
        ]
    return found


def calls(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.lineno, ast.unparse(node.func)


def modules_are_small(sources: Sources) -> list[str]:
    return [
        f"{path}:401: {len(source.splitlines())} lines, 400 at most; split it by verb or by noun"
        for path, source in sources.items()
        if len(source.splitlines()) > 400
    ]


def modules_have_names_that_tell(sources: Sources) -> list[str]:
    return [
        f"{path}:1: {part} tells nothing; name it for what it does"
        for path in sources
        for part in PurePosixPath(path).with_suffix("").parts
        if part in EMPTY_NAMES
    ]


def no_lab_is_named(sources: Sources) -> list[str]:
    """What is there for every lab knows none; the second lab is the proof."""
    names = [path.name for path in (ROOT / "labs").iterdir() if (path / "lab.toml").exists()]
    return [
        f"{path}:{number}: names {name}; what all labs share knows none of them"
        for path, source in sources.items()
        if path.split("/")[0] in ("clusters", "commands", "graders", "conftest.py", "gpulab.py")
        for number, line in enumerate(source.splitlines(), 1)
        for name in names
        if name in line
    ]


def test_it_reads_the_project() -> None:
    assert {"clusters/api.py", "clusters/process.py", "graders/plugin.py", "tests/test_layering.py"} <= sources().keys()


def test_clusters_and_graders_never_import_each_other() -> None:
    assert clusters_and_graders_apart(sources()) == []


def test_a_backend_never_imports_another() -> None:
    assert backends_apart(sources()) == []


def test_lab_tests_import_graders_and_two_modules_of_clusters() -> None:
    assert labs_know_graders_and_two_modules(sources()) == []


def test_starters_import_nothing_of_ours() -> None:
    assert starters_import_nothing_of_ours(sources()) == []


def test_graders_import_downwards() -> None:
    assert graders_point_down(sources()) == []


def test_programs_are_started_in_one_place() -> None:
    assert programs_start_in_one_place(sources()) == []


def test_the_harness_names_no_lab() -> None:
    assert no_lab_is_named(sources()) == []


def test_modules_are_small() -> None:
    assert modules_are_small(sources()) == []


def test_modules_have_names_that_tell() -> None:
    assert modules_have_names_that_tell(sources()) == []


@pytest.mark.parametrize(
    ("rule", "path", "source", "said"),
    [
        (
            clusters_and_graders_apart,
            "graders/x.py",
            "import os\nfrom clusters.api import Cluster",
            "graders/x.py:2: graders imports clusters.api.Cluster; they meet in conftest.py",
        ),
        (
            clusters_and_graders_apart,
            "clusters/x.py",
            "def f():\n    importlib.import_module('graders.load')",
            "clusters/x.py:2: clusters imports graders.load; they meet in conftest.py",
        ),
        (
            backends_apart,
            "clusters/kind.py",
            "from clusters import api, k3s",
            "clusters/kind.py:1: the backend kind imports the backend k3s",
        ),
        (
            backends_apart,
            "clusters/embedded/node.py",
            "from ..kind import up",
            "clusters/embedded/node.py:1: the backend embedded imports the backend kind",
        ),
        (
            labs_know_graders_and_two_modules,
            "labs/03_vllm/test_vllm.py",
            "import yaml\nfrom clusters.api import Cluster\nfrom clusters import wait, process",
            "labs/03_vllm/test_vllm.py:3: a lab imports clusters.process; "
            "it may import graders, clusters.api, clusters.wait and libraries",
        ),
        (
            labs_know_graders_and_two_modules,
            "labs/03_vllm/vllm_lab/bench.py",
            "from clusters.helm import Helm\nfrom vllm_lab import sides",
            "labs/03_vllm/vllm_lab/bench.py:1: a lab imports clusters.helm.Helm; "
            "it may import graders, clusters.api, clusters.wait and libraries",
        ),
        (
            starters_import_nothing_of_ours,
            "labs/02_ddp/starter/train.py",
            "import torch\nimport graders",
            "labs/02_ddp/starter/train.py:2: a starter imports graders; it is the learner's and knows nothing of ours",
        ),
        (
            graders_point_down,
            "graders/stats.py",
            "\nfrom graders import errors, report",
            "graders/stats.py:2: stats imports report, which is above it",
        ),
        (
            graders_point_down,
            "graders/new.py",
            "",
            "graders/new.py:1: new has no place among the layers of graders; give it one in this test",
        ),
        (
            programs_start_in_one_place,
            "clusters/helm.py",
            "import os\nos.system('helm')",
            "clusters/helm.py:2: starts programs; clusters does so in clusters/process.py only",
        ),
        (
            no_lab_is_named,
            "graders/x.py",
            "import os\nif lab == '02_ddp':\n    pass",
            "graders/x.py:2: names 02_ddp; what all labs share knows none of them",
        ),
        (
            modules_are_small,
            "graders/big.py",
            "x = 1\n" * 401,
            "graders/big.py:401: 401 lines, 400 at most; split it by verb or by noun",
        ),
        (
            modules_have_names_that_tell,
            "clusters/utils.py",
            "",
            "clusters/utils.py:1: utils tells nothing; name it for what it does",
        ),
    ],
)
def test_a_planted_violation_is_caught(rule: Rule, path: str, source: str, said: str) -> None:
    assert rule({path: source}) == [said]


def test_a_second_module_of_graders_that_starts_programs_is_caught() -> None:
    source = "import asyncio\nasyncio.create_subprocess_exec('ls')"
    assert programs_start_in_one_place({"graders/load.py": source}) == []
    assert programs_start_in_one_place({"graders/load.py": source, "graders/lab.py": "import subprocess"}) == [
        "graders/load.py:2: starts programs; one module of graders may",
        "graders/lab.py:1: starts programs; one module of graders may",
    ]
