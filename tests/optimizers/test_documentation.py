"""docs/optimizers.md says what the API says, and its program runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from efaas.api.session import Optimizer, Stop

TEXT = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text()


def row(name):
    (found,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}`")]
    return found


@pytest.mark.parametrize("chosen", list(Optimizer.model_fields))
def test_the_table_has_every_option_with_its_default(chosen):
    info = Optimizer.model_fields[chosen]
    (model,) = [kind for kind in get_args(info.annotation) if kind is not type(None)]
    for option in model.model_fields.values():
        if option.is_required():
            written = "required"
        elif option.default is None:
            written = ""
        else:
            written = str(option.default).lower() if option.default is True else str(option.default)
        assert re.search(rf"`{option.alias}` \({re.escape(written)}", row(info.alias)), option.alias


def test_the_program_runs():
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(program, "docs/optimizers.md", "exec"), names)
    assert abs(names["again"].point).max() < 1e-3
    assert names["ahead"].points.shape[1] == 2


def test_the_stopping_rules_are_all_there():
    for field, info in Stop.model_fields.items():
        assert f"`{info.alias}`" in TEXT, field
