"""Facts of lab 02's turns, of communication and scaling, that fall short in one way each.

Place: `shortfalls_02_ddp` has them among its own, in the same form. Limits: as there.
"""

from ddp_lab.scaling_facts import Turn
from tests.labs.facts_02_ddp import TURN, but, turns
from tests.labs.shortfalls import Failure

TURNED: dict[str, Failure] = {
    "gradients four times": (
        "communication",
        but("communication", turns=turns(sent=(24000, 24000))),
        "failed",
        "often",
        "0.0 MB a rank and step, 4.00 times as much; a step spends 17% of its time beyond what one rank alone needs "
        "for its part",
    ),
    "gradients by other ways": (
        "communication",
        but("communication", turns=turns(sent=(60, 60))),
        "failed",
        "elsewhere",
        "0.0 MB a rank and step, 0.01 times as much; a step spends 17% of its time beyond what one rank alone needs "
        "for its part",
    ),
    "one rank sends for both": (
        "communication",
        but("communication", turns=turns(sent=(12000, 0))),
        "failed",
        "elsewhere",
        "0.0 MB a rank and step, 0.00 times as much; a step spends 17% of its time beyond what one rank alone needs "
        "for its part",
    ),
    "samples left out": (
        "scaling",
        but("scaling", batch=1024, fewest=2),
        "failed",
        "work",
        "a step read 2 of its 1024 samples; 1.00 times: 100 ms a step, where one rank alone takes 83 ms for its part: "
        "an efficiency of 83%",
    ),
    "the same samples in each step": (
        "scaling",
        but("scaling", samples=8192, unread=7168),
        "failed",
        "work",
        "an epoch read 1024 of its 8192 samples; 1.00 times: 100 ms a step, where one rank alone takes 83 ms for its "
        "part: an efficiency of 83%",
    ),
    "at work while others are timed": (
        "scaling",
        but("scaling", turns=turns(idle=0.9)),
        "failed",
        "meanwhile",
        "a pod used 0.90 cores while others had their turns, where 0.1 are the most; 1.00 times: 100 ms a step, where "
        "one rank alone takes 83 ms for its part: an efficiency of 83%",
    ),
    "others are held up by requests": (
        "scaling",
        but("scaling", turns=turns(idle=0.05, idle_sent=54321.0, idle_ended=0)),
        "failed",
        "meanwhile",
        "a pod sent 54321 bytes a second while others had their turns, where 10000 are the most; 1.00 times: 100 ms a "
        "step, where one rank alone takes 83 ms for its part: an efficiency of 83%",
    ),
    "others are held up by processes that are in no count": (
        "scaling",
        but("scaling", turns=turns(idle=0.05, idle_sent=300.0, idle_ended=2)),
        "failed",
        "meanwhile",
        "a pod began and ended 2 processes or threads while others had their turns, where 0 are the most; 1.00 times: "
        "100 ms a step, where one rank alone takes 83 ms for its part: an efficiency of 83%",
    ),
    "pods that came and went": (
        "communication",
        but("communication", turns=(TURN, {**TURN, "submission": Turn(seconds=0.6, sent=(6000,))})),
        "failed",
        "stuck",
        "pods came or went while turns were measured",
    ),
    "no turn": (
        "communication",
        but("communication", turns=(), problem="nothing came"),
        "failed",
        "stuck",
        "nothing came",
    ),
    "slow": (
        "scaling",
        but("scaling", turns=turns(seconds=1.2)),
        "failed",
        "slow",
        "0.50 times: 200 ms a step, where one rank alone takes 83 ms for its part: an efficiency of 42%",
    ),
    "threads": (
        "scaling",
        but("scaling", turns=turns(cpu=(1.2, 0.5))),
        "failed",
        "threads",
        "a rank used 2.00 cores, where 1.3 are the most; 1.00 times: 100 ms a step, where one rank alone takes 83 ms "
        "for its part: an efficiency of 83%",
    ),
    "less work": (
        "scaling",
        but("scaling", error=0.5),
        "failed",
        "work",
        "weights are off by 0.5 of their change, so the work was not done; 1.00 times: 100 ms a step, where one rank "
        "alone takes 83 ms for its part: an efficiency of 83%",
    ),
    "no turn to time": ("scaling", but("scaling", turns=(), problem="nothing came"), "failed", "stuck", "nothing came"),
}
