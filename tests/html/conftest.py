"""One stored run with a check of every status, and words that try to be markup."""

from pathlib import Path

import msgspec
import pytest

from graders.gpu_telemetry import FORMAT, Gpu, Look
from tests.graders.verdicts import NOON, result
from tests.html.runs import Told, even, load_run, scrapes, store

HOSTILE = "<script>alert(1)</script>]]><img src=x onerror=alert(2)> $x^2$ {{ 7*7 }} \x1b[2J\x00 " + "w" * 3000
NOON_SECONDS = NOON.timestamp()

STREAMS = result(
    "streams",
    "passed",
    10,
    expected="every stream is whole",
    observed="64 of 64 are whole",
    n=64,
    seconds=5.0,
    why="Nothing else counts while answers are broken.",
)
THROUGHPUT = result(
    "throughput",
    "passed",
    20,
    expected="at least 2 times the starter's",
    observed="4 times",
    unit="times",
    n=2,
    interval=(3.5, 4.5),
    confidence=0.95,
    seconds=20.0,
    evidence=tuple(
        f"evidence/throughput-1-{pair}-{side}.jsonl" for pair in (1, 2) for side in ("baseline", "submission")
    ),
)
OBJECTIVE = result(
    "objective",
    "failed",
    20,
    expected="at least 90% with TTFT <= 50 ms",
    observed=HOSTILE,
    hint="Look at the queue.\nLet more sequences run.",
    why="Users do not see averages.",
    error_class="learner",
    bounds={"ttft": 0.05, "tpot": 0.006},
    seconds=12.5,
    evidence=("evidence/objective-1-submission.jsonl.gz", "evidence/objective-1-scrapes.jsonl"),
)
KNEE = result("knee", "skipped", 20, title="Highest load", observed="not measured, as 'Objective' did not pass")
PREFIX = result(
    "prefix", "inconclusive", 10, title="Prefixes", expected="2 times sooner", observed="too noisy", seconds=3.0
)
LOSS = result("loss", "error", 20, observed="the cluster ended", error_class="infrastructure", seconds=1.0)
CHECKS = (STREAMS, THROUGHPUT, OBJECTIVE, KNEE, PREFIX, LOSS)


def evidence() -> dict[str, bytes]:
    """Files of the two checks that have some, one of them compressed."""
    files = {}
    for pair in (1, 2):
        begun = NOON_SECONDS + 10.0 * pair
        slow, quick = even(10, 0.4, ttft=1.5), even(60, 0.06 + 0.01 * pair)
        files[f"throughput-1-{pair}-baseline.jsonl"] = load_run(slow, streams=2, started_at=begun).encode()
        files[f"throughput-1-{pair}-submission.jsonl"] = load_run(quick, streams=2, started_at=begun + 5).encode()
    requests = [Told(0.1 * index, None if index % 9 == 8 else 0.01 + 0.002 * index) for index in range(40)]
    run = load_run(requests, rate=10.0, started_at=NOON_SECONDS + 35)
    files["objective-1-submission.jsonl.gz"] = run.encode()
    files["objective-1-scrapes.jsonl"] = scrapes([(0, 0, 0), (4, 0, 0.5), (4, 3, 1.0), (4, 1, 1.0), (0, 0, 0)]).encode()
    happened = {
        "first": NOON,
        "last": NOON,
        "kind": "Pod",
        "name": "submission-0",
        "reason": HOSTILE,
        "type": "Warning",
    }
    files["cluster/events.jsonl"] = msgspec.json.Encoder().encode_lines([{"format": "gpulab/events/v1"}, happened])
    files["cluster/logs/submission-0/vllm.log"] = HOSTILE.encode()
    files["gpus.jsonl"] = msgspec.json.Encoder().encode_lines([{"format": FORMAT}, *looks()])
    return files


def looks() -> list[Look]:
    """Two nodes with a device each: one that a pod holds, and a real one with a gap and a name that tries things."""
    busy = Gpu(gpu="0", uuid="GPU-a", model="NVIDIA L4", simulated=True, held_by=("lab/submission-0",), utilisation=87)
    idle = Gpu(gpu="0", uuid="GPU-b", model=HOSTILE, utilisation=0, memory_mib=4, watts=17.5)
    told = [Look(at=NOON_SECONDS + at, node="gpu-1", gpus=(busy,)) for at in range(5, 100, 5)]
    told += [Look(at=NOON_SECONDS + at, node="gpu-2", gpus=(idle,)) for at in (5, 50)]
    told.append(Look(at=NOON_SECONDS + 20, node="gpu-2", failure=HOSTILE))
    return sorted(told, key=lambda look: look.at)


def store_whole(folder: Path) -> Path:
    """Writes that run."""
    store(folder, CHECKS, evidence(), events=[(40.0, "a pod is deleted")])
    return folder


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The folder of that run."""
    return store_whole(tmp_path / "results/03_vllm/20260901T120000Z-abcdef")
