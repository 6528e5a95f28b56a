"""Primitives inside of a runner: whether this is one, and which device it was placed on."""

from __future__ import annotations

import os

from efaas.errors import InputError, QpuUnavailable


def in_runner() -> bool:
    """Whether this program runs as a session of EFaaS."""
    return bool(os.environ.get("EFAAS_QPUS"))


def snapshot_name(device: str) -> str:
    """Name of the snapshot of a runner's device, as its server says."""
    import grpc

    from efaas.api.wire import qpu_pb2, qpu_pb2_grpc
    from efaas.runner.environment import RunnerEnvironment

    targets = [target for target in RunnerEnvironment.read().qpus if target.device == device]
    for target in targets:
        try:
            with grpc.insecure_channel(target.address()) as channel:
                stub = qpu_pb2_grpc.QpuStub(channel)  # type: ignore[no-untyped-call]
                return str(stub.Describe(qpu_pb2.DescribeRequest(), timeout=10.0).snapshot)
        except grpc.RpcError as error:
            raise QpuUnavailable(
                f"its server does not say what it is: {error.details()}", place=f"device {device}"
            ) from None
    raise InputError(f"there is no device {device!r} among the session's QPUs", place="EFAAS_QPUS")
