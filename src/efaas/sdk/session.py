"""The session that a program runs as.

**Replay.** Every submit has a number, from 0 in the order of the program. Its result goes into the journal,
with digests of what was asked, before the program sees it. When the program is run again, submit n is
answered from the journal if it asks the same; if it asks something else, `ProgramNotDeterministic` says
what differs. A submit without a record (it was on its way when the program ended) is sent again under the
same job id, so a result that the QPU has kept is not computed, and never charged, twice.

**Limits.** A watch looks at `spec.limits` four times a second. When one is reached, all futures fail with
`LimitReached`, nothing more can be submitted, and the runner that hosts the program ends it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from efaas.core.qpu.messages import JobKind
from efaas.errors import InputError, SessionEnded
from efaas.journal import open_journal
from efaas.runner.environment import RunnerEnvironment
from efaas.runner.jobs import Connect, Request
from efaas.runner.journalled import last_device
from efaas.runner.limits import Limits
from efaas.runner.main import Interrupted, closing, dispatcher_for
from efaas.runner.progress import Progress
from efaas.runner.waiting import LimitReached
from efaas.sdk.answers import Answers
from efaas.sdk.arguments import Circuits, as_observables, check_parameters
from efaas.sdk.future import QuantumFuture
from efaas.sdk.replay import asked_of, must_agree
from efaas.sdk.reports import Reports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from efaas.api.session import VQASession
    from efaas.core.speculation import Mode
    from efaas.optimizers.base import Optimizer, Outlook
    from efaas.runner.ahead import Ahead, Workers
    from efaas.runner.foresight import Estimate
    from efaas.sdk.loop import LoopReport

_WATCH_S = 0.25


class Session:
    """See the module's text; programs get theirs from `efaas.session()`.

    Args:
        environment: of the runner.
        document: the VQASession.
        progress: hears how it gets on.
        connect: makes connections; tests bring their own.
        on_limit: called, from the watch, when a limit is reached.
        clock: wall seconds from anywhere.
    """

    def __init__(
        self,
        environment: RunnerEnvironment,
        document: VQASession,
        progress: Progress,
        *,
        connect: Connect | None = None,
        on_limit: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._document = document
        self._progress = progress
        self._clock = clock
        self._on_limit = on_limit
        self._limits = Limits.from_spec(document.spec.limits)
        self._twins_of = environment.twins_of
        self._circuits = Circuits()
        self._reports = Reports(progress)
        self._lock = threading.RLock()
        # Under the lock:
        self._submits = 0
        self._last_result_s = clock()
        self._limit: LimitReached | None = None
        self._closed = False
        journal = open_journal(environment.journal, "session", document.key, environment.lease_epoch)
        try:
            self._answers = Answers(
                journal, self.key, self.seed, self._elapsed_s, self._acknowledge, self._take, self._fault
            )
            self._started_s = clock() - self._answers.alive_s
            options: dict[str, Any] = {"begin_at": last_device(journal.records())}
            if connect is not None:
                options["connect"] = connect
            self._dispatcher = dispatcher_for(environment, document, progress, **options)
        except BaseException:
            journal.close()
            raise
        self._journal = journal
        self._cpu_mark_s = time.process_time()
        self._wake = threading.Event()
        threading.Thread(target=self._watch, name="session-watch", daemon=True).start()

    # --- what a program asks ------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The session's name."""
        return self._document.metadata.name

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return self._document.key

    @property
    def seed(self) -> int:
        """`spec.seed`: what the program's random numbers must be seeded with, so that it can be resumed."""
        return self._document.spec.seed

    @property
    def shots(self) -> int:
        """`spec.shots`: shots for each basis of each point unless a submit says otherwise."""
        return self._document.spec.shots

    def submit(
        self,
        circuit: Any,
        parameters: Any = None,
        observable: Any = None,
        shots: int | None = None,
        *,
        readout_mitigation: bool | None = None,
        per_shot: bool = False,
        batch: bool = False,
    ) -> QuantumFuture:
        """Send a job to the QPU, or find its result in the journal; returns at once.

        Args:
            circuit: Qiskit's QuantumCircuit, OpenQASM 3 text or QPY bytes.
            parameters: values in the order of ``circuit.parameters``, radians: a vector, or a list of
                vectors for many points in one job.
            observable: a SparsePauliOp or a list of (Pauli string, coefficient), qubit 0 rightmost, or
                several of them; None: outcomes are returned (of the circuit's own measurements, or of all
                qubits).
            shots: for each point and measurement basis; `shots` of the session if not given.
            readout_mitigation: whether values are corrected; as the session says if not given.
            per_shot: outcomes in the order of shots rather than counted.
            batch: not an iteration of a loop but work that can wait.

        Raises:
            InputError: the arguments do not fit together; nothing was sent.
            ProgramNotDeterministic: the journal says that this submit asked something else before.
            SessionEnded: the session is closed, or one of its limits is reached.
        """
        request = self.request(
            circuit,
            parameters,
            observable,
            shots,
            readout_mitigation=readout_mitigation,
            per_shot=per_shot,
            kind=JobKind.BATCH if batch else JobKind.LOOP,
        )
        with self._lock:
            return self.dispatch(replace(request, evaluation=self._submits))

    def loop(
        self,
        first: Any,
        decide: Callable[[Any], Any],
        prepare: Callable[[Any], Any],
        *,
        predict: Callable[[Any], Iterable[Any]] | None = None,
        speculation: str | None = None,
        workers: int | None = None,
    ) -> LoopReport:
        """Run a loop of your own: a point is prepared, evaluated, and the result decides the next point.

        Args:
            first: the first point; any picklable value, such as a vector.
            decide: from a result (`values`, `std_errors`) to the next point; None ends the loop. It must be
                quick; in Tolerant mode it sees running estimates too, so it must remember nothing.
            prepare: from a point to a `NextJob`; this is the costly part that speculation hides. A function
                of the point alone, which other processes can run.
            predict: from the pending point to points that may come next, likeliest first.
            speculation: Off, Exact or Tolerant; as `spec.speculation` says if not given.
            workers: steps that may run ahead at once; as many as there are spare CPUs if not given.

        Raises:
            EfaasError: as `submit`, and as the jobs end.
        """
        from efaas.sdk.loop import run_loop
        from efaas.sdk.steps import UserSteps

        return run_loop(self, UserSteps(first, decide, predict), prepare, speculation, workers)

    def minimize(
        self,
        optimizer: Optimizer,
        circuit: Any,
        observable: Any,
        *,
        iterations: int,
        shots: int | None = None,
        prepare: Callable[..., Any] | None = None,
        predict: Callable[[Any], Iterable[Any]] | None = None,
        outline: Callable[[Outlook], Any] | None = None,
        speculation: str | None = None,
        workers: int | None = None,
    ) -> LoopReport:
        """Minimise an expectation value with an optimizer of `efaas.optimizers`.

        Args:
            optimizer: told of each result; its `iteration` counts.
            circuit: as in `submit`.
            observable: one observable.
            iterations: after which it ends.
            shots: as in `submit`.
            prepare: from the points to be evaluated, shape (points, parameters), to a `NextJob` or to
                parameters; nothing costly if not given.
            predict: from the pending points to arrays of points that may come next, after what the
                optimizer foresees itself.
            outline: for SPSA and QN-SPSA, whose next points are known up to one number: from that line
                (`efaas.optimizers.Outlook`) to anything that `prepare` can use. It is the costly part then,
                and runs while the QPU measures; `prepare(points, outlined)` is called with what it gave, or
                with None where there was no line (the first points).
            speculation: Off, Exact or Tolerant; as `spec.speculation` says if not given.
            workers: steps that may run ahead at once; as many as there are spare CPUs if not given.

        Raises:
            EfaasError: as `submit`, and as the jobs end.
        """
        from efaas.sdk.loop import run_loop
        from efaas.sdk.steps import NextJob, OptimizerSteps

        steps = OptimizerSteps(optimizer, iterations, predict, self.report, circuit)
        usual = NextJob(circuit, observable=observable, shots=shots)
        return run_loop(self, steps, prepare, speculation, workers, usual, outline)

    def request(
        self,
        circuit: Any,
        parameters: Any = None,
        observable: Any = None,
        shots: int | None = None,
        *,
        readout_mitigation: bool | None = None,
        per_shot: bool = False,
        kind: JobKind = JobKind.LOOP,
        number: int = 0,
    ) -> Request:
        """What `submit` would send, checked; for loops.

        Raises:
            InputError: as `submit`.
        """
        points = check_parameters(circuit, parameters)
        observables = as_observables(observable, getattr(circuit, "num_qubits", None))
        program = self._circuits.program(circuit, measured=not observables)
        mitigated = (
            self._document.spec.readout_mitigation if readout_mitigation is None else readout_mitigation
        )
        count = self.shots if shots is None else int(shots)
        if count < 1:
            raise InputError(f"is {count}; at least 1 is needed", place="shots")
        return Request(
            program,
            points,
            count,
            number,
            observables=observables,
            readout_mitigation=mitigated and bool(observables),
            per_shot=per_shot,
            kind=kind,
        )

    def dispatch(self, request: Request, *, device: str = "", step: str = "") -> QuantumFuture:
        """Send the next submit, or find its result in the journal; for loops.

        Args:
            request: its `evaluation` is `next_number`.
            device: where its speculative job runs.
            step: digest of the step that led to it, kept in the journal.

        Raises:
            ProgramNotDeterministic, SessionEnded: as `submit`.
        """
        with self._lock:
            self._must_go_on()
            number = request.evaluation
            asked = asked_of(request)
            record = self._answers.record(number)
            if record is not None:
                must_agree(number, record["asked"], asked)
            self._submits += 1
            cpu_now_s = time.process_time()
            cpu_s, self._cpu_mark_s = cpu_now_s - self._cpu_mark_s, cpu_now_s
            if record is not None:
                return self._answers.replayed(record)
            if self._answers.is_where_it_stopped(number):
                self._progress.say("waiting for the QPU" if number == 0 else f"goes on at submit {number}")
            future = QuantumFuture(number, self._dispatcher.name(request))
            job = self._dispatcher.submit(request, cpu_s=cpu_s, device=device, on_partial=future.take_partial)
            future.cancels_with(job.cancel)
            about = {"number": number, "asked": asked, "cpu_s": cpu_s, **({"step": step} if step else {})}
            self._answers.expect(job, future, about)
        return future

    @property
    def next_number(self) -> int:
        """Number of the next submit."""
        return self._submits

    def replay_step(self, step: str, count: int) -> list[QuantumFuture]:
        """The results of the next submits, if the journal has all of them for the same step; else nothing.

        Then nothing is prepared.
        """
        with self._lock:
            self._must_go_on()
            records = [self._answers.record(self._submits + index) for index in range(count)]
            known = [record for record in records if record is not None and record.get("step") == step]
            if len(known) < count:
                return []
            self._submits += count
            return [self._answers.replayed(record) for record in known]

    def step_on(self, future: QuantumFuture, estimate: Estimate) -> None:
        """The next step was taken on this estimate; it stands if the result is close enough."""
        self._answers.step_on(future, estimate)

    def ahead_of(
        self,
        mode: Mode,
        prepare: Callable[[Any], Any],
        requests: Callable[[Any, Any, int], Sequence[Request]],
        workers: Workers | None,
    ) -> Ahead:
        """Speculation for a loop; what it comes to goes into the session's result."""
        from efaas.runner.ahead import Ahead

        ahead = Ahead(
            mode,
            self._dispatcher,
            prepare=prepare,
            requests=requests,
            workers=workers,
            twins=self._twins_of,
            clock=self._clock,
        )
        self._reports.loops.append(ahead)
        return ahead

    @property
    def speculation(self) -> str:
        """`spec.speculation`."""
        return self._document.spec.speculation.value

    def energy(
        self,
        circuit: Any,
        parameters: Any,
        observable: Any,
        shots: int | None = None,
        *,
        readout_mitigation: bool | None = None,
    ) -> Any:
        """Expectation value of one observable, waited for.

        Arguments and errors are those of `submit`, errors of the job are raised too.

        Returns:
            A float for one point; an array of the shape (points,) for a list of points.
        """
        result = self.submit(
            circuit, parameters, observable, shots, readout_mitigation=readout_mitigation
        ).result()
        values = result.values[:, 0]
        return float(values[0]) if np.ndim(parameters) < 2 else values

    def report(self, value: float, std_error: float | None = None) -> None:
        """Say where the program stands: the energy that its last evaluation came to."""
        self._reports.report(float(value), None if std_error is None else float(std_error))

    def finish(self, *, energy: float | None = None, parameters: Any = None, **further: Any) -> None:
        """Say what the session's result is; the last call counts.

        Args:
            energy: the result; the value reported last if not given.
            parameters: the point it belongs to.
            further: JSON-ready values that go into `result.json` under ``further``.

        Raises:
            InputError: the values cannot be written as JSON.
        """
        result = self._reports.result(energy, parameters, further)
        self._answers.append("finish", result)
        self._reports.finish(result)

    def outcome(self) -> dict[str, Any]:
        """The part of `result.json` that the program determines."""
        return self._reports.outcome()

    def summary(self) -> dict[str, Any]:
        """Use, times and devices so far, as in `result.json`."""
        return self._reports.summary()

    @property
    def limit(self) -> LimitReached | None:
        """The limit that ended the session, if one did."""
        return self._limit

    @property
    def device(self) -> str:
        """The device in use."""
        return self._dispatcher.device

    def close(self, *, over: bool = True) -> None:
        """End the session's connection; what is not done fails, and closing twice does nothing.

        Args:
            over: whether the session is; if another process will go on with it, its jobs are left to that.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._reports.flush()
        self._wake.set()
        closing(functools.partial(self._dispatcher.close, over=over))
        self._answers.close()
        closing(self._journal.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A signal that no limit sent ends this process, not the session.
        self.close(over=self._limit is not None or not isinstance(error, Interrupted))

    # --- results ------------------------------------------------------------------------------------

    def _must_go_on(self) -> None:
        if self._limit is not None:
            raise LimitReached(self._limit.message)
        if self._closed:
            raise SessionEnded("the session is closed", place=self.key)

    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def _acknowledge(self, name: str) -> None:
        self._dispatcher.acknowledge(name)

    def _take(self, record: Mapping[str, Any]) -> None:
        with self._lock:
            self._last_result_s = self._clock()
        self._reports.take(record)

    def _fault(self) -> Exception | None:
        return LimitReached(self._limit.message) if self._limit else None

    # --- limits -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._wake.wait(_WATCH_S):
            with self._lock:
                now_s = self._clock()
                idle_s = 0.0 if self._answers.pending() else now_s - self._last_result_s
                reason = self._limits.reached(self._reports.usage, self._elapsed_s(), idle_s)
                if reason is None:
                    continue
                self._limit = LimitReached(reason)
            for job in self._answers.pending():
                job.cancel()
            if self._on_limit is not None:
                self._on_limit()
            return
