"""The command line: `gpulab COMMAND`, the same wiring as conftest.py, for people.

Place: the console script. Limits: thin; the commands are in commands/.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from clusters.api import ClusterError, SpecError
from commands import authors, cluster, course, evidence, grading, labs, reporting, rescoring


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, 1 not passed, 2 wrong use, 3 something broke."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["kubectl"], ["helm"]):  # their flags are theirs; argparse must not see them
        return _guarded(lambda: cluster.run_client(words[0], words[1:]))
    options = parser().parse_args(words)
    return _guarded(lambda: int(options.run(options) or 0))


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    top = argparse.ArgumentParser(
        prog="gpulab",
        description="GPU infrastructure labs, graded by measurement, on a Kubernetes cluster that needs no Docker.",
        epilog="`gpulab kubectl ...` and `gpulab helm ...` run the two clients against the running cluster; "
        "GPULAB_CLUSTER names one of several.",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for kind in (cluster, labs, grading, rescoring, evidence, course, reporting, authors):
        kind.add(commands)
    return top


def _guarded(run: Callable[[], int]) -> int:
    """Turns what a person can act on into a sentence, and Ctrl-C into status 130."""
    from graders.errors import GraderError

    try:
        return run()
    except (ClusterError, GraderError) as error:
        print("\n".join([f"gpulab: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 2 if isinstance(error, SpecError | GraderError) else 3
    except OSError as error:
        print(f"gpulab: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("gpulab: interrupted; what was started has been ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
