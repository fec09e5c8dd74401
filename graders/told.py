"""What is told of a run and of its checks, in the same words by the scorecard and by every export.

Place: `report` and `exports` read it, commands print by it. Limits: text only; what a format must not hold is escaped
there.
"""

import re

from graders.rubric import CheckResult, Verdict, lacking

_COMMAND = re.compile(r"^((?:[^\S\n]|\x1b\[[0-9;]*m)*):(?=:)|#(?=#\[)", re.MULTILINE)
_FAULTS = {"infrastructure": "of the lab's infrastructure, not yours", "harness": "of the grader, not yours"}


def told(check: CheckResult) -> list[tuple[str, str]]:
    """Pairs of what it is and the words, in order; only those that there are words for."""
    pairs = (
        ("expected", check.expected),
        ("observed", _observed(check)),
        ("fault", _FAULTS.get(check.error_class or "") if check.status == "error" else None),
        ("why", check.why if check.status in ("failed", "inconclusive") else None),
        ("hint", check.hint),
    )
    return [(name, plain(text)) for name, text in pairs if text]


def text_of(check: CheckResult) -> str:
    """All that is told of a check, a line each."""
    return "\n".join(f"{name}: {text}" for name, text in told(check))


def text_for_learners(check: CheckResult) -> str:
    """As `text_of`, for files that learners can read: nothing of a hidden check."""
    return "" if check.hidden else text_of(check)


def _observed(check: CheckResult) -> str | None:
    """What was observed, with how sure it is: samples, interval, and tries when there was more than one."""
    facts = []
    if check.n is not None:
        facts.append(f"n = {check.n}")
    if check.interval is not None:
        low, high = check.interval
        sure = f"{check.confidence:.0%} interval" if check.confidence is not None else "interval"
        facts.append(f"{sure} {low:.4g} to {high:.4g}{f' {check.unit}' if check.unit else ''}")
    if check.attempts > 1:
        facts.append(f"measured {check.attempts} times")
    return f"{check.observed} ({'; '.join(facts)})" if check.observed and facts else check.observed


def score(verdict: Verdict) -> str:
    """The points of a run and its status, without which check nothing is earned, and what lateness leaves of them."""
    told = "; ".join(filter(None, (f"{verdict.points}/{verdict.max_points} {verdict.status}", why_nothing(verdict))))
    if verdict.late is None or not verdict.late.days:
        return told
    days = f"{verdict.late.days} day{'s' if verdict.late.days > 1 else ''}"
    return f"{told}; {days} late takes {verdict.late.percent:g}% and leaves {verdict.final_points:g}"


def why_nothing(verdict: Verdict) -> str | None:
    """Without which essential check a run earns nothing; None where it does, or ended in an error."""
    essential = None if verdict.status == "error" else lacking(verdict.checks)
    if essential is None:
        return None
    return f"nothing is earned without {'another check' if essential.hidden else repr(essential.title)}"


def why_error(verdict: Verdict) -> str:
    """What a run that is an error died of, as far as it is known."""
    checks = (each.observed for each in verdict.checks if each.status == "error")
    return printed(verdict.reason or next(checks, None) or "no reason is known")


def final(verdict: Verdict) -> float:
    """The points that count: what lateness leaves, or all."""
    return verdict.points if verdict.final_points is None else verdict.final_points


def where_graded(verdict: Verdict) -> str:
    """The level of the cluster and what on it is simulated."""
    if verdict.level is None or verdict.simulated is None:
        return "no cluster was seen, so what is simulated is not known"
    return f"level {verdict.level}; simulated: {', '.join(verdict.simulated) or 'nothing'}"


def whose(verdict: Verdict) -> str | None:
    """Whose run it is, and with which numbers where they are not everybody's."""
    if verdict.student is None:
        return None
    drawn = ", ".join(f"{name} = {number:g}" for name, number in verdict.numbers.items())
    attempt = f", attempt {verdict.attempt}" if verdict.attempt else ""
    return f"student {verdict.student}{attempt}" + (f"; numbers: {drawn}" if drawn else "")


def plain(text: str) -> str:
    """Text without control characters, which would steer a terminal and which XML forbids."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def printed(text: str) -> str:
    """As `plain`, for what is printed: no line of it is a command to GitHub Actions either."""
    return without_commands(plain(text))


def without_commands(text: str) -> str:
    """Text as wide as it was, no line of which begins with "::", after blanks or colours, or holds "##["."""
    return _COMMAND.sub(lambda found: f"{found[1] or ''}\N{REPLACEMENT CHARACTER}", text)
