"""The fake QPU, as fixtures."""

import importlib.util
from pathlib import Path

import pytest

# Test folders are no packages, so the module is loaded by its path.
_spec = importlib.util.spec_from_file_location("fake_qpu", Path(__file__).with_name("fake_qpu.py"))
fake_qpu = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake_qpu)


@pytest.fixture
def qpu():
    return fake_qpu.FakeQpu()


@pytest.fixture
def make_qpu():
    return fake_qpu.FakeQpu
