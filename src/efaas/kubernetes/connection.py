"""How the API server is reached: a kubeconfig file, or what Kubernetes puts into every pod.

Only what a service account or a test needs is understood: a server with a CA, and a token, a token file or a
client certificate. Programs that a kubeconfig would run for a token (``exec``) are not run.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from efaas.errors import ManifestError

_REMEDY = "give one as `kubectl config view --raw` prints it"

IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Connection:
    """Address and credentials of an API server."""

    server: str
    ssl: ssl.SSLContext | None
    token: str | None = None
    token_file: Path | None = None
    ca: str | None = None
    """Certificates, PEM, that the server's own is checked with; None: the system's."""
    certificate: tuple[Path, Path] | None = None
    """Files of the client's certificate and its key."""

    def bearer(self) -> str | None:
        """The token; a token file is read anew, because Kubernetes replaces it every hour."""
        return self.token_file.read_text().strip() if self.token_file is not None else self.token

    def headers(self) -> dict[str, str]:
        """Headers of a request."""
        token = self.bearer()
        return {"Authorization": f"Bearer {token}"} if token else {}


def connect(kubeconfig: Path | None, *, folder: Path = IN_CLUSTER) -> Connection:
    """Find the API server: by a kubeconfig, else as a pod.

    Raises:
        ManifestError: neither is there, or the kubeconfig cannot be used.
    """
    if kubeconfig is not None:
        return _from_kubeconfig(kubeconfig)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (folder / "token").is_file():
        raise ManifestError("not in a pod with a service account; give --kubeconfig", place="kubeconfig")
    host = f"[{host}]" if ":" in host else host
    ca = (folder / "ca.crt").read_text()
    context = ssl.create_default_context(cadata=ca)
    return Connection(f"https://{host}:{port}", context, token_file=folder / "token", ca=ca)


def _from_kubeconfig(path: Path) -> Connection:
    try:
        document = yaml.safe_load(path.read_text())
        context = _named(document, "contexts", document["current-context"])["context"]
        cluster = _named(document, "clusters", context["cluster"])["cluster"]
        user = _named(document, "users", context["user"])["user"]
        server = str(cluster["server"]).rstrip("/")
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}", place=str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ManifestError(f"is not YAML; {_REMEDY}", place=str(path)) from None
    except KeyError as error:
        raise ManifestError(f"is no kubeconfig, {error} is missing; {_REMEDY}", place=str(path)) from None
    except TypeError:
        raise ManifestError(f"is no kubeconfig; {_REMEDY}", place=str(path)) from None
    if "exec" in user or "auth-provider" in user:
        raise ManifestError(
            "needs a program for its token; give one with a token or a certificate", place=str(path)
        )
    if cluster.get("insecure-skip-tls-verify"):
        raise ManifestError(
            "does not check the server's certificate; give certificate-authority", place=str(path)
        )
    tls = ca = certificate = None
    if server.startswith("https:"):
        tls = ssl.create_default_context()
        if "certificate-authority-data" in cluster:
            ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        elif "certificate-authority" in cluster:
            ca = (path.parent / cluster["certificate-authority"]).read_text()
        if ca is not None:
            tls.load_verify_locations(cadata=ca)
        if "client-certificate" in user and "client-key" in user:
            certificate = (path.parent / user["client-certificate"], path.parent / user["client-key"])
            tls.load_cert_chain(*map(str, certificate))
    token_file = Path(path.parent / user["tokenFile"]) if "tokenFile" in user else None
    return Connection(server, tls, user.get("token"), token_file, ca, certificate)


def _named(document: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    for entry in document[kind]:
        if entry["name"] == name:
            found: Mapping[str, Any] = entry
            return found
    raise KeyError(name)
