"""What the grader prints of what others wrote: it steers no terminal, and no line is a command to GitHub Actions."""

import re
from pathlib import Path

import msgspec
import pytest

import gpulab
from commands.repeat import tell
from graders.exports.formats import export
from graders.report import render_scorecard
from graders.told import printed, why_error
from tests.graders.judged_lab import JUDGES, THRESHOLDS, change, measured
from tests.graders.tiny_lab import SECOND, Session
from tests.graders.verdicts import result, verdict_on

pytest_plugins = ["pytester"]

HOSTILE = "a log:\n::add-mask::passed\n \t::error title=x::y\n\x1b[2J\rz ##[add-mask]passed"
PLACE = Path("results/03_vllm/20260901T120000Z-a1b2c3/verdict.json")


def commands(text: str) -> list[str]:
    """Lines that a runner of GitHub's takes for commands, as ActionCommand.cs of actions/runner reads them."""
    return [line for line in re.split(r"\r\n?|\n", text) if line.lstrip().startswith("::") or "##[" in line]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            HOSTILE,
            "a log:\n\ufffd:add-mask::passed\n \ufffd::error title=x::y\n\ufffd[2J\ufffdz \ufffd#[add-mask]passed",
        ),
        ("  ::stop-commands::x", "  \ufffd:stop-commands::x"),
        ("\x1b[1m::x::", "\ufffd[1m::x::"),
        (":::x::", "\ufffd::x::"),
        ("###[x]", "#\ufffd#[x]"),
        ("it listens on ::1, says # [1]", "it listens on ::1, says # [1]"),
    ],
)
def test_what_is_printed_is_no_command(text: str, said: str) -> None:
    assert printed(text) == said
    assert commands(said) == []


@pytest.mark.parametrize(
    "raised",
    ["SubmissionError({!r})", "InfrastructureError({!r})", "ValueError({!r})", "pytest.skip.Exception({!r})"],
)
@pytest.mark.parametrize("where", ["test", "teardown"])
@pytest.mark.parametrize("color", ["no", "yes"])
def test_no_line_of_a_grading_steers_a_terminal_or_is_a_command(
    session: Session, raised: str, where: str, color: str
) -> None:
    error = raised.format(HOSTILE)
    source = {
        "test": f"def test_first(check):\n    raise {error}\n",
        "teardown": f"@pytest.fixture\ndef up():\n    yield\n    raise {error}\n"
        "def test_first(check, up):\n    check.measure(lambda _: GOOD)\n",
    }[where]
    text = session.run(source + SECOND, f"--color={color}").stdout.str()
    assert "add-mask" in text
    assert commands(text) == []
    assert ("\x1b[2J" in text, "\rz" in text) == (False, False)


def test_a_finding_is_printed_as_harmless_as_an_error(session: Session) -> None:
    found = f"Finding(expected='', observed={HOSTILE!r}, verdict='failed', hint='low')"
    text = session.run(f"def test_first(check):\n    check.measure(lambda _: {found})\n" + SECOND).stdout.str()
    assert f"\nfailed: {printed(HOSTILE)}\n" in text
    assert commands(text) == []


@pytest.mark.parametrize("color", [False, True])
def test_a_scorecards_lines_are_no_commands_wherever_they_break(*, color: bool) -> None:
    for length in range(60, 80):
        hostile = result("trap", "failed", 10, title="::error::x", observed=f"{'x' * length} ::add-mask::{'::' * 90}")
        verdict = verdict_on((hostile,), status="error", reason=f"{HOSTILE} {'y' * length}::warning::x")
        text = render_scorecard(verdict, PLACE, color=color)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert (commands(text), commands(plain)) == ([], [])
        assert max(map(len, plain.splitlines())) <= 80


def test_lines_on_a_repeated_grading_on_an_audit_and_on_an_export_are_no_commands() -> None:
    trap = result("trap", "error", 10, observed=HOSTILE)
    assert tell(verdict_on((trap,)))[1] == f"    error: trap: {printed(HOSTILE)}"
    forged = result("::error::x\x1b[2J", "failed", 10, observed=HOSTILE, attempts=2)
    assert commands("\n".join(tell(verdict_on((forged,))))) == []
    assert "\x1b" not in "".join(tell(verdict_on((forged,))))
    assert commands(why_error(verdict_on((trap,)))) == []
    with pytest.raises(Exception, match=r"no results\.json is written") as caught:
        export("gradescope", [("run", msgspec.structs.replace(verdict_on((trap,)), reason=HOSTILE))])
    assert commands(str(caught.value)) == []


def test_a_run_that_is_judged_again_is_printed_so_too(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    said = 'observed=f"{goal:g}\\n::add-mask::x"'
    judges = JUDGES.replace('observed=f"{facts.ratio:g}"', said)
    run = measured(session, "1.0", judges=judges)
    change(session, judges=judges, thresholds=THRESHOLDS.replace("ratio = 2", "ratio = 4"))
    capsys.readouterr()
    assert gpulab.main(["rescore", str(run), "--lab-from", str(session.lab)]) == 0
    text = capsys.readouterr().out
    assert "    observed: 4\n\ufffd:add-mask::x\n" in text
    assert commands(text) == []
