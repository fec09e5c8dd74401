"""What a container has used, from files that stand in for the kernel's."""

from pathlib import Path

from clusters.embedded.runtime import usage
from clusters.embedded.runtime.usage import Traffic, Usage

NET_DEV = """Inter-|   Receive                              |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
vethab: 1 2 3 4 9 9 9 9 5 6 7 8 9 9 9 9
"""


def written(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_files_of_v1(tmp_path: Path) -> None:
    stat = "cache 5\ntotal_rss 40\ntotal_inactive_file 30\ntotal_pgfault 8\ntotal_pgmajfault 2\n"
    folders = {
        "memory": written(tmp_path / "m", {"memory.stat": stat, "memory.usage_in_bytes": "100\n"}),
        "cpu": written(tmp_path / "c", {"cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 12345\n"}),
        "cpuacct": written(tmp_path / "a", {"cpuacct.usage": "987654321\n"}),
        "pids": written(tmp_path / "p", {"pids.current": "3\n"}),
    }
    assert usage.cgroup(folders, "cgroup-v1") == Usage(987654321, 100, 70, 40, 8, 2, 3, (10, 4, 12345))


def test_files_of_v2(tmp_path: Path) -> None:
    files = {
        "memory.stat": "anon 40\nfile 50\ninactive_file 130\npgfault 8\npgmajfault 2\n",
        "memory.current": "100\n",
        "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 10\nnr_throttled 4\nthrottled_usec 12\n",
        "pids.current": "3\n",
    }
    folders = dict.fromkeys(("memory", "cpu", "pids"), written(tmp_path, files))
    assert usage.cgroup(folders, "cgroup-v2") == Usage(5000, 100, 0, 40, 8, 2, 3, (10, 4, 12000))


def test_files_of_proc(tmp_path: Path) -> None:
    stat = "7 (a) b) S 1 7 7 0 -1 0 10 20 3 4 100 50 30 20 20 0 1 0 5 0 0\n"
    process = written(tmp_path / "proc/7", {"stat": stat, "statm": "900 10 4 1 0 5 0\n"})
    (tmp_path / "proc/meminfo").touch()
    (tmp_path / "proc/8").mkdir()  # has ended
    assert usage.listed(tmp_path / "nowhere") == []
    found = usage.tree(sorted(usage.listed(tmp_path)), files=1000)
    assert process in usage.listed(tmp_path)
    assert found == Usage(2_000_000_000, 10 * 4096 + 1000, 10 * 4096 + 1000, 6 * 4096, 37, 7, 1)


def test_the_nodes_end_of_a_device_counts_the_pods_the_other_way_round() -> None:
    found = usage.traffic(NET_DEV)
    assert found["vethab"] == Traffic(1, 2, 3, 4, 5, 6, 7, 8)
    assert found["vethab"].other_side() == Traffic(5, 6, 7, 8, 1, 2, 3, 4)
    assert set(found) == {"lo", "vethab"}
