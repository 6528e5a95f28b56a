"""`import efaas` is cheap and offers what its `__all__` says."""

import subprocess
import sys

import pytest

import efaas


def test_importing_efaas_imports_nothing_heavy():
    heavy = ("numpy", "pydantic", "grpc", "qiskit", "efaas.sdk")
    code = f"import efaas, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in efaas.__all__:
        assert getattr(efaas, name) is not None
    assert set(efaas.__all__) < set(dir(efaas))
    assert efaas.__all__ == sorted(efaas.__all__)
    assert efaas.__version__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sesion'"):
        _ = efaas.sesion


def test_outside_a_session_it_says_how_to_start_one(monkeypatch):
    monkeypatch.delenv("EFAAS_SESSION_FILE", raising=False)
    with pytest.raises(
        efaas.InputError, match="EFAAS_SESSION_FILE: is not set; start the session with `efaas run`"
    ):
        efaas.session()
