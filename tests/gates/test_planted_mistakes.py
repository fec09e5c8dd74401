"""Mistakes planted in a new lab or in what proves it: the gate that must see each tells it, word for word."""

import pytest

from tests.gates.small_lab import CHEATS, CLUSTER, FACTS, FAULTS, TEST, TOML, SmallLab

UNREADY = """unready = [
  "The server runs, but Kubernetes does not believe it. Whom does it ask, and for what?",
  "A probe passes on an HTTP status from 200 to 399.",
  "readiness: {path: /}",
]
"""
PLANTED: list[tuple[str, str, str, str, list[str]]] = [
    (
        "checks",
        TEST,
        "def test_replicas_are_ready",
        "def test_replicas_ready",
        [
            "the check 'replicas_are_ready' has no test; write test_replicas_are_ready in test_small.py",
            "test_replicas_ready in test_small.py is for no check of lab.toml; list the check there, or call the "
            "function otherwise",
        ],
    ),
    (
        "checks",
        TEST,
        '    """A server that is alone is away while a new one starts."""\n',
        "",
        [
            "test_replicas_are_ready in test_small.py has no docstring; say in a sentence why the check matters",
        ],
    ),
    (
        "checks",
        TEST,
        "CHART =",
        "CHART = =",
        [
            "labs/50_small/test_small.py is not Python: invalid syntax (test_small.py, line 18); correct it",
        ],
    ),
    (
        "hints",
        FACTS,
        'else facts.kind or "few"',
        'else facts.kind or "none_left"',
        [
            "the code of the check 'replicas_are_ready' gives the hint 'none_left', which lab.toml does not "
            "have; add it there",
            "nothing in the lab's code can give the hint 'few' of the check 'replicas_are_ready'; take it out",
        ],
    ),
    (
        "hints",
        TOML,
        UNREADY,
        "",
        [],
    ),
    (
        "hints",
        TOML,
        "few = [",
        'not_yours = ["It is not yours."]\nfew = [',
        [],
    ),
    (
        "hints",
        TOML,
        "It serves. What happens when its machine is lost?",
        "The container starts and ends again. What are its last words?",
        [
            "2 hints of the check 'replicas_are_ready' begin with 'The container starts and ends again. What are "
            "its last words?', so nobody can tell which was shown",
        ],
    ),
    (
        "thresholds",
        TOML,
        "ready_replicas = 2\n",
        "",
        [
            "the code asks for the threshold 'ready_replicas', which lab.toml has at no level; add it",
        ],
    ),
    (
        "thresholds",
        TOML,
        "ready_replicas = 2\n",
        "ready_replicas = 2\nready_share = 0.9\n",
        [
            "nothing in the lab's code asks for the threshold 'ready_share'; take it out of lab.toml",
        ],
    ),
    (
        "thresholds",
        TOML,
        'levels = ["L1"]',
        'levels = ["L1", "L3"]',
        [
            "50_small is graded at L3, where lab.toml has no thresholds; add [thresholds.L3]",
        ],
    ),
    (
        "cluster",
        TOML,
        "nodes = 1",
        "nodes = 3\ngpus = 2",
        [
            "cluster.yaml of 50_small describes 1 node, and lab.toml needs 3; let them agree",
            "cluster.yaml of 50_small describes 0 GPUs, and lab.toml needs 2; let them agree",
        ],
    ),
    (
        "cluster",
        CLUSTER,
        "name: node-1",
        "title: node-1",
        [
            "the cluster's description labs/50_small/cluster.yaml is wrong: Object contains unknown field "
            "`title` - at `$.nodes[0]`; correct it",
        ],
    ),
    (
        "submissions",
        FAULTS,
        'new = "replicaCount: 9"',
        'new = "replicaCount: 2"',
        [
            "the fault too_many_replicas is the same as the reference, so it proves nothing; change it",
        ],
    ),
    (
        "proof",
        FAULTS,
        'check = "replicas_are_ready"',
        'check = "resources_within_budget"',
        [
            "the fault probe_on_the_wrong_path expects the hint 'unready', which 'resources_within_budget' "
            "lacks; correct its table",
            "no fault fails the check 'replicas_are_ready', so nothing proves that it can fail; plant one that "
            "it must name",
        ],
    ),
    (
        "proof",
        FAULTS,
        'check = "replicas_are_ready"',
        'check = "replicas_are_ready"\nalso = ["speed"]',
        [
            "the fault probe_on_the_wrong_path names 'speed', which is no check of lab.toml; correct its table",
        ],
    ),
    (
        "proof",
        FAULTS,
        'hint = "unready"',
        'hints = "unready"',
        [
            "the table [probe_on_the_wrong_path] in tests/faults/50_small/expected.toml is wrong: Object "
            "contains unknown field `hints`; correct it",
            "no fault fails the check 'replicas_are_ready', so nothing proves that it can fail; plant one that "
            "it must name",
        ],
    ),
    (
        "proof",
        CHEATS,
        "[another_server]",
        "[other_server]",
        [
            "the cheat 'another_server' is in tests/cheats/50_small and not in its expected.toml; add a table "
            "[another_server]",
            "the cheat 'other_server' is in tests/cheats/50_small/expected.toml and has neither edits nor a folder "
            "beside it; say what it changes, or put its files there",
        ],
    ),
    (
        "proof",
        FAULTS,
        "[too_many_replicas]",
        '["nine/replicas"]',
        [
            "the fault 'nine/replicas' in tests/faults/50_small/expected.toml has no name for a folder; give it one, "
            "as in four_workers",
            "no fault fails the check 'resources_within_budget', so nothing proves that it can fail; plant one "
            "that it must name",
        ],
    ),
    (
        "proof",
        FAULTS,
        'hint = "unready"',
        "hint",
        [
            "tests/faults/50_small/expected.toml is not TOML: Expected '=' after a key in a key/value pair (at "
            "line 12, column 7); correct it",
        ],
    ),
    (
        "proof",
        CHEATS,
        'words = "image.repository is not yours to set"',
        'words = ""',
        [
            "the cheat another_server expects no words, so any refusal would do; write how the check's observed begins",
        ],
    ),
]


@pytest.mark.parametrize(("gate", "file", "before", "after", "said"), PLANTED)
def test_a_planted_mistake_is_told(
    small: SmallLab, gate: str, file: str, before: str, after: str, said: list[str]
) -> None:
    small.change(file, before, after)

    assert small.mistakes().get(gate, ()) == tuple(said)
