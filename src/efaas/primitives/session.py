"""`Session`: where the jobs of primitives go.

The same class serves a laptop and a runner pod:

- **Outside of a runner** a session starts a QPU server of its own for the backend: a process that ends with
  the session or with the interpreter. With a `folder` the session has a journal there, and a program that is
  run again with the same folder is answered from it.
- **Inside of a runner** (``EFAAS_QPUS`` and the like are set) the primitives use the QPUs and the journal of
  the session that the program runs as. Its device is the one that the session was placed on, so `backend`
  has no say, and its seed is that of the manifest.

`close` means that no more jobs are taken and that those on their way finish; `cancel` drops them.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from efaas.errors import EfaasError, InputError, SessionEnded
from efaas.primitives import registry
from efaas.primitives.announcing import announced, end_server
from efaas.primitives.backend import Backend
from efaas.primitives.durations import seconds
from efaas.primitives.job import PrimitiveJob
from efaas.primitives.local_server import LocalServer
from efaas.primitives.runner_side import in_runner, snapshot_name
from efaas.primitives.transport import Run, RunnerTransport, StreamTransport, Transport, Work

if TYPE_CHECKING:
    from efaas.client import QpuConnection
    from efaas.sdk import Session as ProgramSession

_current: ContextVar[Session | None] = ContextVar("efaas_primitives_session", default=None)
_by_backend: dict[Any, Session] = {}
"""Sessions that were opened for a backend, by its name or object; they end with the interpreter."""
_default: Session | None = None

_LOOK_EVERY_S = 0.1
"""Wall seconds between two looks whether another process has closed the session."""


def session_for(mode: Any, session: Session | None = None, backend: Any = None) -> Session:
    """The session that a primitive's arguments mean; see `EstimatorV2`.

    Raises:
        InputError: more than one of them is given, or it is nothing of the kind.
    """
    global _default
    given = [item for item in (mode, session, backend) if item is not None]
    if len(given) > 1:
        raise InputError("give one of mode, session and backend", place="mode")
    wanted = given[0] if given else _current.get()
    if isinstance(wanted, Session):
        return wanted
    if wanted is None:
        if _default is None or not _default.accepts_jobs or not _default.is_of_this_program():
            _default = Session()
        return _default
    known = _by_backend.get(wanted)
    if known is None or not known.accepts_jobs:
        known = _by_backend[wanted] = Session(wanted)
    return known


class Session:
    """A session on a QPU; a context manager that closes it.

    Args:
        backend: what `Backend` takes, or a `Backend`; the default device if None.
        max_time: wall seconds, or a text such as ``"1h 30m"``, after which jobs are dropped and no more are
            taken.
        seed: of all shots; drawn at random if None.
        noise: whether the device errs; None leaves it to the backend.
        folder: keeps the session's journal and the server's data, so that the program can be run again and
            goes on; a temporary folder if None.

    Raises:
        InputError: an argument has a value that it cannot have.
    """

    def __init__(
        self,
        backend: Any = None,
        max_time: int | float | str | None = None,
        *,
        seed: int | None = None,
        noise: bool | None = None,
        folder: str | Path | None = None,
    ) -> None:
        self._max_time_s = seconds(max_time)
        self._lock = threading.Lock()
        self._jobs = 0
        self._open: set[Run] = set()
        self._usage_s = 0.0
        self._shots = 0
        self._accepting = True
        self._looked_s = 0.0
        self._closing = False
        self._ended = False
        self._tokens: list[Any] = []
        self._seeded: dict[int, Transport] = {}
        self._server: LocalServer | None = None
        self._created = datetime.now(UTC)
        self._deadline_s = None if self._max_time_s is None else time.monotonic() + self._max_time_s
        self._backend: Backend | None = None
        self._program: ProgramSession | None = None
        self._stop: Callable[[], Any] | None = None
        if in_runner():
            self._open_in_runner()
        else:
            made = Backend.of(backend)
            self._open_locally(
                made if noise is None else made.with_noise(noise),
                seed,
                None if folder is None else Path(folder),
            )
        self._limit_time()

    # --- opening ------------------------------------------------------------------------------------

    def _open_in_runner(self) -> None:
        from efaas.sdk import session

        program = self._program = session()
        self._session_id, self._seed = program.key, program.seed
        self._transport: Transport = RunnerTransport(program)

    def _open_locally(self, backend: Backend, seed: int | None, folder: Path | None) -> None:
        self._backend = backend
        self._session_id = str(uuid.uuid4())
        self._seed = secrets.randbits(53) if seed is None else int(seed)
        self._server = server = LocalServer(backend.document(), folder)
        self._client_name = "local/session"
        self._endpoint: Callable[[], str] = functools.partial(
            announced, server, self._session_id, backend.document(), self._seed, self._max_time_s
        )
        self._token = server.token
        if folder is None:
            self._transport = StreamTransport(self._connector(self._client_name, self._seed))
        else:
            self._open_journal(server, folder, 0 if seed is None else self._seed)
        self._stop = weakref.finalize(self, end_server, server, self._session_id, self._transport)
        # The address is made known as soon as the server listens, whether or not a job is sent.
        threading.Thread(target=_quietly, args=(self._endpoint,), daemon=True).start()

    def _open_journal(self, server: LocalServer, folder: Path, seed: int) -> None:
        """A session of the SDK: run again, its n-th submit is answered from the journal."""
        from efaas.api.session import VQASession
        from efaas.runner.environment import QpuTarget, RunnerEnvironment
        from efaas.runner.progress import Progress
        from efaas.sdk import Session as ProgramSession

        document = VQASession.model_validate(
            {
                "metadata": {"name": "session", "namespace": "local"},
                "spec": {"program": {"script": {"name": "program", "key": "main.py"}}, "seed": seed},
            }
        )
        target = QpuTarget("local", address_file=server.address_file, token_file=server.token_file)
        (folder / "journal").mkdir(exist_ok=True)
        environment = RunnerEnvironment(folder / "session.yaml", (target,), folder / "journal")
        self._seed = seed
        self._transport = RunnerTransport(ProgramSession(environment, document, Progress()), owned=True)

    def _connector(self, name: str, seed: int) -> Callable[[], QpuConnection]:
        endpoint, token = self._endpoint, self._token

        def connect() -> QpuConnection:
            from efaas.client import QpuConnection, SessionIdentity

            return QpuConnection(endpoint(), SessionIdentity(name, token=token, seed=seed))

        return connect

    @classmethod
    def from_id(cls, session_id: str, service: Any = None) -> Session:  # noqa: ARG003
        """Attach to a local session whose server still runs, such as one of another process.

        Jobs of the two do not mix: each has its own stream, counts its own submits and sees its own usage.
        Closing the attached session takes no more jobs from either; the server ends with the session that
        started it.

        Args:
            session_id: as `session_id` says.
            service: accepted because qiskit-ibm-runtime takes it; not used.

        Raises:
            InputError: no such session runs, or it is closed.
        """
        if in_runner():
            made = cls()
            if session_id == made.session_id:
                return made
            raise InputError(
                f"{session_id[:80]!r} is another session; a runner can use its own, {made.session_id!r}",
                place="session_id",
            )
        entry = registry.read(session_id)
        return cls._attach(entry)

    @classmethod
    def _attach(cls, entry: registry.Entry) -> Session:
        self = cls.__new__(cls)
        self._max_time_s = entry.max_time_s
        self._lock = threading.Lock()
        self._jobs, self._open, self._usage_s, self._shots = 0, set(), 0.0, 0
        self._accepting, self._looked_s = True, 0.0
        self._closing = self._ended = False
        self._tokens, self._seeded = [], {}
        self._server = None
        self._program = None
        self._created = datetime.fromisoformat(entry.created)
        self._deadline_s = None
        if entry.max_time_s is not None:
            passed_s = (datetime.now(UTC) - self._created).total_seconds()
            self._deadline_s = time.monotonic() + max(0.0, entry.max_time_s - passed_s)
        self._backend = Backend.of_document(entry.document)
        self._session_id, self._seed, self._token = entry.session_id, entry.seed, entry.token
        self._client_name = f"local/attached-{uuid.uuid4().hex[:12]}"
        self._endpoint = functools.partial(str, entry.endpoint)
        self._transport = StreamTransport(self._connector(self._client_name, self._seed))
        self._stop = self._transport.close
        self._limit_time()
        return self

    def _limit_time(self) -> None:
        if self._deadline_s is None:
            return
        reference = weakref.ref(self)

        def expire() -> None:
            session = reference()
            if session is not None:
                session.cancel()

        timer = threading.Timer(max(0.0, self._deadline_s - time.monotonic()), expire)
        timer.daemon = True
        timer.start()

    # --- what people ask ----------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        """Names the session for `from_id`; ``namespace/name`` inside of a runner."""
        return self._session_id

    @property
    def accepts_jobs(self) -> bool:
        """Whether jobs are taken."""
        now_s = time.monotonic()
        if self._server is not None and self._accepting and now_s > self._looked_s + _LOOK_EVERY_S:
            self._looked_s = now_s
            if registry.is_closed(self._session_id):
                self._accepting = False  # by another process that had attached to it
        return self._accepting and not self._ended

    def is_of_this_program(self) -> bool:
        """Whether it uses the session that this program runs as, if it runs as one."""
        if not in_runner():
            return self._program is None
        from efaas.sdk import session

        return self._program is session()

    @property
    def seed(self) -> int:
        """Of all shots."""
        return self._seed

    def backend(self) -> Backend:
        """The device, as a transpiler sees it.

        Raises:
            InputError: a runner's device has a snapshot of its own that is not shipped.
        """
        if self._backend is None:
            assert self._program is not None
            self._backend = Backend(snapshot_name(self._program.device))
        return self._backend

    def status(self) -> str:
        """In the words of qiskit-ibm-runtime: Pending, In progress (accepting jobs or not), or Closed."""
        if self._ended:
            return "Closed"
        if not self._accepting:
            return "In progress, not accepting new jobs"
        return "In progress, accepting new jobs" if self._jobs else "Pending"

    def details(self) -> dict[str, Any]:
        """What is known about the session; ``usage_time`` in device seconds, ``max_time`` in wall seconds."""
        self._settle()
        name = self._program.device if self._program is not None else self.backend().name
        return {
            "id": self.session_id,
            "backend_name": name,
            "mode": "dedicated",
            "state": "closed" if self._ended else "active" if self._jobs else "open",
            "accepting_jobs": self.accepts_jobs,
            "max_time": self._max_time_s,
            "started_at": self._created.isoformat(),
            "usage_time": self._usage_s,
            "shots": self._shots,
            "jobs": self._jobs,
            "seed": self._seed,
        }

    def usage(self) -> float:
        """Device seconds charged for the jobs of this object."""
        self._settle()
        return self._usage_s

    # --- jobs ---------------------------------------------------------------------------------------

    def run(
        self,
        primitive: str,
        work: Sequence[Work],
        assemble: Callable[[Any], Any],
        seed: int | None = None,
    ) -> PrimitiveJob:
        """Send the jobs that one call of a primitive became.

        Args:
            primitive: ``estimator`` or ``sampler``.
            work: jobs for the QPU.
            assemble: makes the primitive's result from theirs.
            seed: of the shots, where the primitive has one of its own.

        Raises:
            SessionEnded: the session is closed.
        """
        if not self.accepts_jobs:
            raise SessionEnded("the session is closed; open a new one", place=f"session {self.session_id}")
        transport = self._transport if seed is None else self._transport_for(seed)
        runs = []
        with self._lock:
            self._jobs += 1
            number = self._jobs
            for one in work:
                run = transport.submit(one)
                self._open.add(run)
                runs.append(run)
        # The QPU is at work now: time to book what has ended before.
        self._settle()
        return PrimitiveJob(f"{self.session_id}-{number}", self.session_id, primitive, runs, assemble)

    def _transport_for(self, seed: int) -> Transport:
        """A stream on which the same job gives the same result, whatever was sent before."""
        if isinstance(self._transport, RunnerTransport):
            if self._transport.session.seed != seed:
                warnings.warn(
                    "the shots of a session with a journal are seeded by the session's own seed; the seed of "
                    "the primitive's options is not used",
                    stacklevel=4,
                )
            return self._transport
        with self._lock:
            if seed not in self._seeded:
                self._seeded[seed] = StreamTransport(
                    self._connector(f"{self._client_name}-seeded-{seed}", seed), numbered=False
                )
            return self._seeded[seed]

    def _settle(self) -> bool:
        """Book what has ended; whether nothing is left and nothing more is taken."""
        with self._lock:
            for run in [run for run in self._open if run.done()]:
                self._open.discard(run)
                if run.exception() is None:
                    result = run.result()
                    self._usage_s += result.qpu_s
                    self._shots += result.shots
            return not self._accepting and not self._open and not self._ended

    def _note_end(self, _: Any) -> None:
        if self._settle():
            # Not here: this is the thread that brings results, and ending waits for it.
            threading.Thread(target=self._end, name="session-end").start()

    def tell(self, value: float, std_error: float) -> None:
        """Report a value as the program's progress, if somebody follows that."""
        if self._program is not None:
            self._program.report(value, std_error)

    # --- ending -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more jobs; those on their way finish, then the server ends."""
        with self._lock:
            self._accepting = False
        if self._server is None and self._program is None:
            registry.mark_closed(self._session_id)
        if self._settle():
            self._end()
        else:
            with self._lock:
                runs = [] if self._closing else list(self._open)
                self._closing = True
            for run in runs:
                run.add_done_callback(self._note_end)

    def cancel(self) -> None:
        """Take no more jobs and drop those on their way."""
        self.close()
        with self._lock:
            runs = list(self._open)
        for run in runs:
            run.cancel()

    def _end(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            transports = [self._transport, *self._seeded.values()]
        for transport in transports:
            transport.close()
        if self._stop is not None:
            self._stop()

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._tokens.pop())
        self.close()


def _quietly(call: Callable[[], Any]) -> None:
    with contextlib.suppress(EfaasError, OSError):
        call()
