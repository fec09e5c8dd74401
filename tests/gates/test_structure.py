"""The structural gate: it holds for every lab, and names what is planted in a lab's code, lab.toml or cluster."""

import pytest

from commands.authors import structural_gates
from commands.places import LABS, PROOFS
from graders.gates.proof import read_proof
from graders.lab import Lab, known_labs
from tests.gates.small_lab import SmallLab

TOML, CLUSTER = "labs/50_small/lab.toml", "labs/50_small/cluster.yaml"
TEST, FACTS = "labs/50_small/test_small.py", "labs/50_small/small_lab/facts.py"
UNREADY = """unready = [
  "The server runs, but Kubernetes does not believe it. Whom does it ask, and for what?",
  "A probe passes on an HTTP status from 200 to 399.",
  "readiness: {path: /}",
]
"""


@pytest.mark.parametrize("name", known_labs(LABS))
def test_every_lab_holds(name: str) -> None:
    proof = read_proof(Lab.find(LABS, name), PROOFS)

    assert [mistake for gate in structural_gates(proof) for mistake in gate.mistakes] == []


def test_a_new_lab_holds(small: SmallLab) -> None:
    assert [(gate.name, gate.seen, gate.mistakes) for gate in small.gates()] == [
        ("checks", "2 checks, each with a test and a sentence of why", ()),
        ("hints", "6 hints, each for something that a check can observe", ()),
        ("thresholds", "3 thresholds at L1", ()),
        ("cluster", "1 node with 0 GPUs, enough for the lab", ()),
        ("submissions", "5 submissions, of values.yaml each, no two the same", ()),
        ("proof", "2 faults, at least one for each check, and 1 cheat", ()),
        ("README", "3 numbers and the points of 2 checks, as lab.toml has them", ()),
    ]


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
]


@pytest.mark.parametrize(("gate", "file", "before", "after", "said"), PLANTED)
def test_a_planted_mistake_is_told(
    small: SmallLab, gate: str, file: str, before: str, after: str, said: list[str]
) -> None:
    small.change(file, before, after)

    assert small.mistakes().get(gate, ()) == tuple(said)


def test_a_lab_without_hints_tells_learners_nothing(small: SmallLab) -> None:
    text = (small.root / TOML).read_text()
    head, _, rest = text.partition("# A hint for each")
    middle, thresholds = rest[rest.index("[[checks]]") :].split("[checks.hints]")
    (small.root / TOML).write_text(head + middle + thresholds[thresholds.index("[thresholds.L1]") :])

    assert small.mistakes()["hints"] == (
        "the check 'resources_within_budget' has no hints; say in [checks.hints] what to look at when it fails",
        "the code of the check 'resources_within_budget' gives the hint 'not_yours', which lab.toml does not have; "
        "add it there",
        "the code of the check 'resources_within_budget' gives the hint 'too_much', which lab.toml does not have; "
        "add it there",
        "the check 'replicas_are_ready' has no hints; say in [checks.hints] what to look at when it fails",
        "the code of the check 'replicas_are_ready' gives the hint 'few', which lab.toml does not have; add it there",
    )


def test_a_lab_without_thresholds_measures_nothing(small: SmallLab) -> None:
    small.change(TOML, "[thresholds.L1]\nbudget_replicas = 3\nready_replicas = 2\nready_seconds = 60.0\n", "")

    assert small.mistakes()["thresholds"] == (
        "50_small is graded at L1, where lab.toml has no thresholds; add [thresholds.L1]",
        "the code asks for the threshold 'budget_replicas', which lab.toml has at no level; add it",
        "the code asks for the threshold 'ready_replicas', which lab.toml has at no level; add it",
        "the code asks for the threshold 'ready_seconds', which lab.toml has at no level; add it",
    )


def test_a_lab_without_a_level_is_graded_nowhere(small: SmallLab) -> None:
    small.change(TOML, 'levels = ["L1"]', "levels = []")

    assert small.mistakes()["thresholds"] == (
        '50_small is graded at no level; name one in lab.toml, as in levels = ["L1"]',
    )


def test_a_lab_without_a_test_file_grades_nothing(small: SmallLab) -> None:
    (small.folder / "test_small.py").unlink()

    assert small.mistakes()["checks"] == (
        "labs/50_small holds 0 files named test_*.py, so nothing to grade by; keep exactly one",
    )


def test_hints_of_a_judge_are_found_where_a_table_lists_it(small: SmallLab) -> None:
    small.change(FACTS, 'else facts.kind or "few"', 'else "slow" if facts.seconds else facts.kind or "few"')

    assert small.mistakes()["hints"] == (
        "the code of the check 'replicas_are_ready' gives the hint 'slow', which lab.toml does not have; add it there",
    )
