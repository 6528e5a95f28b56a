"""The session that a program runs as.

**Replay.** Every submit has a number, from 0 in the order of the program. Its result goes into the journal,
with digests of what was asked, before the program sees it. When the program is run again, submit n is
answered from the journal if it asks the same; if it asks something else, `ProgramNotDeterministic` says
what differs. A submit without a record (it was on its way when the program ended) is sent again under the
same job id, so a result that the QPU has kept is not computed, and never charged, twice.

**Progress.** `report` says what the last evaluation came to; each counts as one iteration. Evaluations that
nothing is reported about are told of as well, without an energy, so times and use are complete.

**Limits.** A watch looks at `spec.limits` four times a second. When one is reached, all futures fail with
`LimitReached`, nothing more can be submitted, and the runner that hosts the program ends it.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from efaas.core.qpu.messages import JobKind
from efaas.errors import InputError, SessionEnded
from efaas.journal import open_journal
from efaas.optimizers.base import Tell
from efaas.runner.account import Account
from efaas.runner.environment import RunnerEnvironment
from efaas.runner.foresight import Estimate
from efaas.runner.jobs import Connect, JobFuture, Request
from efaas.runner.journalled import result_from_record, result_record
from efaas.runner.limits import Limits
from efaas.runner.main import closing, dispatcher_for
from efaas.runner.progress import Progress
from efaas.runner.waiting import LimitReached
from efaas.sdk.arguments import Circuits, as_observables, check_parameters
from efaas.sdk.future import QuantumFuture
from efaas.sdk.replay import asked_of, must_agree

if TYPE_CHECKING:
    from efaas.api.session import VQASession
    from efaas.client import JobResult
    from efaas.core.speculation import Mode
    from efaas.optimizers.base import Optimizer
    from efaas.runner.ahead import Ahead, Workers
    from efaas.sdk.loop import LoopReport

PROGRAM_FORMAT = 1
"""Version of a program's journal."""

_WATCH_S = 0.25

_current: Session | None = None
_current_lock = threading.Lock()


def session() -> Session:
    """The session this program runs as, the same each time.

    Raises:
        InputError: the program was not started as a session; `efaas run` starts it as one.
        SessionEnded: another runner has taken the session over.
    """
    global _current
    with _current_lock:
        if _current is None:
            environment = RunnerEnvironment.read()
            _current = Session(
                environment, environment.load_session(), Progress(environment.progress_fd, sys.stderr)
            )
        return _current


