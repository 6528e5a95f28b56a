"""What a container would see under its paths, laid out in a folder of the machine.

The played containers are processes without a root file system of their own. So each pod has a folder, each of
its volumes a folder in it (a claim's one outlives the pod), and wherever environment, command or a mounted
ConfigMap name a path in the container, the folder's path is put in its place. What listens on ``0.0.0.0``
listens on the pod's own loopback address, and names of Services become that of the pod behind them, as DNS
would have it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.rest import Document

_SERVICE = re.compile(r"\b([a-z0-9][a-z0-9-]*)\.([a-z0-9][a-z0-9-]*)\.svc(?:\.cluster\.local)?\b")
_API_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
_TERMINATION = "/dev/termination-log"


class Missing(Exception):
    """An object that a volume or a variable needs is not there; the text is the kubelet's."""


class Layout:
    """The folders of one pod.

    Args:
        folder: of the pod.
        claims: folder with those of volume claims.
        pod: as the API server has it.
        address: the pod's.
        resolve: address of a Service's pod by name and namespace; empty if there is none.
        server: the API server's address, ``https://…``.
    """

    def __init__(
        self,
        folder: Path,
        claims: Path,
        pod: Document,
        address: str,
        resolve: Callable[[str, str], str],
        server: str,
    ) -> None:
        self.folder = folder
        self.address = address
        self._pod, self._resolve, self._server = pod, resolve, server
        self._namespace = pod["metadata"]["namespace"]
        self.volumes: dict[str, Path] = {}
        for volume in pod["spec"].get("volumes") or ():
            claim = volume.get("persistentVolumeClaim")
            self.volumes[volume["name"]] = (
                claims / f"{self._namespace}.{claim['claimName']}" if claim else folder / volume["name"]
            )
        container = pod["spec"]["containers"][0]
        self.termination = folder / "termination-log"
        paths = {container.get("terminationMessagePath") or _TERMINATION: self.termination}
        for mount in container.get("volumeMounts") or ():
            paths[mount["mountPath"].rstrip("/")] = self.volumes[mount["name"]]
        self.paths = paths
        longest = sorted(paths, key=len, reverse=True)
        self._pattern = re.compile(
            r"(?<![\w./-])(" + "|".join(re.escape(path) for path in longest) + r")(?![\w.-])"
        )

    def rewrite(self, text: str) -> str:
        """A text as it must read outside of the container."""
        text = self._pattern.sub(lambda found: str(self.paths[found[1]]), text)
        text = text.replace("0.0.0.0:", f"{self.address}:")
        return _SERVICE.sub(lambda found: self._resolve(found[1], found[2]) or found[0], text)

    def command(self, words: list[str]) -> list[str]:
        """A command line as it must read outside of the container.

        ``in-cluster`` means two files at a fixed path that only a container has, so it is spelt out.
        """
        spelt: list[str] = []
        for word in words:
            if (
                word in ("--kubernetes=in-cluster", "--kubernetes", "in-cluster")
                and _API_FOLDER in self.paths
            ):
                if word == "in-cluster":
                    spelt.pop()
                elif word == "--kubernetes":
                    spelt.append(word)
                    continue
                account = self.paths[_API_FOLDER]
                spelt += [
                    f"--kubernetes={self._server}",
                    f"--kubernetes-token-file={account / 'token'}",
                    f"--kubernetes-ca-file={account / 'ca.crt'}",
                ]
            else:
                spelt.append(self.rewrite(word))
        return spelt

    def environment(self, config_map: Callable[[str], Document | None]) -> dict[str, str]:
        """The container's variables.

        Args:
            config_map: finds one of the pod's namespace.

        Raises:
            Missing: one takes its value from what is not there.
        """
        container = self._pod["spec"]["containers"][0]
        variables = {}
        for each in container.get("env") or ():
            source = each.get("valueFrom") or {}
            if "configMapKeyRef" in source:
                reference = source["configMapKeyRef"]
                found = config_map(reference["name"])
                data = (found or {}).get("data") or {}
                if reference["key"] in data:
                    variables[each["name"]] = self.rewrite(data[reference["key"]])
                elif reference.get("optional"):
                    continue
                elif found is None:
                    raise Missing(f'configmap "{reference["name"]}" not found')
                else:
                    place = f"{self._namespace}/{reference['name']}"
                    raise Missing(f"couldn't find key {reference['key']} in ConfigMap {place}")
            elif "fieldRef" in source:
                variables[each["name"]] = self.field(source["fieldRef"]["fieldPath"])
            else:
                variables[each["name"]] = self.rewrite(str(each.get("value", "")))
        return variables

    def write_config_map(self, volume: Mapping[str, Any], found: Document | None, into: Path) -> None:
        """Lay a ConfigMap's keys out as files.

        Args:
            volume: its ``configMap`` source.
            found: the ConfigMap.
            into: folder.

        Raises:
            Missing: it, or one of the keys, is not there.
        """
        name = volume["name"]
        if found is None:
            if volume.get("optional"):
                return
            raise Missing(f'configmap "{name}" not found')
        data = found.get("data") or {}
        items = volume.get("items") or [{"key": key, "path": key} for key in data]
        into.mkdir(parents=True, exist_ok=True)
        for item in items:
            if item["key"] not in data:
                raise Missing(f"configmap references non-existent config key: {item['key']}")
            write(into / item["path"], self.rewrite(data[item["key"]]))

    def last_words(self, log: Path, policy: str, exit_code: int) -> str:
        """The termination message: what the program wrote for it, else the end of its log if it may."""
        text = (
            self.termination.read_bytes()[:4096].decode(errors="replace") if self.termination.exists() else ""
        )
        if not text and policy == "FallbackToLogsOnError" and exit_code != 0 and log.exists():
            lines = log.read_bytes()[-2048:].decode(errors="replace").splitlines()[-80:]
            text = "\n".join(lines)
        return text

    def make(self) -> None:
        """Make the folders that need nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.volumes.values():
            path.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove what does not outlive the pod; its log stays for the reader of a failed test."""
        for path in self.volumes.values():
            if path.parent == self.folder:
                shutil.rmtree(path, ignore_errors=True)

    def field(self, path: str) -> str:
        """What the downward API says of the pod."""
        metadata = self._pod["metadata"]
        known = {
            "metadata.name": metadata["name"],
            "metadata.namespace": self._namespace,
            "metadata.uid": metadata["uid"],
            "spec.nodeName": self._pod["spec"].get("nodeName", ""),
            "status.podIP": self.address,
            "status.hostIP": self.address,
        }
        return str(known[path])


def write(path: Path, text: str) -> None:
    """Put a file in place at once: a program never reads half of it."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_text(text)
    os.replace(fresh, path)
