"""The CEL rules of the CRDs: what the API server can judge beyond the shape of a document.

Each rule says the same as a check that `efaas run` makes (the models' validators, the optimizers' ranges, the
queue's configuration), so that a mistake is told by ``kubectl apply`` and not by a pod that fails. What needs
mathematics (is the Hamiltonian Hermitian, does the circuit fit a device) stays the operator's.

What must not change is said here as well: a session's journal was made with its first specification, and a
device's past was drawn from its seed. A change of those could not be honoured, so it is refused.

Messages say what to do. `fieldPath` points at the field, where the rule is about one.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.alias_generators import to_camel

from efaas.api.quantities import DURATION_PATTERN, NUMBER_PATTERN

Rule = dict[str, str]

_IMMUTABLE_SESSION_FIELDS = (
    "problem",
    "ansatz",
    "optimizer",
    "initial_parameters",
    "program",
    "shots",
    "seed",
    "readout_mitigation",
    "device",
)
"""Fields whose change could not be honoured in a running session: its journal was made with the old ones."""

TEXT_RULES: Mapping[str, Rule] = {
    DURATION_PATTERN: {
        "rule": f"self.matches('{DURATION_PATTERN}')".replace("\\", "\\\\"),
        "message": "write a duration such as '250ms', '90s' or '1h30m'",
    },
    NUMBER_PATTERN: {
        "rule": f"self.matches('{NUMBER_PATTERN}')".replace("\\", "\\\\"),
        "message": "write a finite number as a string, such as '0.25' or '1e-3'",
    },
}
"""Beside a pattern, which the API server would only quote: what to write. For fields outside of lists."""


def rule(expression: str, message: str, field: str = "") -> Rule:
    """One rule; `field` is the path that a refusal names, below where the rule stands."""
    made = {"rule": expression, "message": message}
    return made | {"fieldPath": field} if field else made


def _unchanging(field: str, message: str) -> Rule:
    """A field may be neither changed, nor added, nor taken away."""
    before, now = f"oldSelf.{field}", f"self.{field}"
    same = f"has({now}) == has({before}) && (!has({now}) || {now} == {before})"
    return rule(same, f"{field} {message}", f".{field}")


def _number(field: str, least: float, most: float, unit: str = "") -> Rule:
    """A number, written as a string, lies in a range; a field that is not set is not looked at."""
    number = f"double(self.{field})"
    return rule(
        f"!has(self.{field}) || ({number} >= {float(least)!r} && {number} <= {float(most)!r})",
        f"{field} must be at least {least:g} and at most {most:g}{unit}",
        f".{field}",
    )


def _some_time(field: str) -> Rule:
    """A duration is not zero."""
    return rule(
        f"!has(self.{field}) || duration(self.{field}) > duration('0s')",
        f"{field} must be longer than 0s: leave it out where there is no limit",
        f".{field}",
    )


def _takes_time(field: str) -> Rule:
    return rule(f"duration(self.{field}) > duration('0s')", f"{field} must be longer than 0s", f".{field}")


NAME_RULE = rule(
    "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 52",
    "metadata.name must be at most 52 lower-case letters, digits and dashes: "
    "names of pods, services and labels are made of it",
)
"""On the whole object."""

_SESSION_RULES = [
    rule(
        "has(self.program) || (has(self.problem) && has(self.ansatz) && has(self.optimizer))",
        "set problem, ansatz and optimizer, or a program",
    ),
    rule(
        "!has(self.program) || !(has(self.problem) || has(self.ansatz) || has(self.optimizer))",
        "a program brings its own problem, ansatz and optimizer: remove them or program",
    ),
    *(
        _unchanging(to_camel(name), "cannot be changed: delete the session and apply it anew")
        for name in _IMMUTABLE_SESSION_FIELDS
    ),
]

_REDRAWN = "cannot be changed, since the device's past was drawn from it: delete the device and apply it anew"

RULES: Mapping[str, list[Rule]] = {
    "VQASessionSpec": _SESSION_RULES,
    "Molecule": [
        rule(
            "self.name == 'H2' ? self.qubits in [2, 4] : self.qubits == 4",
            "this molecule is not shipped on that many qubits: H2 at 2 or 4, LiH at 4",
            ".qubits",
        ),
    ],
    "Edge": [
        rule("self.nodes[0] != self.nodes[1]", "an edge joins two different nodes", ".nodes"),
    ],
    "Spsa": [
        _number("learningRate", 1e-9, 1e6),
        _number("perturbation", 1e-9, 100, " rad"),
        rule(
            "has(self.learningRate) || self.calibrationSteps > 0",
            "without learningRate the step size comes from calibration: set learningRate or calibrationSteps",
            ".calibrationSteps",
        ),
    ],
    "QnSpsa": [
        _number("learningRate", 1e-9, 1e6),
        _number("perturbation", 1e-9, 100, " rad"),
        _number("regularization", 1e-9, 1e6),
    ],
    "Adam": [
        _number("learningRate", 1e-9, 1e6),
        _number("beta1", 0, 0.999999),
        _number("beta2", 0, 0.999999),
    ],
    "CmaEs": [_number("stepSize", 1e-9, 100, " rad")],
    "NelderMead": [_number("stepSize", 1e-5, 100, " rad")],
    "Cobyla": [
        _number("stepSize", 1e-9, 100, " rad"),
        _number("finalStepSize", 1e-9, 100, " rad"),
        rule(
            "double(self.finalStepSize) <= double(self.stepSize)",
            "finalStepSize must be at most stepSize: the trust region shrinks from one to the other",
            ".finalStepSize",
        ),
    ],
    "Powell": [_number("parameterTolerance", 1e-12, 1)],
    "Scan": [_number("radius", 1e-9, 100, " rad")],
    "Stop": [
        rule(
            "!has(self.tolerance) || (double(self.tolerance) > 0.0 && double(self.tolerance) <= 1e100)",
            "tolerance must be above 0 and at most 1e100",
            ".tolerance",
        ),
        _some_time("maxDuration"),
        _some_time("maxQpuTime"),
    ],
    "Program": [rule("has(self.script) != has(self.image)", "set exactly one of script, image")],
    "DeviceRequirements": [
        _number("minFidelity", 0, 1),
        _some_time("maxCalibrationAge"),
    ],
    "Limits": [_some_time("duration"), _some_time("idle"), _some_time("qpuTime")],
    "QPUDeviceSpec": [
        rule(
            "self.model == oldSelf.model",
            "model cannot be changed: delete the device and apply it anew",
            ".model",
        ),
    ],
    "Simulation": [
        rule("double(self.timeScale) >= 0.0", "timeScale must not be negative", ".timeScale"),
        _unchanging("seed", _REDRAWN),
    ],
    "Calibration": [
        rule(
            "duration(self.duration) < duration(self.interval)",
            "duration must be shorter than interval: else the device does nothing but calibrate",
            ".duration",
        ),
        rule(
            "duration(self.duration) < duration(self.maxAge)",
            "duration must be shorter than maxAge: else no calibration is ever fresh enough",
            ".maxAge",
        ),
        rule(
            "(self.drift == 'Trace') == has(self.trace)",
            "set trace for drift: Trace, and only for that",
            ".trace",
        ),
        rule(
            "!has(self.requestedAt) || self.requestedAt.matches("
            "'^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$')",
            "requestedAt must be a time stamp such as '2026-01-31T09:30:00Z'",
            ".requestedAt",
        ),
        _unchanging("drift", _REDRAWN),
        _unchanging("trace", _REDRAWN),
    ],
    "Queue": [
        _takes_time("slice"),
        _takes_time("halfLife"),
        rule("double(self.beta) >= 0.0", "beta must not be negative", ".beta"),
        rule("double(self.gamma) >= 0.0", "gamma must not be negative", ".gamma"),
        rule(
            "self.policy != 'efaas' || double(self.alpha) > double(self.beta) + double(self.gamma)",
            "alpha must be above beta + gamma: an active loop comes before everything else",
            ".alpha",
        ),
        rule(
            "double(self.guaranteedShare) >= 0.0 && double(self.guaranteedShare) <= 0.25",
            "guaranteedShare must be at least 0 and at most 0.25: three classes have it at once, "
            "and loops need the rest",
            ".guaranteedShare",
        ),
    ],
}
"""Rules by the name of the model that they stand at."""
