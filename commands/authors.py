"""`gpulab new-lab` and `gpulab verify`: a lab to begin with, and what proves one, for the authors of labs.

Place: `gpulab.py` adds these to its parser. Limits: what a gate asks is in graders/gates; here a grading is a
`gpulab grade` in a process of its own, as a learner starts it.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from clusters import backends, spec
from clusters.api import SpecError
from clusters.progress import Display
from commands import repeat
from commands.places import LABS, PROOFS, RESULTS, ROOT, Commands, add_cluster_flags, add_command
from graders.errors import GraderError
from graders.flags import count_of_runs
from graders.gates import matrix
from graders.gates.gate import Gate
from graders.gates.gradings import Grade, Gradings, duration
from graders.gates.measured import Graded, measured, mistakes
from graders.gates.proof import Proof, read_proof
from graders.gates.skeleton import new_lab
from graders.gates.structure import Machines, structure
from graders.lab import Lab
from graders.provenance import harness_version, lab_digest
from graders.record import write_whole
from graders.rubric import Verdict

SKELETON = Path(__file__).parent / "skeleton"


class FolderTaken(GraderError):
    """What is to be written would be mixed with what is there."""


class PageUnwritable(GraderError):
    """The table of cases and checks cannot be written where it was asked to be."""


def add(commands: Commands) -> None:
    """Adds them."""
    new = add_command(commands, "new-lab", run_new_lab, "write a small lab that is proven, to be made into another")
    new.add_argument("name", metavar="NN_name")
    verify = add_command(
        commands, "verify", run_verify, "prove a lab: its files agree, its reference passes, each fault is named"
    )
    verify.add_argument("lab")
    instead = verify.add_mutually_exclusive_group()
    instead.add_argument("--structure", action="store_true", help="only what needs no cluster: seconds")
    instead.add_argument(
        "--write-out", nargs=2, metavar=("NAME", "DIR"), help="only write what NAME hands in into a new folder DIR"
    )
    verify.add_argument(
        "--runs", type=count_of_runs, default=1, metavar="N", help="grade the reference N times (default: 1)"
    )
    verify.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="grade reference, starter, or this fault or cheat"
    )
    verify.add_argument("--resume", action="store_true", help="take kept verdicts where nothing has changed since")
    verify.add_argument("--html", type=Path, metavar="FILE", help="write the table of cases and checks as a page")
    verify.add_argument("--out", type=Path, metavar="DIR", help="where verdicts are kept (default: results/verify/LAB)")
    verify.add_argument("--images", type=Path, action="append", default=[], metavar="FILE", help=backends.OWN_IMAGES)
    add_cluster_flags(verify)


def run_new_lab(options: argparse.Namespace) -> int:
    """Writes a lab, and says where and what comes next."""
    folders = new_lab(options.name, skeleton=SKELETON, root=ROOT)
    print(f"The lab {options.name} is in")
    print("\n".join(f"  {folder.relative_to(ROOT)}" for folder in folders))
    print(f"Its files say what to change. Prove it as it is: gpulab verify {options.name}")
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Proves a lab of the project."""
    lab = Lab.find(LABS, options.lab)
    proof = read_proof(lab, PROOFS)
    if options.write_out:
        name, place = options.write_out
        return write_out(proof, name, Path(place))
    folder = (options.out or RESULTS / "verify" / lab.name).absolute()
    return verify(proof, folder, grader(lab, options), options)


def write_out(proof: Proof, name: str, place: Path) -> int:
    """Writes what a case hands in into a folder, to be looked at, and says how.

    Raises:
        FolderTaken: the folder is there already.
        UnknownCase: there is no such case.
    """
    case = proof.case(name)
    if place.exists():
        raise FolderTaken(f"asked to write the {case.label} into {place}, which is there already; name a new folder")
    case.write(place)
    (reference,) = proof.of("reference")
    print(f"The {case.label} of {proof.lab.name} is in {place}.")
    print(f"What it changes: diff -r {shlex.quote(str(reference.folder))} {shlex.quote(str(place))}")
    print(f"What it comes to: gpulab grade {proof.lab.name} --submission {shlex.quote(str(place))}")
    return 0


