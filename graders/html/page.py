"""The page: everything that is known of a run, put into the template.

Place: `gpulab report` and the plugin write a report by `write`. Limits: the page holds no script and loads nothing; all
text is data, escaped by the template, without control characters and no longer than a page can hold.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from graders.errors import GraderError
from graders.html import evidence, figures, gpus, telemetry
from graders.html.evidence import Evidence
from graders.html.loads import Load, groups, quantile
from graders.html.plots import DASHES, Panel, Plot
from graders.html.timeline import timeline
from graders.next_steps import (
    HERE,
    Step,
    kept_steps,
    live_steps,
    next_steps,
    root_causes,
    seen_from,
    waiting_for,
)
from graders.process import ROOT
from graders.record import write_whole
from graders.rubric import CheckResult, Verdict
from graders.told import plain, score, told, where_graded, whose, why_nothing

MOST_LETTERS = 1200
"""Longer texts are cut: they are whole in verdict.json."""
MOST_BYTES = 1_500_000
"""Plots are drawn until a page has so much of them."""
SIGNS = {"passed": "✓", "failed": "✗", "inconclusive": "?", "skipped": "–", "error": "!"}


class WrongReport(GraderError):
    """A report was asked for that cannot be written."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A check with what was measured for it; `anchor` is its place on the page."""

    check: CheckResult
    anchor: str
    told: dict[str, str]
    panels: tuple[Panel, ...]
    loads: tuple[Load, ...]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A check that did not pass by itself: what is told of it, what waits for it, and what to do next."""

    check: CheckResult
    told: tuple[tuple[str, str], ...]
    waiting: tuple[str, ...]
    steps: tuple[Step, ...]


def write(run: Path, out: Path | None = None) -> Path:
    """Writes the report of a stored run, beside it where no file is named; returns the file.

    Args:
        run: its folder, or the file it was packed as.
        out: the file to write.

    Raises:
        GraderError: there is no run, or the file cannot be written or is inside the run's folder.
    """
    place = run.resolve()
    target = out or place.with_name(f"{evidence.name_of(place)}.html")
    if target.resolve().is_relative_to(place):
        raise WrongReport(
            f"asked to write the report to {target}, inside the run's folder, whose manifest tells every file there; "
            "name a file elsewhere"
        )
    here = Path.cwd()  # from where the commands on the page work
    text = render(evidence.read(seen_from(here, place)), seen_from(here, ROOT / HERE))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, text.encode())
    except OSError as error:
        raise WrongReport(f"the report {target} cannot be written ({error.strerror}); name another file") from error
    return target


def render(found: Evidence, labs: Path = HERE) -> str:
    """The page as text, with the folder of the labs as it is typed where its commands are."""
    draw = _loaded()
    pages = Environment(
        loader=PackageLoader("graders.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_text,
    )
    pages.filters |= {"seconds": _seconds, "quantile": quantile}
    sections = [_section(check, number, found) for number, check in enumerate(found.verdict.checks, 1)]
    verdict = found.verdict
    return pages.get_template("report.html").render(
        found=found,
        verdict=verdict,
        took=(verdict.ended - verdict.started).total_seconds() if verdict.ended else None,
        where=where_graded(verdict),
        whose=whose(verdict),
        reckoned=score(verdict) if why_nothing(verdict) or (verdict.late and verdict.late.days) else None,
        machine=_machine(verdict),
        causes=[_cause(verdict, check, labs) for check in root_causes(verdict)],
        live=live_steps(verdict),
        kept=kept_steps(verdict, found.place, found.files) if found.place.is_dir() else (),
        sections=sections,
        measured=[section for section in sections if section.panels],
        gpus=gpus.shown(found),
        timeline=timeline(found),
        conditions=_conditions(found),
        style=Markup(pages.get_template("report.css").render()),  # noqa: S704, a file of ours without a variable
        drawn=_drawer(draw),
        dashes=[" ".join(f"{length:g}" for length in dash) for dash in DASHES],
        signs=SIGNS,
    )


def _loaded() -> Callable[[Plot, str], str]:
    """What draws, loaded when it is needed, as that takes a second; no settings but ours are heard by it.

    Matplotlib reads a file matplotlibrc of the working folder, or else of the user, while it is loaded.
    """
    os.environ["MATPLOTLIBRC"] = os.devnull
    with contextlib.chdir(Path(__file__).parent):
        from graders.html.draw import draw
    return draw


def _drawer(draw: Callable[[Plot, str], str]) -> Callable[[Plot, str], Markup | None]:
    """Draws until the page is full; None from then on."""
    left = MOST_BYTES

    def drawn(plot: Plot, name: str) -> Markup | None:
        nonlocal left
        text = draw(plot, name) if left > 0 else ""
        left -= len(text)
        return Markup(text) if left > 0 else None  # noqa: S704, written by ElementTree, which escapes

    return drawn


def _section(check: CheckResult, number: int, found: Evidence) -> Section:
    loads = found.loads_of(check)
    panel = figures.of_loads(groups(loads), check.bounds)
    panels = [panel] if panel else []
    for counters in found.counters_of(check):
        panels += telemetry.of_counters(counters, loads)
    return Section(check=check, anchor=f"check-{number}", told=dict(told(check)), panels=tuple(panels), loads=loads)


def _cause(verdict: Verdict, check: CheckResult, labs: Path) -> Cause:
    return Cause(
        check=check,
        told=tuple(told(check)),
        waiting=waiting_for(verdict, check),
        steps=next_steps(verdict, check, labs),
    )


def _conditions(found: Evidence) -> list[tuple[str, str]]:
    """On what the figures hold, by name; only what is known."""
    verdict, traits = found.verdict, found.verdict.traits or {}
    machine = verdict.machine
    simulated = "not known, as no cluster was seen" if verdict.simulated is None else ", ".join(verdict.simulated)
    named = {
        "Simulated": simulated or "nothing",
        "Not enforced": ", ".join(map(str, traits.get("not_enforced") or ())),
        "Cluster": ", ".join(str(each) for each in (verdict.level, traits.get("backend")) if each),
        "GPUs": str(traits.get("gpus") or ""),
        "Users of containers": str(traits.get("users") or ""),
        "Machine": _machine(verdict),
        "Kernel": machine.kernel or "",
        "Versions": ", ".join(
            [f"Python {machine.python}", *(f"{name} {each}" for name, each in machine.versions.items() if each)]
        ),
        "Grader": verdict.grader_version,
        "Hints": f"up to {verdict.hint_tiers} tier{'s' if verdict.hint_tiers > 1 else ''} of each",
        "Submission": f"SHA-256 {verdict.submission}" if verdict.submission else "refused, so it has no digest",
        "Left on the cluster": f"the namespace {verdict.left.namespace}" if verdict.left else "",
        "Record": found.holds,
    }
    return [(name, text) for name, text in named.items() if text]


def _machine(verdict: Verdict) -> str:
    machine = verdict.machine
    told = [
        machine.cpu_model or "a processor without a name",
        f"{machine.cores} core{'' if machine.cores == 1 else 's'}" if machine.cores else "",
        f"{machine.memory_bytes / 2**30:.1f} GiB of memory" if machine.memory_bytes else "",
    ]
    return ", ".join(filter(None, told))


def _text(value: object) -> object:
    """What the template shows of a value; a text without what steers a terminal, and not endless."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = plain(value)
    if len(text) <= MOST_LETTERS:
        return text
    return f"{text[:MOST_LETTERS]} … ({len(text) - MOST_LETTERS:,} more letters are in the run's files)"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{value:.1f} s"
