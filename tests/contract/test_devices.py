"""Devices and the network's rules: GPUs are given to one pod each; NetworkPolicy where a cluster enforces it."""

import pytest

from clusters.wait import until
from tests.contract.subject import PYTHON, Object, Space, pod, python, service
from tests.patience import PATIENCE

GPU = "nvidia.com/gpu"
ANY = [{"operator": "Exists"}]
WANTS = {"resources": {"limits": {GPU: "1"}}}


@pytest.mark.trait("GPUs")
def test_each_gpu_is_given_to_one_pod(space: Space) -> None:
    whole = [each for each in space.find("Node") if int(each["status"]["allocatable"].get(GPU, 0))]
    assert whole, f"no node of this cluster offers {GPU}"
    node = whole[0]["metadata"]["name"]
    count = int(whole[0]["status"]["allocatable"][GPU])
    here: Object = {"nodeSelector": {"kubernetes.io/hostname": node}, "tolerations": ANY}
    names = [f"gpu-{number}" for number in range(count + 1)]
    space.create(
        *[pod(name, "echo $NVIDIA_VISIBLE_DEVICES; exec sleep 600", container=WANTS, **here) for name in names]
    )

    def running() -> list[str]:
        return [each["metadata"]["name"] for each in space.find("Pod") if each["status"]["phase"] == "Running"]

    holders = until(running, lambda found: len(found) == count, what=f"{count} pods with a GPU", seconds=PATIENCE)
    (waiting,) = set(names) - set(holders)
    found = space.until("Pod", waiting, lambda found: found["status"].get("conditions"))
    assert f"Insufficient {GPU}" in found["status"]["conditions"][0]["message"]
    devices = {
        until(lambda name=name: space.log(name).strip(), bool, what=f"the device of {name}", seconds=PATIENCE)  # type: ignore[misc]  # a lambda with a default has no type
        for name in holders
    }
    assert len(devices) == count
    space.delete("Pod", holders[0])
    space.phase(waiting, "Running")
    for name in names[1:]:
        if name != holders[0]:
            space.delete("Pod", name)


@pytest.mark.trait("NetworkPolicy")
def test_a_network_policy_closes_pods_to_others(space: Space) -> None:
    policy: Object = {"podSelector": {"matchLabels": {"app": "closed"}}, "policyTypes": ["Ingress"]}
    policy["ingress"] = [{"from": [{"podSelector": {"matchLabels": {"app": "allowed"}}}]}]
    probe = {"exec": {"command": ["true"]}}
    code = "import http.server as h; h.HTTPServer(('', 80), h.SimpleHTTPRequestHandler).serve_forever()"
    space.create(
        {"kind": "NetworkPolicy", "metadata": {"name": "closed"}, "spec": policy},
        python("closed", code, container={"readinessProbe": probe, "image": PYTHON}),
        service("closed"),
    )
    space.ready("closed")
    look = "print(u.urlopen('http://closed', timeout=3).status)"
    ask = f"import urllib.request as u\ntry: {look}\nexcept OSError: print('no')"
    space.create(python("allowed", ask), python("other", ask))
    assert (space.output("allowed").strip(), space.output("other").strip()) == ("200", "no")
