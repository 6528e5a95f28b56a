"""The QPU server: one simulated device, shared by the sessions that stream to it.

::

    cli, serve, device_server  the process
    stream, requests    bytes of clients, decoded and bounded
    host, sessions      who is here, what they registered, their jobs
    driver, jobs, clock the device: decisions of `efaas.core.qpu` carried out
    ledger              what survives a kill
    engine              Aer, in a process of its own
    metrics, description what others see

Nothing here but the engine's worker imports Qiskit, so that a server starts in a fraction of a second.
"""
