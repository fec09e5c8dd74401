"""What the infrastructure broke is tried once more, and nothing else is."""

import pytest

from tests.graders.tiny_lab import FIRST, SECOND, Session

pytest_plugins = ["pytester"]
COUNT = """
seen = []
def once(error):
    seen.append(1)
    if len(seen) == 1:
        raise error
"""


def retries(session: Session) -> list[tuple[str, str]]:
    return [(line["of"], line["said"]) for line in session.facts_of_the_run() if line.get("kind") == "retry"]


def test_a_check_that_the_infrastructure_broke_is_measured_once_more(session: Session) -> None:
    result = session.run(
        COUNT + "def attempt(number):\n    once(ConnectionError('reset by peer'))\n    return GOOD\n"
        "def test_first(check):\n    check.measure(attempt)\n" + SECOND
    )
    assert result.ret == 0
    assert (session.check("first").status, session.check("first").attempts) == ("passed", 2)
    assert retries(session) == [("check first", "reset by peer")]


def test_no_attempt_has_the_number_of_an_earlier_one(session: Session) -> None:
    session.run(
        COUNT + "def attempt(number):\n    check_of_it.record.keep(f'try-{number}', b'')\n"
        "    once(ConnectionError('reset by peer'))\n    return VAGUE if number == 2 else GOOD\n"
        "def test_first(check):\n    global check_of_it\n    check_of_it = check\n    check.measure(attempt)\n" + SECOND
    )
    assert (session.check("first").status, session.check("first").attempts) == ("passed", 3)


@pytest.mark.parametrize("scope", ["function", "module"])
def test_a_fixture_that_the_infrastructure_broke_is_set_up_once_more(session: Session, scope: str) -> None:
    result = session.run(
        COUNT + f"@pytest.fixture(scope='{scope}')\ndef up():\n    once(InfrastructureError('no node'))\n    yield 1\n"
        "def test_first(check, up):\n    assert up == 1\n    check.measure(lambda _: GOOD)\n" + SECOND
    )
    assert result.ret == 0
    assert session.statuses() == ["passed", "passed"]
    assert retries(session) == [("fixture up", "no node")]


@pytest.mark.parametrize("where", ["test", "fixture"])
def test_what_breaks_again_is_an_error(session: Session, where: str) -> None:
    count = "seen = []\ndef broken():\n    seen.append(1)\n    raise InfrastructureError(f'broken {len(seen)} times')\n"
    source = {
        "test": "def test_first(check):\n    broken()\n",
        "fixture": "@pytest.fixture\ndef up():\n    broken()\ndef test_first(check, up):\n    pass\n",
    }[where]
    assert session.run(count + source + SECOND).ret == 3
    first = session.check("first")
    assert (first.status, first.error_class, first.observed) == ("error", "infrastructure", "broken 2 times")
    assert len(retries(session)) == 1


@pytest.mark.parametrize("error", ["SubmissionError('no replicas')", "ZeroDivisionError('by zero')"])
def test_other_faults_are_not_tried_again(session: Session, error: str) -> None:
    session.run(COUNT + f"def test_first(check):\n    once({error})\n    check.measure(lambda _: GOOD)\n" + SECOND)
    assert session.check("first").observed in ("no replicas", "ZeroDivisionError: by zero")
    assert retries(session) == []


def test_a_cluster_that_has_gone_is_not_waited_for(session: Session) -> None:
    def lost() -> None:
        raise ConnectionError("its holder was killed")

    session.alive = lost
    assert session.run("def test_first(check):\n    raise InfrastructureError('no node')\n" + SECOND).ret == 3
    assert session.check("first").observed == "the cluster ended: its holder was killed"
    assert retries(session) == []


def test_a_finding_of_the_broken_try_does_not_count(session: Session) -> None:
    session.run(COUNT + FIRST.rstrip() + "\n    once(InfrastructureError('no scrape'))\n" + SECOND)
    assert (session.check("first").status, session.check("first").attempts) == ("passed", 2)


def test_tests_that_are_no_lab_are_left_alone(session: Session) -> None:
    session.pytester.path.joinpath("labs/01_tiny/lab.toml").unlink()
    result = session.run("def test_first():\n    raise InfrastructureError('no node')\n", ".")
    result.assert_outcomes(failed=1)
