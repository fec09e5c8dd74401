"""What `--export` of pytest and `gpulab grade` leaves when a run has ended."""

import json
from pathlib import Path

from graders.rubric import ClusterFacts
from tests.graders.tiny_lab import FIRST, LAB, SECOND, Session

pytest_plugins = ["pytester"]
BROKEN = """
def test_second(check: Check) -> None:
    raise InfrastructureError("the node is gone")
"""


def test_a_run_is_written_in_each_format_that_was_asked_for(session: Session, tmp_path: Path) -> None:
    session.exports = [("junit", tmp_path / "out/report.xml"), ("markdown", tmp_path / "out/report.md")]
    assert session.run(FIRST + SECOND).ret == 0
    assert 'name="second"' in (tmp_path / "out/report.xml").read_text()
    assert "**100/100 passed**" in (tmp_path / "out/report.md").read_text()


def test_checks_say_how_long_they_took(session: Session) -> None:
    session.run(FIRST + SECOND)
    assert all(check.seconds is not None and 0 <= check.seconds < 60 for check in session.verdict.checks)


def test_what_a_format_cannot_tell_is_said_and_the_verdict_stands(session: Session, tmp_path: Path) -> None:
    session.facts = ClusterFacts("L1", (), {})
    session.exports = [("gradescope", tmp_path / "results.json"), ("ctrf", tmp_path / "ctrf.json")]
    result = session.run(FIRST + BROKEN)
    assert result.ret == 3
    assert session.statuses() == ["passed", "error"]
    result.stdout.fnmatch_lines(
        [
            "not exported: the run ended in an error that is not the learner's (the node is gone); no results.json is "
            "written, which Gradescope shows as a failure of the autograder and not as a score; run it again"
        ]
    )
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == ["ctrf.json"]


def test_what_waits_for_a_hidden_check_does_not_name_it(session: Session, tmp_path: Path) -> None:
    hiding = LAB.replace('title = "The first"', 'title = "A trap"\nhidden = true')
    (session.lab / "lab.toml").write_text(hiding)
    session.exports = [("gradescope", tmp_path / "results.json"), ("markdown", tmp_path / "report.md")]
    session.report = tmp_path / "page.html"
    text = session.run("def test_first(check):\n    check.measure(lambda _: LOW)\n" + SECOND).stdout.str()
    assert session.check("second").observed == "not measured, as another check did not pass"
    first, second = json.loads((tmp_path / "results.json").read_text())["tests"]
    assert (first["name"], first["visibility"], second["visibility"]) == ("A trap", "after_published", "visible")
    assert second["output"] == (
        "skipped: this is not a failure of yours\nobserved: not measured, as another check did not pass"
    )
    assert (tmp_path / "report.md").read_text().count("A trap") == 1
    assert text.count("A trap") == 1
    assert "not measured, as another check did not pass" in (tmp_path / "page.html").read_text()
