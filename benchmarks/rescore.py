"""How long does it take to judge a course again? Many stored runs of 03_vllm, multiplied from real ones, on one core.

    python -m benchmarks.rescore RUN... [--runs 1000]

Place: by hand, with a few runs that `gpulab grade 03_vllm` left in results/. Each copy has a folder, a manifest, facts
and a verdict of its own; other evidence is linked. All of it is read and held against its sum, but from the system's
cache: where runs come from a disk, 11 MB each, its time is added. The lab asks for something else than the runs were
graded by, so that each is told with what changes. Exit status 1 when it takes more time or memory.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from commands.places import LABS, ROOT
from graders.record import MANIFEST
from graders.rescore import READ, read_run
from graders.stored import runs_among

MOST_SECONDS = 60.0
MOST_GROWTH = 8 * 1024
"""KiB that its peak may be above that of a tenth of the runs."""
OTHERWISE = {
    "throughput_ratio = 2.0": "throughput_ratio = 1.9",
    "slo_share = 0.9 ": "slo_share = 0.85 ",
    "loss_share = 0.8 ": "loss_share = 0.99 ",
}
"""What the lab asks for now: other words in some checks, another verdict in the last, and none that skips others."""


def multiply(runs: Sequence[Path], count: int, folder: Path) -> None:
    """Makes so many runs of these."""
    for number, run in zip(range(count), itertools.cycle(runs), strict=False):
        copy = folder / f"{run.name}-{number:04}"
        for path in run.rglob("*"):
            target = copy / path.relative_to(run)
            if path.is_dir():
                target.mkdir(parents=True)
            elif path.relative_to(run).as_posix() in (*READ, MANIFEST):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(path)


def harder(folder: Path) -> Path:
    """The lab with other thresholds."""
    lab = folder / "lab" / "03_vllm"
    shutil.copytree(LABS / "03_vllm", lab, ignore=shutil.ignore_patterns("__pycache__"))
    text = (lab / "lab.toml").read_text()
    for was, now in OTHERWISE.items():
        if was not in text:
            raise SystemExit(f"lab.toml does not say {was!r} any more; name another threshold in this benchmark")
        text = text.replace(was, now)
    (lab / "lab.toml").write_text(text)
    return lab


def measure(results: Path, lab: Path) -> tuple[float, float, int, str]:
    """Seconds, those that it computed, peak memory in KiB, and the last line of `gpulab rescore`, on one core."""
    core = {min(os.sched_getaffinity(0))}
    argv = [sys.executable, "-m", "gpulab", "rescore", str(results), f"--lab-from={lab}"]
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(argv, cwd=ROOT, stdout=said, preexec_fn=lambda: os.sched_setaffinity(0, core))
        _, status, used = os.wait4(child.pid, 0)
        took = time.monotonic() - begun
        said.seek(0)
        last = said.read().splitlines()[-1]
    if status:
        raise SystemExit(f"gpulab rescore ended with {os.waitstatus_to_exitcode(status)}: {last}")
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss, last


def main() -> int:
    """Prints seconds and memory, each with its goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="+", type=Path, help="stored runs of 03_vllm, as in results/03_vllm/")
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    runs = runs_among(options.run)
    sizes = [f"{(run / READ[0]).stat().st_size / 1e3:.0f}" for run in runs if read_run(run)]
    beside = runs[0].resolve().parent  # where the evidence can be linked
    with tempfile.TemporaryDirectory(prefix="rescore-", dir=beside) as name:
        few, many, lab = Path(name) / "few", Path(name) / "many", harder(Path(name))
        multiply(runs, options.runs // 10, few)
        multiply(runs, options.runs, many)
        _, _, little, _ = measure(few, lab)
        seconds, busy, peak, last = measure(many, lab)
    print(f"{last}; multiplied from {len(runs)} with {', '.join(sizes)} KB of facts")
    print(f"{seconds:.1f} s on one core [{MOST_SECONDS:.0f}], of which it computed for {busy:.1f}")
    print(
        f"peak memory {peak / 1024:.0f} MiB, with a tenth of the runs {little / 1024:.0f} "
        f"[{MOST_GROWTH / 1024:.0f} more at most]"
    )
    return 1 if seconds > MOST_SECONDS or peak > little + MOST_GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
