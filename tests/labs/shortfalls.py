"""What facts that fall short come to: the form in which every lab writes it down, and test_judges.py reads it."""

from graders.judging import Facts
from graders.stats import Outcome

Failure = tuple[str, Facts, Outcome, str | None, str]
"""Check, facts, verdict, hint and what is told."""
