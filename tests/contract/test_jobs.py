"""Jobs and CronJobs: completion, indexes, failure policies, suspension, back-off, a job made by hand."""

import pytest

from tests.contract.subject import Object, Space, template


def job(name: str, command: str, pod: Object | None = None, **spec: object) -> Object:
    body = template(command, restartPolicy="Never") | (pod or {})
    return {"kind": "Job", "metadata": {"name": name}, "spec": {"template": {"spec": body}} | spec}


@pytest.fixture(scope="module", autouse=True)
def started(space: Space) -> None:
    """All jobs of this module, which run beside each other."""
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    succeed = {"rules": [{"succeededIndexes": "0"}]}
    both = 'test "$JOB_COMPLETION_INDEX" = 0 || sleep 600'
    space.create(
        job("completes", "true", completions=3, parallelism=3),
        job("indexed", "echo $JOB_COMPLETION_INDEX", completions=3, parallelism=3, completionMode="Indexed"),
        job("fails", "exit 1", backoffLimit=0),
        job("policy", "exit 42", backoffLimit=6, podFailurePolicy={"rules": [rule, ignore]}),
        job("per-index", 'test "$JOB_COMPLETION_INDEX" != 1', completions=3, parallelism=3, completionMode="Indexed",
            backoffLimitPerIndex=0),
        job("succeeds", both, completions=2, parallelism=2, completionMode="Indexed", successPolicy=succeed),
        job("suspended", "true", suspend=True),
        job("late", "sleep 600", activeDeadlineSeconds=1),
        job("restarts", "test -e /data/x || { touch /data/x; exit 1; }",
            {"restartPolicy": "OnFailure", "volumes": [{"name": "data", "emptyDir": {}}], "containers": [
                {**template("true")["containers"][0],
                 "command": ["sh", "-c", "test -e /data/x || { touch /data/x; exit 1; }"],
                 "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}),
    )  # fmt: skip


def finished(space: Space, name: str, kind: str) -> Object:
    """The job once it has that condition, and the condition."""

    def conditions(found: Object) -> list[Object]:
        return [each for each in found["status"].get("conditions") or () if each["type"] == kind]

    found = space.until("Job", name, conditions, f"the job {name} to be {kind}")
    return found | {"condition": conditions(found)[0]}


def test_a_job_is_complete_when_all_of_its_pods_have_succeeded(space: Space) -> None:
    found = finished(space, "completes", "Complete")
    assert found["status"]["succeeded"] == 3
    assert found["status"]["completionTime"]


def test_each_pod_of_an_indexed_job_has_its_number(space: Space) -> None:
    assert finished(space, "indexed", "Complete")["status"]["completedIndexes"] == "0-2"
    pods = space.find("Pod", label_selector="job-name=indexed")
    said = {each["spec"]["hostname"]: space.log(each["metadata"]["name"]).strip() for each in pods}
    assert said == {f"indexed-{number}": str(number) for number in range(3)}


def test_a_job_fails_at_its_back_off_limit(space: Space) -> None:
    found = finished(space, "fails", "Failed")
    assert (found["condition"]["reason"], found["status"]["failed"]) == ("BackoffLimitExceeded", 1)


def test_a_failure_policy_ends_a_job_at_once(space: Space) -> None:
    found = finished(space, "policy", "Failed")
    assert found["condition"]["reason"] == "PodFailurePolicy"
    assert "failed with exit code 42 matching FailJob rule at index 0" in found["condition"]["message"]
    assert found["status"]["failed"] == 1


def test_an_index_may_fail_alone(space: Space) -> None:
    found = finished(space, "per-index", "Failed")
    assert (found["status"]["failedIndexes"], found["status"]["completedIndexes"]) == ("1", "0,2")
    assert found["condition"]["reason"] == "FailedIndexes"


def test_a_success_policy_ends_what_still_runs(space: Space) -> None:
    found = finished(space, "succeeds", "Complete")
    assert found["condition"]["reason"] == "SuccessPolicy"
    assert found["status"]["succeeded"] == 1


def test_a_suspended_job_runs_once_it_is_resumed(space: Space) -> None:
    finished(space, "suspended", "Suspended")
    assert not space.find("Pod", label_selector="job-name=suspended")
    space.patch("Job", "suspended", {"spec": {"suspend": False}})
    assert finished(space, "suspended", "Complete")["status"]["succeeded"] == 1


def test_a_job_ends_at_its_deadline(space: Space) -> None:
    assert finished(space, "late", "Failed")["condition"]["reason"] == "DeadlineExceeded"


def test_a_container_of_a_job_is_restarted_in_its_pod(space: Space) -> None:
    finished(space, "restarts", "Complete")
    (pod,) = space.find("Pod", label_selector="job-name=restarts")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1


def test_a_cron_job_makes_jobs_and_keeps_count_of_them(space: Space) -> None:
    spec = {"schedule": "0 0 29 2 *", "timeZone": "Etc/UTC", "jobTemplate": {"spec": job("x", "true")["spec"]}}
    space.create({"kind": "CronJob", "metadata": {"name": "cron"}, "spec": spec})
    space.kubectl("create", "job", "by-hand", "--from=cronjob/cron")
    found = finished(space, "by-hand", "Complete")
    assert found["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"] == "manual"
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("CronJob", "cron")


def test_a_cron_job_catches_up_on_a_missed_tick(space: Space) -> None:
    """A schedule of every minute whose last tick is past is due at once, so nothing waits for the clock."""
    spec = {"schedule": "* * * * *", "jobTemplate": {"spec": job("x", "true")["spec"]}, "concurrencyPolicy": "Forbid"}
    space.create({"kind": "CronJob", "metadata": {"name": "ticks"}, "spec": spec | {"suspend": True}})
    past = {"status": {"lastScheduleTime": "2020-01-01T00:00:00Z"}}
    space.resource("CronJob").subresources["status"].patch(
        name="ticks", namespace=space.name, body=past, content_type="application/merge-patch+json"
    )
    space.patch("CronJob", "ticks", {"spec": {"suspend": False}})
    found = space.until("CronJob", "ticks", lambda found: found["status"].get("lastSuccessfulTime"))
    assert found["status"]["lastScheduleTime"] != past["status"]["lastScheduleTime"]
    space.patch("CronJob", "ticks", {"spec": {"suspend": True}})
    assert [each for each in space.find("Job") if each["metadata"]["name"].startswith("ticks-")]
