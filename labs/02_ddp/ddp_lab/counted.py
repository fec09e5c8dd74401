"""What the kernel counted in a pod: bytes sent, processor seconds, and how many tasks were ever started.

Place: `trainers` runs the program below in a pod's container, `scaling` compares what it said at two times. Limits:
what an ended child used that nobody waited for is in no count of processor time, so tasks that came and went are
counted: by their ids, which the kernel gives one after the other in a container's PID namespace. A kernel that does not
tell the newest id (gVisor) tells of none.
"""

import msgspec

FEWEST_SECONDS = 1.0
"""Between two counts that say what went on meanwhile: each count takes a tenth of a second of a core."""

_COUNT = """
import glob, json, os, sys, time
def count():
    newest = int(open("/proc/loadavg").read().split()[4])
    rows = [line.split() for line in open("/proc/net/dev") if line.strip().startswith("eth0:")]
    ticks = 0
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = open(path).read().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
    tasks = [int(path.rpartition("/")[2]) for path in glob.glob("/proc/[0-9]*/task/[0-9]*")]
    ids = int(open("/proc/sys/kernel/pid_max").read())
    cpu, at = ticks / os.sysconf("SC_CLK_TCK"), time.monotonic()
    found = {"at": at, "sent": int(rows[0][9]), "cpu": cpu, "newest": newest, "ids": ids, "tasks": tasks}
    print(json.dumps(found), flush=True)
"""
ONCE = f"{_COUNT}count()"
TWICE = f"{_COUNT}count()\nsys.stdin.readline()\ncount()"
"""The second time when it is told a line. Between the two nothing has to enter the container, which takes tasks."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel counted in a pod so far.

    Attributes:
        at: when, in monotonic seconds of its node.
        sent: bytes on its network device.
        cpu: processor seconds of its processes, and of children that they waited for.
        newest: id of the task, a process or a thread, that was started last.
        ids: how many ids there are; the kernel begins again after them.
        tasks: ids of those that are there.
    """

    at: float
    sent: int
    cpu: float
    newest: int
    ids: int
    tasks: tuple[int, ...]

    def since(self, earlier: "Counted") -> "Meanwhile | None":
        """What went on since then; None where counting itself took most of the time."""
        seconds = self.at - earlier.at
        if seconds <= FEWEST_SECONDS:
            return None
        return Meanwhile(
            cores=(self.cpu - earlier.cpu) / seconds,
            sent=(self.sent - earlier.sent) / seconds,
            ended=self.ended(earlier),
        )

    def ended(self, earlier: "Counted") -> int:
        """Tasks that were started since then and are gone, those included that entered the container meanwhile."""
        started = (self.newest - earlier.newest) % self.ids
        there = {task for task in self.tasks if 0 < (task - earlier.newest) % self.ids <= started}
        return started - len(there)


class Meanwhile(msgspec.Struct, frozen=True, kw_only=True):
    """Between two counts of a pod: `cores` used on average, bytes `sent` a second, tasks that came and `ended`."""

    cores: float
    sent: float
    ended: int
