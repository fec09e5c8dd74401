"""What a machine had run out of, by the words of its programs."""

from pathlib import Path

import pytest

from clusters.embedded.exhaustion import exhausted

PROCESSES = "the machine allows no more processes (ulimit -u, or pids.max of the control group); allow more"
INSTANCES = (
    "this user has no inotify instances left, of which a node takes five and what is beside the nodes nine; end other "
    "clusters, or allow more: sysctl -w fs.inotify.max_user_instances=1024"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "runtime: failed to create new OS thread (have 8 already; errno=11)",
            f"'failed to create new OS thread': {PROCESSES}",
        ),
        ("RuntimeError: can't start new thread", f'"can\'t start new thread": {PROCESSES}'),
        ("sh: fork: Resource temporarily unavailable", f"'Resource temporarily unavailable': {PROCESSES}"),
        (
            'err="failed complete: fsnotify watcher init: couldn\'t initialize inotify: too many open files"',
            f'"fsnotify watcher init: couldn\'t initialize inotify: too many open files": {INSTANCES}',
        ),
        ("inotify_init: too many open files", f"'inotify_init: too many open files': {INSTANCES}"),
        ("write data/x: no space left on device", "'no space left on device': the disk is full; make room"),
        ("mmap: Cannot allocate memory", "'Cannot allocate memory': there is no memory left; leave it more"),
    ],
)
def test_the_log_that_tells_is_named_with_its_words(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "nodes/b").mkdir(parents=True)
    (tmp_path / "etcd.log").write_text("all is well\n")
    (tmp_path / "nodes/b/kubelet.log").write_text(f"begun\n{text}\nmore\n")
    assert exhausted(tmp_path) == f"nodes/b/kubelet.log says {said}"


def test_logs_that_tell_nothing_and_no_logs(tmp_path: Path) -> None:
    (tmp_path / "etcd.log").write_text("all is well\n")
    assert exhausted(tmp_path) is None
    assert exhausted(tmp_path / "none") is None
