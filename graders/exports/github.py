"""What GitHub Actions shows of a run beside its step summary, which is the Markdown: annotations as workflow commands.

Place: `formats` lists it; it belongs on standard output. Limits: of more than 10 annotations of a kind GitHub shows
the first 10; of a hidden check nothing is told but status and points.
"""

from graders.rubric import Status, Verdict
from graders.told import plain, text_for_learners

_LEVEL: dict[Status, str] = {"failed": "error", "error": "error", "inconclusive": "warning", "skipped": "notice"}


def annotations(verdict: Verdict) -> str:
    """A workflow command for each check that did not pass, and one for a run that broke; empty for full marks."""
    lines = [
        f"::{_LEVEL[check.status]} title={_property(f'{check.title}: {check.points}/{check.max_points}')}::"
        f"{_message(text_for_learners(check) or check.status)}"
        for check in verdict.checks
        if check.status != "passed"
    ]
    if verdict.reason:
        lines.append(f"::error title={_property(verdict.title)}::{_message(verdict.reason)}")
    return "".join(f"{line}\n" for line in lines)


def _message(text: str) -> str:
    """Escaped as actions/toolkit does, so that no text can be a command of its own."""
    return plain(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
