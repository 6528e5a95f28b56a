"""The test kubelet and the fault-injecting proxy: what the operator's tests believe of them must be so."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Api, ApiError, Cluster, wait_until
from tests.support.fault_proxy import QUIET, FaultProxy
from tests.support.kubelet import CONTROLLERS, FAST_NODE_LOSS, Image, Kubelet, Play

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

PODS = "/api/v1/namespaces/default/pods"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SLOT = "efaas.dev/session"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("kubelet"), service_accounts=True) as cluster:
        cluster.start_controller_manager(*CONTROLLERS, flags=FAST_NODE_LOSS)
        yield cluster


@pytest.fixture(scope="module")
def kubelet(cluster: Cluster) -> Iterator[Kubelet]:
    images = {"python": Image(["python"]), "played": Image(play=Play(0.2, 0, '{"status": "Completed"}'))}
    with Kubelet(cluster, images) as kubelet:
        kubelet.add_node("a", labels={"efaas.dev/qpu": ""})
        yield kubelet


def pod(name: str, script: str = "", **changes: Any) -> dict[str, Any]:
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, **changes.pop("spec", {})}
    container = {"name": "runner", "image": "python", "args": ["-c", script], **changes}
    return {"metadata": {"name": name}, "spec": {**spec, "containers": [container]}}


def status(cluster: Cluster, name: str, phase: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = cluster.api.get(f"{PODS}/{name}")["status"]
        return found if found.get("phase") == phase else None

    found: dict[str, Any] = wait_until(f"{name} {phase}", look, within_s=20)
    return found


def terminated(cluster: Cluster, name: str, phase: str) -> dict[str, Any]:
    found: dict[str, Any] = status(cluster, name, phase)["containerStatuses"][0]["state"]["terminated"]
    return found


def test_a_program_finds_what_its_pod_promises_and_its_last_words_are_kept(cluster, kubelet):
    cluster.api.create(
        "/api/v1/namespaces/default/services",
        {"metadata": {"name": "qpu-x"}, "spec": {"clusterIP": "None", "selector": {"app": "x"}}},
    )
    server = pod("server", "import time; time.sleep(60)")
    server["metadata"]["labels"] = {"app": "x"}
    cluster.api.create(PODS, server)
    address = status(cluster, "server", "Running")["podIP"]
    data = {"text": "under /etc/efaas/session/text and /etc/efaas/sessions", "at": "qpu-x.default.svc:80"}
    cluster.api.create(CONFIG_MAPS, {"metadata": {"name": "given"}, "data": data})
    script = (
        "import os, json, base64\n"
        "token = open(os.environ['TOKEN']).read().split('.')[1]\n"
        "claims = json.loads(base64.urlsafe_b64decode(token + '=' * (-len(token) % 4)))\n"
        "said = {name.lower(): os.environ[name] for name in ('AT', 'FILE', 'LISTEN')}\n"
        "said['text'] = open(os.environ['FILE']).read()\n"
        "said['audience'], said['pod'] = claims['aud'], claims['kubernetes.io']['pod']['uid']\n"
        "open(os.environ['EFAAS_TERMINATION_MESSAGE'], 'w').write(json.dumps(said))\n"
    )
    token = {"serviceAccountToken": {"audience": "efaas-qpu", "path": "efaas-qpu"}}
    cluster.api.create(
        PODS,
        pod(
            "reader",
            script,
            env=[
                {"name": "FILE", "value": "/etc/efaas/session/text"},
                {"name": "TOKEN", "value": "/var/run/secrets/efaas/efaas-qpu"},
                {"name": "AT", "valueFrom": {"configMapKeyRef": {"name": "given", "key": "at"}}},
                {"name": "LISTEN", "value": "0.0.0.0:8470"},
                {"name": "EFAAS_TERMINATION_MESSAGE", "value": "/dev/termination-log"},
            ],
            volumeMounts=[
                {"name": "session", "mountPath": "/etc/efaas/session"},
                {"name": "tokens", "mountPath": "/var/run/secrets/efaas"},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
            spec={
                "volumes": [
                    {"name": "session", "configMap": {"name": "given"}},
                    {"name": "tokens", "projected": {"sources": [token]}},
                    {"name": "tmp", "emptyDir": {}},
                ]
            },
        ),
    )
    ended = terminated(cluster, "reader", "Succeeded")
    said = json.loads(ended["message"])
    uid = cluster.api.get(f"{PODS}/reader")["metadata"]["uid"]
    assert said["text"] == f"under {said['file']} and /etc/efaas/sessions"
    assert Path(said["file"]).parent.name == "session"
    assert (said["at"], said["audience"], said["pod"]) == (f"{address}:80", ["efaas-qpu"], uid)
    assert said["listen"] == f"{cluster.api.get(f'{PODS}/reader')['status']['podIP']}:8470"
    cluster.api.delete(f"{PODS}/server")
    wait_until("pod to be gone", lambda: cluster.api.find(f"{PODS}/server") is None)
    assert ("default", "server") not in kubelet.running()


def test_it_waits_for_a_config_map_with_the_kubelets_words(cluster, kubelet):
    variable = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "x"}}}
    cluster.api.create(PODS, pod("waits", "import os; print(os.environ['X'])", env=[variable]))

    def reason() -> bool:
        statuses = cluster.api.get(f"{PODS}/waits")["status"].get("containerStatuses") or [{}]
        return statuses[0].get("state", {}).get("waiting") == {
            "reason": "CreateContainerConfigError",
            "message": 'configmap "late" not found',
        }

    wait_until("the reason", reason)
    cluster.api.create(CONFIG_MAPS, {"metadata": {"name": "late"}, "data": {"x": "here"}})
    assert terminated(cluster, "waits", "Succeeded")["exitCode"] == 0
    assert kubelet.log_of("default", "waits") == "here\n"


def test_an_image_that_cannot_be_pulled_is_pulled_once_it_can(cluster, kubelet):
    cluster.api.create(PODS, pod("unpulled", "pass", image="nowhere:1"))

    def waits() -> bool:
        statuses = cluster.api.get(f"{PODS}/unpulled")["status"].get("containerStatuses") or [{}]
        return statuses[0].get("state", {}).get("waiting", {}).get("reason") == "ImagePullBackOff"

    wait_until("ImagePullBackOff", waits)
    kubelet.images["nowhere:1"] = Image(["python"])
    status(cluster, "unpulled", "Succeeded")


@pytest.mark.parametrize(
    ("end", "phase", "code", "reason"),
    [("oom", "Failed", 137, "OOMKilled"), ("delete", None, 0, ""), ("evict", "Failed", 137, "Error")],
)
def test_it_ends_as_the_node_wants(cluster, kubelet, end: str, phase: str | None, code: int, reason: str):
    name = f"ends-{end}"
    script = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(75)); time.sleep(60)"
    cluster.api.create(PODS, pod(name, script))
    status(cluster, name, "Running")
    match end:
        case "oom":
            kubelet.kill_for_memory("default", name)
        case "evict":
            kubelet.evict("default", name)
        case "delete":
            cluster.api.delete(f"{PODS}/{name}")
            wait_until("pod to be gone", lambda: cluster.api.find(f"{PODS}/{name}") is None)
            return
    ended = terminated(cluster, name, phase or "")
    assert (ended["exitCode"], ended["reason"]) == (code, reason)
    if end == "evict":
        assert cluster.api.get(f"{PODS}/{name}")["status"]["reason"] == "Evicted"


def test_slots_are_bound_refused_and_zeroed(cluster, kubelet):
    cluster.api.patch("/api/v1/nodes/a/status", {"status": {"capacity": {SLOT: "1"}}})
    resources = {"limits": {SLOT: "1"}, "requests": {SLOT: "1"}}
    hold = pod("holds", "import time; time.sleep(60)", resources=resources)
    hold["spec"]["schedulerName"] = "efaas-scheduler"
    cluster.api.create(PODS, hold)
    status(cluster, "holds", "Running")
    queued = pod("queued", "pass", resources=resources)
    queued["spec"]["schedulerName"] = "efaas-scheduler"
    cluster.api.create(PODS, queued)

    def unschedulable() -> bool:
        conditions = cluster.api.get(f"{PODS}/queued")["status"].get("conditions") or []
        return any(
            each.get("message") == f"0/1 nodes are available: 1 Insufficient {SLOT}." for each in conditions
        )

    wait_until("Unschedulable", unschedulable)
    forced = pod("forced", "pass", resources=resources)
    forced["spec"]["nodeName"] = "a"
    cluster.api.create(PODS, forced)
    assert status(cluster, "forced", "Failed")["reason"] == f"OutOf{SLOT}"
    cluster.api.delete(f"{PODS}/holds")
    status(cluster, "queued", "Succeeded")
    kubelet.restart("a")
    assert cluster.api.get("/api/v1/nodes/a")["status"]["allocatable"][SLOT] == "0"


def test_a_played_container_needs_no_process(cluster, kubelet):
    cluster.api.create(PODS, pod("played", image="played"))
    assert terminated(cluster, "played", "Succeeded")["message"] == '{"status": "Completed"}'


def test_a_silent_node_is_lost_and_comes_back(cluster, kubelet):
    kubelet.add_node("b")
    seconds = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
    tolerations = [{"key": f"node.kubernetes.io/{word}", **seconds} for word in ("not-ready", "unreachable")]
    spec = {"nodeName": "b", "tolerations": tolerations}
    cluster.api.create(PODS, pod("lost", "import time; time.sleep(60)", spec=spec))
    status(cluster, "lost", "Running")
    kubelet.silence("b")

    def evicted() -> bool:
        ready = {
            each["type"]: each["status"]
            for each in cluster.api.get("/api/v1/nodes/b")["status"]["conditions"]
        }
        lost = cluster.api.get(f"{PODS}/lost")
        return ready["Ready"] == "Unknown" and "deletionTimestamp" in lost["metadata"]

    wait_until("eviction", evicted, within_s=40)
    assert ("default", "lost") in kubelet.running(), "nobody tells the process"
    kubelet.restore("b")
    wait_until("pod to be gone", lambda: cluster.api.find(f"{PODS}/lost") is None)
    assert ("default", "lost") not in kubelet.running()


@pytest.fixture(scope="module")
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    with FaultProxy(cluster, seed=1) as proxy:
        yield proxy


def test_a_quiet_proxy_only_counts(cluster, proxy):
    api = Api(proxy.server, cluster.token, proxy.certificate)
    api.create(CONFIG_MAPS, {"metadata": {"name": "counted"}})
    api.patch(f"{CONFIG_MAPS}/counted", {"data": {"a": "b"}})
    api.delete(f"{CONFIG_MAPS}/counted")
    api.get(PODS)
    api.close()
    assert proxy.writes == 3
    assert proxy.requests["PATCH", "configmaps"] == 1
    assert not proxy.faults.total()


@pytest.mark.parametrize(
    ("fault", "status"), [("conflict", 409), ("too_many", 429), ("internal", 500), ("unavailable", 503)]
)
def test_it_refuses_what_it_is_asked_to(cluster, proxy, fault: str, status: int):
    api = Api(proxy.server, cluster.token, proxy.certificate)
    proxy.rates = dataclasses.replace(QUIET, **{fault: 1.0})
    with pytest.raises(ApiError) as refused:
        api.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"touched": fault}}})
    api.close()
    assert refused.value.status == refused.value.body["code"] == status
    assert cluster.api.get("/api/v1/namespaces/default")["metadata"]["labels"].get("touched") != fault


def test_a_cut_connection_says_nothing_of_what_was_done(cluster, proxy):
    api = Api(proxy.server, cluster.token, proxy.certificate)
    proxy.rates = dataclasses.replace(QUIET, cut=1.0)
    with pytest.raises((OSError, http.client.HTTPException)):
        api.create(CONFIG_MAPS, {"metadata": {"name": "cut"}})
    api.close()
    assert cluster.api.find(f"{CONFIG_MAPS}/cut") is not None


@pytest.mark.parametrize("fault", ["drop_watch", "stall_watch", "gone_watch"])
def test_watches_end_before_their_time(cluster, proxy, fault: str):
    proxy.rates = dataclasses.replace(QUIET, **{fault: 1.0, "watch_s": 0.5, "stall_s": 0.5})
    request = urllib.request.Request(
        f"{proxy.server}{CONFIG_MAPS}?watch=1", headers={"Authorization": f"Bearer {cluster.token}"}
    )
    context = ssl.create_default_context(cafile=str(proxy.certificate))
    with urllib.request.urlopen(request, context=context, timeout=20) as answer:
        events = []
        with contextlib.suppress(OSError, http.client.HTTPException):
            events += [json.loads(line) for line in answer]
    assert [event["object"]["code"] for event in events if event["type"] == "ERROR"] == (
        [410] if fault == "gone_watch" else []
    )
    assert proxy.faults[fault] == 1


def test_the_same_seed_brings_the_same_faults(cluster):
    def drawn() -> list[int]:
        found = []
        with FaultProxy(cluster, seed=5, rates=dataclasses.replace(QUIET, internal=0.3)) as proxy:
            api = Api(proxy.server, cluster.token, proxy.certificate)
            for _ in range(20):
                try:
                    api.get("/api/v1/namespaces/default")
                    found.append(200)
                except ApiError as error:
                    found.append(error.status)
            api.close()
        return found

    first = drawn()
    assert first == drawn()
    assert set(first) == {200, 500}
