"""The cluster through kubectl: what a person would type is what is tested."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

SHORT_S, MEDIUM_S, LONG_S = 30.0, 120.0, 300.0
"""How long is waited: for one step of Kubernetes, a pod that starts, a session that runs to its end."""
FINAL = ("Completed", "Failed", "Cancelled", "Expired")


class KubectlError(Exception):
    """kubectl ended with an error; its text is what kubectl said."""


class Kubectl:
    """kubectl for one cluster.

    Args:
        kubeconfig: how it is reached.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def __call__(self, *arguments: str, stdin: str | None = None, timeout_s: float = 60.0) -> str:
        """Run kubectl and return what it prints.

        Raises:
            KubectlError: it ended with an error.
        """
        answer = subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )
        if answer.returncode != 0:
            raise KubectlError(answer.stderr.strip())
        return answer.stdout

    def get(self, kind: str, name: str = "", namespace: str = "default") -> Document:
        """An object, or with no name the list of them."""
        found: Document = json.loads(
            self("get", kind, *([name] if name else []), "-n", namespace, "-o", "json")
        )
        return found

    def everywhere(self, kind: str, selector: str = "") -> list[Document]:
        """All objects of a kind in all namespaces."""
        options = ["-l", selector] if selector else []
        items: list[Document] = json.loads(self("get", kind, "-A", "-o", "json", *options))["items"]
        return items

    def apply(self, manifest: Path | Document | list[Document], namespace: str = "default") -> str:
        """Apply a file or documents."""
        if isinstance(manifest, Path):
            return self("apply", "-n", namespace, "-f", str(manifest))
        documents = manifest if isinstance(manifest, list) else [manifest]
        return self("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(documents))

    def session(self, name: str, namespace: str = "default") -> Document:
        """Status of a session."""
        status: Document = self.get("vqasession", name, namespace).get("status") or {}
        return status

    def wait_for_state(
        self, name: str, *states: str, namespace: str = "default", within_s: float = LONG_S
    ) -> Document:
        """Wait until a session is in one of these states; its status then.

        Raises:
            AssertionError: it was not in time, or ended otherwise; with its conditions.
        """

        def reached() -> Document | None:
            status = self.session(name, namespace)
            state = status.get("state", "")
            if state in FINAL and state not in states:
                raise AssertionError(f"{namespace}/{name} ended as {state}: {status.get('conditions')}")
            return status if state in states else None

        found: Document = wait_until(f"{namespace}/{name} to be {' or '.join(states)}", reached, within_s)
        return found


def wait_until(what: str, condition: Callable[[], Any], within_s: float, every_s: float = 0.5) -> Any:
    """Look again and again until a condition gives something true; that.

    Raises:
        AssertionError: it did not in time; says what was seen last.
    """
    end = time.monotonic() + within_s
    while True:
        try:
            value = condition()
            seen = repr(value)
        except (KubectlError, subprocess.TimeoutExpired) as error:
            value, seen = None, str(error)
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {within_s:g} s; last seen: {seen[:2000]}")
        time.sleep(every_s)


def condition(status: Mapping[str, Any], type_: str) -> Document:
    """A condition of a status; empty if it is not there."""
    found = [each for each in status.get("conditions", ()) if each["type"] == type_]
    return dict(found[0]) if found else {}
