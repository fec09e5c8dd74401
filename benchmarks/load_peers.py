"""Compares our load generator with public ones: events per second per core, added latency, error against the truth.

    python -m benchmarks.load_peers [--rounds 3] [--streams 32 128] [--seconds 15] [--peers guidellm aiperf vllm]

All run the same closed loop, one client after the other, each against a stub server of its own that writes down when it
wrote every token. `peers/figures.py` says how each figure is made. A peer that cannot be installed or started is named
as not measured. Goals: at least 3 times the best peer's events per core, as the median of the rounds, for a machine's
speed differs by a tenth from one run to the next; and the smallest errors of all.
"""

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.peers import runs
from benchmarks.peers.clients import OURS, PEERS, Client
from benchmarks.peers.figures import Figures, Load, judge
from benchmarks.peers.runs import NotMeasured
from benchmarks.peers.table import Found, goals, over_rounds, rows
from clusters import places
from clusters.api import Progress
from clusters.progress import Display
from graders.machine import describe_machine


def compare(client: Client, load: Load, env: Mapping[str, str], progress: Progress) -> Figures | str:
    """The figures of a client, or why there are none."""
    try:
        programs = runs.find(client, places.cache(env), env, progress)
        return judge(runs.measure(client, programs, load, env, progress))
    except NotMeasured as error:
        return str(error)


def show(clients: Sequence[Client], load: Load) -> Found:
    """Measures them under one load, one round, and prints the table and the goals."""
    with Display(sys.stderr) as display:
        found = {client.name: compare(client, load, os.environ, display) for client in clients}
    print(
        f"\n{load.streams} streams, {load.requests} requests of {load.tokens} tokens in about {load.seconds:.0f} s; "
        f"the stub's TTFT is {1000 * load.ttft:g} ms, its TPOT {1000 * load.tpot:g} ms"
    )
    print("\n".join([*rows(found, load), *goals(found, OURS.name)]), flush=True)
    return found


def main() -> int:
    """Prints a table for each load and round; exit status 1 when ours was not measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a load")
    parser.add_argument("--tokens", type=int, default=128, help="per answer")
    parser.add_argument("--ttft", type=float, default=0.05, help="of the stub, in seconds")
    parser.add_argument("--tpot", type=float, default=0.01, help="of the stub, in seconds")
    parser.add_argument("--peers", nargs="*", help="parts of names; all by default")
    options = parser.parse_args()
    machine = describe_machine()
    print(f"{machine.cpu_model}, {machine.cores} cores, Linux {machine.kernel}, Python {machine.python}")
    print(f"load average before: {os.getloadavg()[0]:.1f}; what else ran took from all clients alike, at best")
    peers = [each for each in PEERS if options.peers is None or any(part in each.name for part in options.peers)]
    whole = True
    for streams in options.streams:
        one = Load(streams, 1, options.tokens, options.ttft, options.tpot)
        load = replace(one, rounds=max(3, math.ceil(options.seconds / one.request_seconds)))
        rounds = [show([OURS, *peers], load) for _ in range(options.rounds)]
        print("\n".join(["", *over_rounds(rounds, OURS.name)]), flush=True)
        whole = whole and all(isinstance(found[OURS.name], Figures) for found in rounds)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