def adopt(made: Session | None) -> None:
    """Make this what `session()` returns; a runner does so before the program that it hosts begins."""
    global _current
    with _current_lock:
        _current = made


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
        self._loops: list[Ahead] = []
        self._journal = open_journal(environment.journal, "session", document.key, environment.lease_epoch)
        self._account = Account()
        self._circuits = Circuits()
        self._lock = threading.RLock()
        # Under the lock:
        self._submits = 0
        self._reports = 0
        self._reported: dict[str, Any] = {}
        self._finished: dict[str, Any] | None = None
        self._untold: list[dict[str, Any]] = []
        self._open: dict[JobFuture, tuple[QuantumFuture, dict[str, Any]]] = {}
        self._last_result_s = clock()
        self._limit: LimitReached | None = None
        self._closed = False
        try:
            self._records, elapsed_s = self._read_journal()
            self._started_s = clock() - elapsed_s
            self._replayed_until_s = elapsed_s
            options: dict[str, Any] = {} if connect is None else {"connect": connect}
            self._dispatcher = dispatcher_for(environment, document, progress, **options)
        except BaseException:
            self._journal.close()
            raise
        self._cpu_mark_s = time.process_time()
        self._done: queue.SimpleQueue[JobFuture | None] = queue.SimpleQueue()
        self._settler = threading.Thread(target=self._settle_all, name="session-settler", daemon=True)
        self._settler.start()
        self._wake = threading.Event()
        threading.Thread(target=self._watch, name="session-watch", daemon=True).start()

    def _read_journal(self) -> tuple[dict[int, dict[str, Any]], float]:
        """Records of submits by number, and the wall seconds that the session was alive before."""
        header = {
            "kind": "program",
            "format": PROGRAM_FORMAT,
            "session": self.key,
            "seed": self.seed,
        }
        records = list(self._journal.records())
        if not records:
            self._journal.append(header, durable=False)
        elif records[0] != header:
            raise InputError(
                "was begun by another session; put back the manifest that it was begun with, or start anew",
                place="journal",
            )
        submits = {record["number"]: record for record in records[1:] if record["kind"] == "submit"}
        return submits, max((record["elapsed_s"] for record in records[1:]), default=0.0)

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
        from efaas.sdk.loop import UserSteps, run_loop

        return run_loop(self, UserSteps(first, decide, predict), prepare, speculation, workers)

    def minimize(
        self,
        optimizer: Optimizer,
        circuit: Any,
        observable: Any,
        *,
        iterations: int,
        shots: int | None = None,
        prepare: Callable[[Any], Any] | None = None,
        predict: Callable[[Any], Iterable[Any]] | None = None,
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
            speculation: Off, Exact or Tolerant; as `spec.speculation` says if not given.
            workers: steps that may run ahead at once; as many as there are spare CPUs if not given.

        Raises:
            EfaasError: as `submit`, and as the jobs end.
        """
        from efaas.sdk.loop import NextJob, OptimizerSteps, run_loop

        steps = OptimizerSteps(optimizer, iterations, predict, self.report)
        usual = NextJob(circuit, observable=observable, shots=shots)
        return run_loop(self, steps, prepare, speculation, workers, usual)

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
            record = self._records.get(number)
            if record is not None:
                must_agree(number, record["asked"], asked)
            self._submits += 1
            cpu_now_s = time.process_time()
            cpu_s, self._cpu_mark_s = cpu_now_s - self._cpu_mark_s, cpu_now_s
            if record is not None:
                return self._replayed(number, record)
            if number == 0 or number - 1 in self._records:
                self._progress.say("waiting for the QPU" if number == 0 else f"goes on at submit {number}")
            future = QuantumFuture(number, self._dispatcher.name(request))
            job = self._dispatcher.submit(request, cpu_s=cpu_s, device=device, on_partial=future.take_partial)
            future.cancels_with(job.cancel)
            about = {"number": number, "asked": asked, "cpu_s": cpu_s, **({"step": step} if step else {})}
            self._open[job] = (future, about)
        job.add_done_callback(lambda ended: self._done.put(ended))  # type: ignore[arg-type]
        return future

    @property
    def next_number(self) -> int:
        """Number of the next submit."""
        return self._submits

    def replay_step(self, step: str) -> QuantumFuture | None:
        """The next submit's result, if the journal has it for the same step; then nothing is prepared."""
        with self._lock:
            self._must_go_on()
            record = self._records.get(self._submits)
            if record is None or record.get("step") != step:
                return None
            self._submits += 1
            return self._replayed(record["number"], record)

    def step_on(self, future: QuantumFuture, estimate: Estimate) -> None:
        """The next step was taken on this estimate; it stands if the result is close enough."""
        with self._lock:
            if any(future is open_future for open_future, _ in self._open.values()):
                future.stepped_on = estimate

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
        self._loops.append(ahead)
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
        energy = float(value)
        with self._lock:
            self._reported = {"energy": energy, "std_error": std_error}
            self._account.best = min(self._account.best, energy)
            self._tell(energy, None if std_error is None else float(std_error))
            self._reports += 1

    def finish(self, *, energy: float | None = None, parameters: Any = None, **further: Any) -> None:
        """Say what the session's result is; the last call counts.

        Args:
            energy: the result; the value reported last if not given.
            parameters: the point it belongs to.
            further: JSON-ready values that go into `result.json` under ``further``.

        Raises:
            InputError: the values cannot be written as JSON.
        """
        with self._lock:
            finished: dict[str, Any] = dict(self._reported)
            if energy is not None:
                finished = {"energy": float(energy), "std_error": None}
            if parameters is not None:
                finished["parameters"] = np.asarray(parameters, dtype=np.float64).tolist()
            if further:
                finished["further"] = further
            self._journal.append({"kind": "finish", "elapsed_s": self._elapsed_s(), **finished})
            self._finished = finished

    def outcome(self) -> dict[str, Any]:
        """The part of `result.json` that the program determines."""
        with self._lock:
            finished = self._reported if self._finished is None else self._finished
            return {
                "energy": None,
                "std_error": None,
                "parameters": None,
                "final_evaluation": self._finished is not None,
                "iterations": self._reports,
                "optimizer": "program",
                "stopped_by": "the program ended",
                **({"speculation": summed([each.summary() for each in self._loops])} if self._loops else {}),
                **finished,
            }

    def summary(self) -> dict[str, Any]:
        """Use, times and devices so far, as in `result.json`."""
        with self._lock:
            self._flush_untold()
            return self._account.summary()

    @property
    def limit(self) -> LimitReached | None:
        """The limit that ended the session, if one did."""
        return self._limit

    @property
    def device(self) -> str:
        """The device in use."""
        return self._dispatcher.device

    def close(self) -> None:
        """End the session's connection; what is not done fails, and closing twice does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._flush_untold()
        self._wake.set()
        closing(self._dispatcher.close)
        self._done.put(None)
        self._settler.join(timeout=2.0)
        closing(self._journal.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- results ------------------------------------------------------------------------------------

    def _must_go_on(self) -> None:
        if self._limit is not None:
            raise LimitReached(self._limit.message)
        if self._closed:
            raise SessionEnded("the session is closed", place=self.key)

    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def _replayed(self, number: int, record: dict[str, Any]) -> QuantumFuture:
        job = record["jobs"][0]
        future = QuantumFuture(number, job["id"])
        if "stepped_on" in record:
            future.stepped_on = Estimate.from_record(record["stepped_on"])
        self._take(record)
        future.set_result(result_from_record(job))
        return future

    def _take(self, record: Mapping[str, Any]) -> None:
        self._account.take(record)
        self._untold.append(self._account.event({**record, "iteration": 0}))

    def _settle_all(self) -> None:
        """Write results down and hand them out, in the order in which they come."""
        while (job := self._done.get()) is not None:
            with self._lock:
                future, about = self._open.pop(job)
            try:
                result = job.result()
                if future.stepped_on is not None and not future.stepped_on.accepts(_told(result)):
                    future.stepped_on = None
                stepped_on = future.stepped_on
                record = {
                    "kind": "submit",
                    **about,
                    **({"stepped_on": stepped_on.record()} if stepped_on is not None else {}),
                    "elapsed_s": self._elapsed_s(),
                    "jobs": [result_record(result, about["number"])],
                }
                self._journal.append(record)
            except BaseException as error:
                future.set_exception(LimitReached(self._limit.message) if self._limit else error)
                continue
            self._dispatcher.acknowledge(result.job_id)
            with self._lock:
                self._last_result_s = self._clock()
                self._take(record)
            future.set_result(result)

    # --- progress -----------------------------------------------------------------------------------

    def _tell(self, energy: float | None, std_error: float | None) -> None:
        """Tell of the evaluations since the last time; the newest one has this energy."""
        best = self._account.best if self._account.best < float("inf") else None
        for event in self._untold[:-1]:
            self._progress.iteration({**event, "iteration": self._reports, "best": best})
        for event in self._untold[-1:]:
            self._progress.iteration(
                {**event, "iteration": self._reports, "energy": energy, "std_error": std_error, "best": best}
            )
        self._untold.clear()

    def _flush_untold(self) -> None:
        self._tell(None, None)

    # --- limits -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._wake.wait(_WATCH_S):
            with self._lock:
                now_s = self._clock()
                idle_s = 0.0 if self._open else now_s - self._last_result_s
                reason = self._limits.reached(self._account.usage, self._elapsed_s(), idle_s)
                if reason is None:
                    continue
                self._limit = LimitReached(reason)
                jobs = list(self._open)
            for job in jobs:
                job.cancel()
            if self._on_limit is not None:
                self._on_limit()
            return


def _told(result: JobResult) -> Tell:
    return Tell(result.values.ravel(), result.std_errors.ravel())


def summed(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the loops of a session came to together."""
    total = dict(summaries[-1])
    for name, value in total.items():
        if isinstance(value, int | float) and name != "hit_rate":
            total[name] = sum(summary[name] for summary in summaries)
    total["hit_rate"] = total["hits"] / total["evaluations"] if total["evaluations"] else 0.0
    return total
