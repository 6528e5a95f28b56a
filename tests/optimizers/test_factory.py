"""Making optimizers from specifications: defaults, faults by field, and imports no earlier than needed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from decimal import Decimal
from importlib import import_module
from typing import get_args, get_type_hints

import numpy as np
import pytest

from efaas.api.session import Optimizer as OptimizerSpec
from efaas.errors import InputError, ManifestError
from efaas.optimizers import make_optimizer
from efaas.optimizers.factory import _RANGES, METHODS, checked_options


def spec(method, **options):
    return OptimizerSpec.model_validate({method: options})


def models():
    return {
        name: next(kind for kind in get_args(hint) if kind is not type(None))
        for name, hint in get_type_hints(OptimizerSpec).items()
        if name in OptimizerSpec.model_fields
    }


def test_every_method_of_the_api_can_be_made():
    assert set(METHODS) == set(OptimizerSpec.model_fields)


def test_every_number_of_the_api_has_a_range():
    for name, model in models().items():
        numbers = {field for field, info in model.model_fields.items() if "Decimal" in str(info.annotation)}
        assert set(_RANGES[name]) == numbers, name


def test_defaults_are_those_of_the_api():
    for name, model in models().items():
        module, kind = METHODS[name]
        method = getattr(import_module(f"efaas.optimizers.{module}"), kind)
        for field, parameter in inspect.signature(method).parameters.items():
            if parameter.default is inspect.Parameter.empty or field == "seed":
                continue
            default = model.model_fields[field].default
            assert parameter.default == (float(default) if isinstance(default, Decimal) else default), (
                name,
                field,
            )


@pytest.mark.parametrize(
    ("chosen", "options", "sentence"),
    [
        ("spsa", {"perturbation": "0"}, "spsa.perturbation: is 0; it must be at least 1e-09 and at most 100"),
        ("spsa", {"learningRate": "-1"}, "spsa.learningRate: is -1; "),
        ("spsa", {"perturbation": "1e999"}, "spsa.perturbation: is inf; "),
        ("spsa", {"perturbation": "1e-999"}, "spsa.perturbation: is 0; "),
        ("spsa", {"calibrationSteps": 0}, "spsa.calibrationSteps: is 0, but without learningRate"),
        ("qnSpsa", {"regularization": "0"}, "qnSpsa.regularization: is 0; "),
        ("adam", {"beta1": "1"}, "adam.beta1: is 1; it must be at least 0 and at most 0.999999"),
        ("adam", {"beta2": "-0.1"}, "adam.beta2: is -0.1; "),
        ("cmaEs", {"stepSize": "0"}, "cmaEs.stepSize: is 0; "),
        ("nelderMead", {"stepSize": "1e-7"}, "nelderMead.stepSize: is 1e-07; "),
        ("cobyla", {"finalStepSize": "0.6"}, "cobyla.finalStepSize: is 0.6; it must be at most stepSize, 0"),
        ("powell", {"parameterTolerance": "2"}, "powell.parameterTolerance: is 2; "),
        ("scan", {"points": 3, "radius": "101"}, "scan.radius: is 101; "),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named_as_the_manifest_writes_it(chosen, options, sentence):
    with pytest.raises(ManifestError) as fault:
        make_optimizer(spec(chosen, **options), np.zeros(2), 0)
    assert str(fault.value).startswith(f"spec.optimizer.{sentence}")


def test_options_arrive_as_numbers_of_python():
    options = checked_options(spec("spsa", perturbation="0.25", lastAverage=3))
    assert options == {
        "learning_rate": None,
        "perturbation": 0.25,
        "calibration_steps": 25,
        "last_average": 3,
    }
    assert type(options["perturbation"]) is float


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(InputError, match="seed"):
        make_optimizer(spec("spsa"), np.zeros(2), seed)


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = (
        "import sys; import efaas.optimizers as o; import numpy as np;"
        "from efaas.api.session import Optimizer as S;"
        "heavy = lambda: sorted({'scipy', 'cma', 'qiskit', 'matplotlib'} & set(sys.modules));"
        "assert heavy() == [], heavy();"
        "made = [o.make_optimizer(S.model_validate({m: {}}), np.zeros(2), 0)"
        " for m in ('spsa', 'qn_spsa', 'adam', 'rotosolve', 'cma_es', 'nelder_mead', 'cobyla', 'powell')];"
        "[o.restore_optimizer(m.state()) for m in made];"
        "assert heavy() == [], heavy()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
