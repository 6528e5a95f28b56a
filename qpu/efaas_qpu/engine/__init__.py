"""The Aer engine: from a circuit's text to counts and expectation values, in a process of its own.

A pipeline of plain functions, one module each::

    parse        bounded reading of OpenQASM 3 or QPY
    device       a snapshot as a transpiler target; choice of layout; transpilation; duration
    channels     gate errors, decoherence and over-rotations as channels; readout as confusion matrices
    angles       all gate angles of a circuit as one affine map of its parameters
    merging      gates and channels joined into as few superoperators as can be
    plan         the circuit that is simulated: active qubits only, noise in place, prepared once
    simulator    Aer, by its controller (fast path) or by its public interface (fallback)
    observables  grouping of Pauli terms into measurement bases; weights of outcomes, mitigated or not
    sampling     measurement of a state, shots by identity, counts, means
    estimates    evaluations of a job, whole and running
    engine       these together, for one device
    worker       the engine behind a socket, in the worker process
    process      the worker as the server sees it

The server imports `efaas_qpu.engine.messages`, `efaas_qpu.engine.observables` and `efaas_qpu.engine.process`
only; none of them imports Qiskit, which costs half a second and belongs into the worker: Aer holds the
interpreter's lock for as long as it simulates.
"""