def verify(proof: Proof, folder: Path, grade: Grade, options: argparse.Namespace) -> int:
    """Prints what each gate found, and the table; returns 0 only when all hold and no case was left out.

    Raises:
        PageUnwritable: the page cannot be written, which is found out before the first grading where it can be.
    """
    if options.html:
        _make_room(options.html)
    gates = structural_gates(proof)
    fits = all(gate.holds for gate in gates)
    if options.structure or not (fits or options.only):
        print_gates(gates)
        if not options.structure:
            print("Nothing was graded; correct the above first.")
        return 0 if fits else 1
    harness = harness_version(ROOT)
    gradings = Gradings(proof, folder, grade, lab=lab_digest(proof.lab), harness=harness, clock=time.monotonic)
    graded = _graded(gradings, proof.lab, options)
    gates += measured(proof, graded, whole=not options.only)
    found = matrix.record(proof, gates, graded, harness=harness, now=datetime.now(UTC).replace(microsecond=0))
    found.write(folder / "verify.json")
    print(f"\n{matrix.text(found)}")
    print_gates(gates)
    if found.left_out:
        print(
            f"{len(found.left_out)} of {len(proof.cases)} cases were left out, which proves no lab; grade the rest "
            f"with: {_the_rest(proof.lab, options)}"
        )
    if options.html:
        _make_room(options.html)
        write_whole(options.html, matrix.page(found).encode())
    return 0 if found.holds and not found.left_out else 1


def structural_gates(proof: Proof) -> list[Gate]:
    """What can be said of a lab without grading anything."""
    return structure(proof, _machines(proof.lab.folder / "cluster.yaml"))


def print_gates(gates: Sequence[Gate]) -> None:
    """A line for each gate that holds, and under one that does not, its mistakes."""
    for gate in gates:
        print(f"{gate.name:<12} " + (f"holds: {gate.seen}" if gate.holds else "FAILS"))
        for mistake in gate.mistakes:
            print(f"  {mistake}")


def _graded(gradings: Gradings, lab: Lab, options: argparse.Namespace) -> list[Graded]:
    """Grades what is due, and says of each how it went."""
    due = gradings.due(options.only, options.runs, resume=options.resume)
    graded: list[Graded] = []
    try:
        with Display(sys.stderr) as display:
            for each in gradings.run(due, resume=options.resume, before=lambda step: display(step.words())):
                display.clear()
                graded.append(each)
                print(outcome(lab, each), flush=True)
    except (KeyboardInterrupt, GraderError):
        done = f"{len(graded)} of {len(due)} gradings are done"
        print(f"gpulab: {done}; go on with: {_the_rest(lab, options, options.only)}", file=sys.stderr)
        raise
    return graded


def _the_rest(lab: Lab, options: argparse.Namespace, only: Sequence[str] = ()) -> str:
    """The command that takes what was graded and grades the rest in the same way."""
    words = ["gpulab", "verify", lab.name, "--resume", *(f"--only={name}" for name in only)]
    words += [f"--runs={options.runs}"] if options.runs != 1 else []
    words += [f"--out={options.out}"] if options.out else []
    words += [f"--html={options.html}"] if options.html else []
    words += [word for word in words_of_cluster(options) if word != "--cluster=embedded"]
    return shlex.join(words)


def _make_room(page: Path) -> None:
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror
    else:
        why = "it is a folder" if page.is_dir() else "" if os.access(page.parent, os.W_OK) else "Permission denied"
    if why:
        raise PageUnwritable(f"the table cannot be written to {page} ({why}); name another file")


def outcome(lab: Lab, graded: Graded) -> str:
    """How a grading went, in a line, and what is wrong with it below."""
    wrong = mistakes(lab, graded)
    took = "kept from before" if graded.reused else duration(graded.seconds)
    return "\n".join(
        [f"{graded.label}: {'NOT ' if wrong else ''}as it must be ({took})", *(f"  {each}" for each in wrong)]
    )


def grader(lab: Lab, options: argparse.Namespace) -> Grade:
    """Grades in a process of its own, with the lab's own numbers, whoever asks."""
    words = [*words_of_cluster(options), "--no-variants"]

    def grade(submission: Path, place: Path) -> Verdict:
        _, verdict = repeat.graded(lab.name, [*words, f"--submission={submission}"], place, place / "grade.log")
        return verdict

    return grade


def words_of_cluster(options: argparse.Namespace) -> list[str]:
    """The flags that choose the cluster of each grading."""
    words = [f"--cluster={options.cluster}", *(f"--images={file}" for file in options.images)]
    return words + ([f"--name={options.name}"] if options.name else [])


def _machines(file: Path) -> Machines | str:
    try:
        cluster = spec.read(file)
    except SpecError as error:
        return f"{error}; correct it"
    return Machines(len(cluster.nodes), sum(node.gpus.count for node in cluster.nodes if node.gpus))
