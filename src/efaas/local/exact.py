"""Exact energies of a run's problems, computed beside it.

Diagonalising 18 qubits takes seconds, which must delay neither the start of a run nor its end by Ctrl-C: a
daemon thread goes through the sessions, smallest first, and puts each energy into its record as it is known.
"""

from __future__ import annotations

import threading

from efaas.local.intake import Plan
from efaas.local.progress import RunRecord
from efaas.problems import exact_ground_energy


class ExactEnergies:
    """Fills in `SessionRecord.exact`.

    Args:
        plan: holds the Hamiltonians.
        record: the run.
    """

    def __init__(self, plan: Plan, record: RunRecord) -> None:
        self._todo = sorted(
            ((facts.hamiltonian, key) for key, facts in plan.facts.items() if facts.hamiltonian is not None),
            key=lambda item: item[0].num_qubits,
        )
        self._record = record
        self._thread = threading.Thread(target=self._compute, name="exact-energies", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Wait until all are known, but not longer than `timeout_s` wall seconds."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _compute(self) -> None:
        for hamiltonian, key in self._todo:
            exact = exact_ground_energy(hamiltonian)
            if exact is not None:
                self._record.sessions[key].exact = exact
