"""The loop of a declared problem: ask, submit, tell, journal, acknowledge, and again.

What was asked and told is on disk (`efaas.runner.trajectory`) before anything new is asked, and only then
is the QPU told that it need not keep the result. What had been submitted when a runner was killed is
submitted again with the same evaluation number, which makes the same job id: the QPU returns its kept
result, or computes the same counts again, and charges nothing twice.

**Which energy is reported.** While it goes on, progress is `Optimizer.estimate`: what the method believes
about where it stands; `best` is the lowest of those. With shot noise the lowest value seen is too low on
average, since it was chosen for its luck too. So the session's result is never that minimum: it is one more
evaluation, with `finalShots`, at `Optimizer.point`, the point that the method itself would return (the last
iterate or an average of iterates for SPSA, QN-SPSA and Adam, the distribution's mean for CMA-ES, the best
vertex or point for Nelder-Mead, COBYLA and Powell, the current minimum for Rotosolve, the lowest point for
a scan). Its shots are new, so it is free of that bias.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efaas.core.qpu.messages import JobKind
from efaas.core.speculation import Mode
from efaas.optimizers.base import Ask
from efaas.optimizers.scan import Scan
from efaas.runner.ahead import Ahead, Inbox, Step
from efaas.runner.foresight import Estimate, Foresight, key_of
from efaas.runner.jobs import JobFuture, Request
from efaas.runner.limits import Limits
from efaas.runner.pending import ForesightLooks, Pending
from efaas.runner.readings import answers_of, estimate_of
from efaas.runner.trajectory import SCAN_WINDOW, Trajectory
from efaas.runner.waiting import Waiting

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.client.results import Evaluation
    from efaas.optimizers.stopping import StoppingRule
    from efaas.runner.dispatch import Dispatcher
    from efaas.runner.prepare import Prepared


class VariationalLoop:
    """One session from wherever its journal says it is to its end.

    Args:
        prepared: circuits, observables and shots of the session.
        trajectory: where it stands.
        dispatcher: takes jobs.
        rule: when the loop is done.
        limits: when it has used too much.
        clock: wall seconds from anywhere; tests bring their own.
        speculation: how far it may run ahead of results; see `docs/speculation.md`.
        twins: for a device, those of the session that give the same counts, bit for bit.
        inbox: of what happens beside the loop; tests bring their own.
    """

    def __init__(
        self,
        prepared: Prepared,
        trajectory: Trajectory,
        dispatcher: Dispatcher,
        rule: StoppingRule,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        *,
        speculation: Mode = Mode.OFF,
        twins: Callable[[str], Sequence[str]] = lambda _: (),
        inbox: Inbox | None = None,
    ) -> None:
        self._prepared = prepared
        self._trajectory = trajectory
        self._optimizer = trajectory.optimizer
        self._dispatcher = dispatcher
        self._rule = rule
        self._clock = clock
        self._started_s = clock() - trajectory.account.elapsed_s
        self._waiting = Waiting(limits, trajectory.account, self._elapsed_s, clock)
        self._iteration_began_s = clock()
        self._cpu_mark_s = time.process_time()
        self._foresight = Foresight(self._optimizer)
        self._ahead: Ahead | None = None
        if speculation is not Mode.OFF and not isinstance(self._optimizer, Scan):
            self._ahead = Ahead(
                speculation,
                dispatcher,
                prepare=lambda asked: asked,
                requests=lambda asked, _, first: self._requests(asked, first, JobKind.SPECULATIVE),
                twins=twins,
                clock=clock,
                inbox=inbox,
            )

    def run(self) -> None:
        """Go on until the final evaluation is in the journal.

        Raises:
            LimitReached: one of the session's limits ended it.
            EfaasError: as the dispatcher's futures raise.
        """
        if self._trajectory.final is not None:
            return
        if isinstance(self._optimizer, Scan):
            self._scan(self._optimizer)
        else:
            while self._goes_on():
                self._iterate()
            if self._ahead is not None:
                self._ahead.end()
        self._evaluate_final()

    def outcome(self) -> dict[str, Any]:
        """The part of `result.json` that is about energy and iterations, as far as it is known now."""
        estimate, final = self._optimizer.estimate, self._trajectory.final
        if final is not None:
            energy, error, point = final["energy"], final["std_error"], final["point"]
        elif estimate is not None:
            energy, error, point = estimate.value, estimate.std_error, estimate.point.tolist()
        else:
            energy = error = point = None
        return {
            "energy": energy,
            "std_error": error,
            "parameters": point,
            "final_evaluation": final is not None,
            "iterations": self._optimizer.iteration,
            "optimizer": self._optimizer.name,
            "stopped_by": self._rule.explain() or self._optimizer.finished or "",
            **({"cut": final["cut"]} if final and "cut" in final else {}),
            **({"speculation": self._ahead.summary()} if self._ahead is not None else {}),
        }

    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def _goes_on(self) -> bool:
        if self._rule.reason is not None or self._optimizer.finished is not None:
            return False
        # The rule on wall time may hold although nothing new was told.
        account = self._trajectory.account
        reason = self._rule.observe(
            iterations=self._optimizer.iteration,
            value=None,
            duration_s=self._elapsed_s() if account.evaluations else 0.0,
            qpu_time_s=account.usage.qpu_s,
        )
        return reason is None

    # --- one iteration ------------------------------------------------------------------------------

    def _iterate(self) -> None:
        asked = self._optimizer.ask()
        first = self._trajectory.next_evaluation
        estimate = None
        if self._ahead is None:
            results, cpu_s = self._run(self._requests(asked, first))
        else:
            results, cpu_s, estimate = self._run_ahead(self._ahead, asked, first)
        answers = answers_of(asked, results)
        if estimate is not None and not estimate.accepts(answers):
            estimate = None
        chosen = self._foresight.take(answers, estimate)
        self._trajectory.add_iteration(
            asked,
            answers,
            results,
            first,
            self._times(cpu_s),
            route=self._dispatcher.route,
            stepped_on=estimate,
            chosen=chosen,
        )
        for result in results:
            self._dispatcher.acknowledge(result.job_id)

    def _run_ahead(
        self, ahead: Ahead, asked: Ask, first: int
    ) -> tuple[list[JobResult], float, Estimate | None]:
        """As `_run`, while the next step is looked for; with the estimate that it was taken on."""
        taken = ahead.decide(Step(key_of(asked), asked))
        self._waiting.check()
        cpu_s = time.process_time() - self._cpu_mark_s
        pending = Pending(
            ahead,
            ForesightLooks(self._foresight, ahead.mode),
            first,
            fidelities=len(asked.overlaps) > 0,
            tolerant=ahead.mode is Mode.TOLERANT,
        )

        def hear(shots: int, evaluations: tuple[Evaluation, ...]) -> None:
            pending.hear_energies(estimate_of(evaluations, shots))

        requests = self._requests(asked, first)
        futures: dict[int, JobFuture] = {}
        # Fidelities first: they have no running estimates, and the next step needs them whole.
        for request in reversed(requests):
            future = self._dispatcher.submit(
                request,
                cpu_s=cpu_s,
                device=taken.device,
                on_partial=hear if request.observables else None,
            )
            futures[request.evaluation] = future
            if not request.observables:
                future.add_done_callback(pending.hear_fidelities)
        in_order = [futures[request.evaluation] for request in requests]
        ahead.submitted(first, in_order, taken.device)
        pending.look_ahead()
        ahead.wait(lambda: self._waiting.look(in_order), pending.heard)
        results = [self._waiting.result(future) for future in in_order]
        ahead.came(results)
        self._cpu_mark_s = time.process_time()
        return results, cpu_s, pending.stepped_on

    def _requests(self, asked: Ask, first: int, kind: JobKind = JobKind.LOOP) -> list[Request]:
        """The jobs of an ask: energies of the points, fidelities of the pairs."""
        prepared = self._prepared
        requests = []
        if len(asked.points):
            requests.append(self._energies(asked.points, prepared.shots, first, kind))
        if len(asked.overlaps):
            pairs = asked.overlaps.reshape(len(asked.overlaps), -1)
            requests.append(
                Request(prepared.overlap_program, pairs, prepared.shots, first + len(requests), kind=kind)
            )
        return requests

    def _energies(self, points: Any, shots: int, evaluation: int, kind: JobKind = JobKind.LOOP) -> Request:
        prepared = self._prepared
        return Request(
            prepared.program,
            points,
            shots,
            evaluation,
            observables=(prepared.terms,),
            readout_mitigation=prepared.readout_mitigation,
            kind=kind,
        )

    def _run(self, requests: Sequence[Request]) -> tuple[list[JobResult], float]:
        """Results of jobs that are submitted together, and the CPU seconds that led to them."""
        self._waiting.check()
        cpu_s = time.process_time() - self._cpu_mark_s
        futures = [self._dispatcher.submit(request, cpu_s=cpu_s) for request in requests]
        results = [self._waiting.result(future) for future in futures]
        self._cpu_mark_s = time.process_time()
        return results, cpu_s

    def _times(self, cpu_s: float) -> dict[str, float]:
        now_s = self._clock()
        iteration_s, self._iteration_began_s = now_s - self._iteration_began_s, now_s
        return {"cpu_s": cpu_s, "elapsed_s": self._elapsed_s(), "iteration_s": iteration_s}

    # --- a scan: many jobs at once, told in any order -----------------------------------------------

    def _scan(self, scan: Scan) -> None:
        """Keep a window of batch jobs on their way; their evaluation numbers are those of the asks."""
        on_the_way: dict[JobFuture, Ask] = {}
        while self._goes_on():
            self._waiting.check()
            sent = {asked.iteration for asked in on_the_way.values()}
            for asked in scan.asks(SCAN_WINDOW):
                if asked.iteration not in sent:
                    (request,) = self._requests(asked, asked.iteration, JobKind.BATCH)
                    on_the_way[self._dispatcher.submit(request)] = asked
            done = self._waiting.some(list(on_the_way))
            for future in done:
                self._take_scanned(scan, on_the_way.pop(future), future.result())
            self._trajectory.flush()
            for future in done:
                self._dispatcher.acknowledge(future.id)
        for future in on_the_way:
            future.cancel()
        # The final evaluation has the same number however many points were told.
        self._trajectory.next_evaluation = scan.total_asks

    def _take_scanned(self, scan: Scan, asked: Ask, result: JobResult) -> None:
        answers = answers_of(asked, [result])
        scan.tell_ask(asked.iteration, answers)
        cpu_s = time.process_time() - self._cpu_mark_s
        self._cpu_mark_s += cpu_s
        self._trajectory.add_iteration(
            asked,
            answers,
            [result],
            asked.iteration,
            self._times(cpu_s),
            route=self._dispatcher.route,
            durable=False,
        )

    # --- the last evaluation ------------------------------------------------------------------------

    def _evaluate_final(self) -> None:
        prepared, first = self._prepared, self._trajectory.next_evaluation
        point = self._optimizer.point[np.newaxis, :]
        requests = [self._energies(point, prepared.final_shots, first)]
        if prepared.sample_program is not None:
            requests.append(Request(prepared.sample_program, point, prepared.final_shots, first + 1))
        results, cpu_s = self._run(requests)
        cut = None
        if prepared.sample_program is not None:
            cut = prepared.best_cut(results[1].evaluations[0].counts_by_bitstring())
        self._trajectory.add_final(
            point[0].tolist(), results, self._times(cpu_s), cut, route=self._dispatcher.route
        )
        for result in results:
            self._dispatcher.acknowledge(result.job_id)
