"""Record what the real kube-scheduler sends to an extender, for the tests of the wire contract.

Starts a control plane and a recorder that lets every node pass, places pods so that filter, prioritize and
preempt are asked with names of nodes and with nodes in full, and writes one example of each:

    python scripts/record_extender_requests.py tests/scheduler/data
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from efaas_scheduler.profile import scheduler_configuration  # noqa: E402

from efaas.api.names import ADMISSION_GATE, SESSION_RESOURCE  # noqa: E402
from tests.support import objects  # noqa: E402
from tests.support.cluster import Cluster, wait_until  # noqa: E402


class Recorder(BaseHTTPRequestHandler):
    """Keeps the first request of each verb and lets everything pass."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, dict[str, Any]]

    def do_POST(self) -> None:
        """Keep the request and answer that everything is well."""
        verb = self.path.strip("/")
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.kept.setdefault(verb, request)
        names = request.get("NodeNames") or []
        if verb == "filter":
            answer: Any = {"NodeNames": request["NodeNames"], "Nodes": request["Nodes"], "Error": ""}
        elif verb == "prioritize":
            names = names or [node["metadata"]["name"] for node in request["Nodes"]["items"]]
            answer = [{"Host": name, "Score": 0} for name in names]
        else:
            victims = request["NodeNameToMetaVictims"] or {
                name: {
                    "Pods": [{"UID": pod["metadata"]["uid"]} for pod in each["Pods"]],
                    "NumPDBViolations": each["NumPDBViolations"],
                }
                for name, each in request["NodeNameToVictims"].items()
            }
            answer = {"NodeNameToMetaVictims": victims}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _placed(cluster: Cluster, pod: str) -> Callable[[], Any]:
    return lambda: cluster.api.get(pod)["spec"].get("nodeName")


def record(*, node_cache_capable: bool) -> dict[str, dict[str, Any]]:
    """One request of each verb."""

    class Handler(Recorder):
        """A recorder with a memory of its own."""

        kept: dict[str, dict[str, Any]] = {}  # noqa: RUF012

    handler = Handler
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder) / "cluster") as cluster:
        cluster.start_kwok()
        for name in ("node-a", "node-b"):
            cluster.create_node(name, labels={"efaas.dev/qpu": ""}, resources={SESSION_RESOURCE: "1"})
        url = f"http://127.0.0.1:{server.server_address[1]}"
        cluster.start_scheduler(scheduler_configuration(url, node_cache_capable=node_cache_capable))
        path = "/api/v1/namespaces/default/pods"
        cluster.api.create(
            "/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": "urgent"}, "value": 1000}
        )
        for name in ("low-a", "low-b", "urgent"):
            pod = objects.runner_pod(name, session_name=name)
            pod["spec"]["schedulingGates"] = [{"name": ADMISSION_GATE}]
            if name == "urgent":
                pod["spec"]["priorityClassName"] = name
            cluster.api.create(path, pod)
            release = [{"op": "remove", "path": "/spec/schedulingGates"}]
            cluster.api.patch(f"{path}/{name}", release, kind="json")
            wait_until(f"{name} to be placed", _placed(cluster, f"{path}/{name}"))
    server.shutdown()
    return dict(handler.kept)


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for capable, suffix in ((True, ""), (False, "-full-nodes")):
        for verb, request in sorted(record(node_cache_capable=capable).items()):
            (folder / f"{verb}-request{suffix}.json").write_text(json.dumps(request, indent=1) + "\n")
            print(f"{verb}-request{suffix}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
