"""A session on an ideal and one on a noisy device, each with a server of its own for all tests."""

import pytest

from efaas.primitives import Session


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory):
    """Registered sessions of the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.delenv("EFAAS_QPUS", raising=False)
        yield folder


@pytest.fixture(scope="session")
def ideal(state):
    with Session("manila-5", noise=False, seed=11) as session:
        yield session
        session.cancel()


@pytest.fixture(scope="session")
def noisy(state):
    with Session("manila-5", seed=11) as session:
        yield session
        session.cancel()
