"""Before anything runs: what a submission may set and use.

Place: test_ddp.py measures with it; what it returns is judged in `graders.budget`. Limits: it reads values and whether
train.py is Python; what that does is seen when it runs.
"""

import ast
import warnings
from typing import Any

from ddp_lab.sides import FIXED, FREE, uses
from graders.allowance import at, strangers
from graders.budget import Budget
from graders.errors import SubmissionError


def budget(own: dict[str, Any], joined: dict[str, Any], script: str) -> Budget:
    """Reads a submission's `own` values, and what they come to once `joined` with the lab's.

    Raises:
        SubmissionError: train.py is not Python, or the number of pods that train together is a range.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as of "\\d", which is Python all the same
            ast.parse(script)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last without a word
        said = str(error) or "an expression is nested too deeply"
        raise SubmissionError(f"train.py is not Python: {said}; correct it there") from error
    if isinstance(nodes := at(joined, "torchrun", "nnodes"), str):
        raise SubmissionError(
            f"torchrun.nnodes is {nodes!r}: steps that some of the workers do without the others are nobody's here; "
            "name one number"
        )
    return Budget(foreign=tuple(strangers(own, FREE, FIXED)), uses=uses(own, joined))
