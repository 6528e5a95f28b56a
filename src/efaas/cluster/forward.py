"""A way to a service inside the cluster: ``kubectl port-forward`` on a port of this machine, for a while."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator

from efaas.cluster.connection import Cluster
from efaas.errors import EfaasError, InputError

_PATIENCE_S = 15.0
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")


@contextlib.contextmanager
def forwarded(cluster: Cluster, namespace: str, target: str, port: int) -> Iterator[str]:
    """``127.0.0.1:PORT`` that leads to a port of a pod or Service as long as the context lasts.

    Args:
        cluster: where.
        namespace: of the target.
        target: such as ``service/efaas-gateway`` or ``pod/efaas-scheduler-0``.
        port: of the target.

    Raises:
        InputError: kubectl is not on PATH.
        EfaasError: it cannot be reached.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise InputError("is not on PATH; install it, it carries the way into the cluster", place="kubectl")
    command = [
        kubectl,
        *cluster.kubectl_options,
        "-n",
        namespace,
        "port-forward",
        "--address=127.0.0.1",
        target,
    ]
    with subprocess.Popen(
        [*command, f":{port}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        watchdog = threading.Timer(_PATIENCE_S, process.kill)
        watchdog.start()
        readers: list[threading.Thread] = []
        try:
            found = _FORWARDING.match(process.stdout.readline())
            watchdog.cancel()
            if found is None:
                process.kill()
                words = process.stderr.read().strip().splitlines()
                raise EfaasError(
                    f"cannot be reached: {words[-1] if words else f'no answer in {_PATIENCE_S:g} s'}",
                    place=f"{namespace}/{target}",
                )
            # kubectl tells of each connection: somebody has to read that, or it stops when the pipe is full.
            for stream in (process.stdout, process.stderr):
                readers.append(threading.Thread(target=stream.read, daemon=True))
                readers[-1].start()
            yield f"127.0.0.1:{found.group(1)}"
        finally:
            watchdog.cancel()
            process.kill()
            for reader in readers:
                reader.join()
