"""What a spot notice changes in a Node object, and what it leaves."""

from datetime import UTC, datetime, timedelta

from clusters.embedded import spot

OTHER = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def test_the_marks_of_the_providers_are_added_to_what_is_there() -> None:
    assert spot.marked({"taints": [OTHER]}, unschedulable=True, taints=spot.TAINTS) == {
        "unschedulable": True,
        "taints": [
            OTHER,
            {"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"},
            {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"},
            {"key": "cloud.google.com/impending-node-termination", "effect": "NoSchedule"},
        ],
    }


def test_they_are_there_once_when_set_twice() -> None:
    taints = [*spot.TAINTS]
    assert spot.marked({"taints": taints}, unschedulable=True, taints=spot.TAINTS)["taints"] == taints


def test_taking_them_back_leaves_the_rest() -> None:
    spec = {"unschedulable": True, "taints": [*spot.TAINTS, OTHER]}
    assert spot.marked(spec, unschedulable=False, taints=()) == {"unschedulable": None, "taints": [OTHER]}


def test_the_conditions_say_when_in_the_words_that_handlers_parse() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    told = spot.conditions(now + timedelta(seconds=30), now)
    assert [(each["type"], each["status"], each["reason"]) for each in told] == [
        ("VMEventScheduled", "True", "VMEventScheduled"),
        ("PreemptionScheduled", "True", "SpotEvictionIncoming"),
    ]
    assert {each["message"] for each in told} == {"Preempt Scheduled: Fri, 02 Jan 2026 03:04:35 GMT."}
    assert {each["lastTransitionTime"] for each in told} == {"2026-01-02T03:04:05Z"}


def test_the_conditions_are_false_when_nothing_is_announced() -> None:
    told = spot.conditions(None, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert {(each["status"], each["message"]) for each in told} == {("False", "VM has no scheduled event")}
    assert told[0]["reason"] == "NoVMEventScheduled"


def test_the_event_is_about_the_node() -> None:
    event = spot.event("gpu-1", "going", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "SpotInterruption", "going")
    assert event["involvedObject"]["name"] == "gpu-1"
    assert event["lastTimestamp"] == "2026-01-02T03:04:05Z"
