"""Our load generator as a command like the peers': one closed loop, and a file with what it says of each request.

    python -m benchmarks.peers.ours PORT STREAMS ROUNDS TOKENS SECONDS OUT

Place: `clients` runs it. SECONDS is how long the rounds take by the server's timing. Limits: TTFT counts from sending,
as the peers' does; a scorecard's counts from the planned time.
"""

import sys
from pathlib import Path

import msgspec

from benchmarks.peers.reports import Report
from graders import arrivals, load, workload
from graders.plan import Plan, Target
from graders.samples import Run

SEED = 1


def plan(port: int, streams: int, rounds: int, tokens: int, seconds: float) -> Plan:
    """As many requests as the peers send; each stream's are used up when the window ends."""
    requests = workload.completions(
        seed=SEED,
        count=streams * rounds,
        ids=range(100, 8000),
        prompt_tokens=32,
        output_tokens=tokens,
        model="stub",
    )
    target = Target(host="127.0.0.1", port=port)
    return Plan(target=target, requests=requests, schedule=arrivals.closed(streams), window=seconds, seed=SEED)


def reports(run: Run) -> list[Report]:
    """What it says of each success."""
    return [
        Report(f"{SEED}-{each.sample.index}", each.ttft_from_sent, each.tpot, each.stream.tokens or 0)
        for each in run.answers
        if each.good
    ]


def main() -> None:
    """Runs it, reads the answers and writes the file."""
    port, streams, rounds, tokens = map(int, sys.argv[1:5])
    out = Path(sys.argv[6])
    run = load.run(plan(port, streams, rounds, tokens, float(sys.argv[5])), folder=out.parent, progress=lambda _: None)
    out.write_bytes(msgspec.json.encode(reports(run)))


if __name__ == "__main__":
    main()
