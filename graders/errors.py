"""Whose fault a failure is: the errors of this package, from the exception to the scorecard.

Place: every module of `graders` raises these; the plugin turns them into statuses. Limits: errors of other packages are
mapped where both are known, in the root conftest.

    GraderError
    ├── SubmissionError       the learner's mistake: the check fails
    ├── InfrastructureError   the cluster, the network, an image: the check is an error and costs nothing
    └── HarnessError          ours: the check is an error and costs nothing
"""


class GraderError(Exception):
    """A check could not be done; the message says what was asked, what was found and what to do next."""


class SubmissionError(GraderError):
    """What was handed in is wrong."""


class InfrastructureError(GraderError):
    """The lab's infrastructure failed."""


class HarnessError(GraderError):
    """The harness or the lab's own files are wrong."""
