"""`history.jsonl`: one line for each evaluation of every session, written as they come.

Nothing hangs on this file (the runners' journals are what a run resumes from), so lines are not synced one by
one. A line that was torn by a crash is dropped when the file is opened again.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from efaas.local.folder import finite
from efaas.local.progress import Evaluation


def read_history(path: Path) -> list[Evaluation]:
    """Evaluations of a history, each (session, evaluation) once; lines that cannot be read are left out."""
    seen: dict[tuple[str, int], Evaluation] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                evaluation = Evaluation.from_line(value) if isinstance(value, dict) else None
                if evaluation is not None and evaluation.session:
                    seen.setdefault((evaluation.session, evaluation.evaluation), evaluation)
    except FileNotFoundError:
        pass
    return list(seen.values())


class HistoryWriter:
    """Appends evaluations to a history.

    Args:
        path: the file.
        known: what it held; the file is written anew with it, without torn lines.
    """

    def __init__(self, path: Path, known: list[Evaluation]) -> None:
        beside = path.with_name(f".{path.name}.new")
        self._file = beside.open("w", encoding="utf-8")
        for evaluation in known:
            self.append(evaluation)
        self._file.flush()
        beside.replace(path)

    def append(self, evaluation: Evaluation) -> None:
        """Write one line."""
        json.dump(finite(evaluation.as_line()), self._file, separators=(",", ":"), ensure_ascii=False)
        self._file.write("\n")

    def flush(self) -> None:
        """Hand what was appended to the system, so that readers see it."""
        self._file.flush()

    def __enter__(self) -> HistoryWriter:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()
