"""The accounts over HTTP: heard by the client that operator and extender share, over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from efaas_gateway.store.derive import Charge
from efaas_operator.configuration import Configuration
from efaas_operator.services.accounts import AccountsService
from efaas_scheduler.standing import Standings
from hypothesis import given
from hypothesis import strategies as st

from efaas.accounts.client import AccountsClient, Endpoint
from efaas.accounts.message import Accounts, TenantAccount, read_accounts, read_events
from efaas.errors import InputError
from tests.gateway.running import TOKEN, RunningGateway


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


async def until(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)
    assert condition(), what


def charge(gateway: RunningGateway, tenant: str, qpu_s: float) -> None:
    async def add() -> None:
        gateway.gateway.accounts.add([Charge(tenant, f"{tenant}/one", "lagos", 1.0, qpu_s)])

    gateway.call(add())


def test_accounts_are_heard_and_the_last_ones_hold_while_the_gateway_is_away(
    sqlite_gateway: RunningGateway, token: Path
) -> None:
    heard: list[Accounts] = []

    async def listen() -> None:
        client = AccountsClient(Endpoint(sqlite_gateway.address, token), heard.append)
        listening = asyncio.create_task(client.run())
        await until(lambda: client.latest is not None, "nothing was heard")
        assert client.latest is not None
        assert client.latest.half_life_s == 600.0
        await asyncio.to_thread(charge, sqlite_gateway, "red", 8.0)
        await until(lambda: client.latest and "red" in client.latest.tenants, "the charge was not heard")
        told = client.latest.tenants["red"]
        assert (told.weight, told.qpu_s) == (1.0, pytest.approx(8.0, rel=0.05))
        await asyncio.to_thread(sqlite_gateway.stop)
        assert client.latest.tenants["red"] == told or client.latest.tenants["red"].qpu_s > 7
        before = client.tellings
        await asyncio.to_thread(sqlite_gateway.start)
        await until(lambda: client.tellings > before, "it was not heard again")
        listening.cancel()

    asyncio.run(listen())
    assert len(heard) >= 3


def test_the_operator_hears_accounts_and_tells_weights(sqlite_gateway: RunningGateway, token: Path) -> None:
    configuration = Configuration.model_validate(
        {
            "images": {"runner": "r", "qpu": "q"},
            "gateway": {"stream": sqlite_gateway.endpoint, "url": sqlite_gateway.address + "/"},
            "gatewayTokenFile": str(token),
        }
    )

    async def listen() -> None:
        service = AccountsService(configuration)
        assert service.use("red") is None
        listening = asyncio.create_task(service.listen())
        service.tell_weights({"red": 3.0, "blue": 1.0})
        await asyncio.to_thread(charge, sqlite_gateway, "red", 8.0)

        def is_told() -> bool:
            use = service.use("red")
            return use is not None and use.weight == 3.0 and use.qpu_s > 7

        await until(is_told, "use and weight were not heard")
        assert service.use("nobody") == TenantAccount(tenant="nobody")
        assert service.age_s is not None
        listening.cancel()

    asyncio.run(listen())


def test_without_a_gateway_the_operator_knows_no_accounts() -> None:
    async def make() -> AccountsService:
        return AccountsService(Configuration.model_validate({"images": {"runner": "r", "qpu": "q"}}))

    service = asyncio.run(make())
    assert (service.use("red"), service.latest, service.age_s) == (None, None, None)


def test_the_extender_goes_by_accounts_once_it_hears_any() -> None:
    standings = Standings(1800.0, {"gold": 5.0})
    standings.set_capacity(8.0, 4.0)
    standings.count_use("red/one", "red", 0.0, 1000.0, 0.0)
    assert standings.standing("red", 0.0).slots > 0
    tenants = {name: TenantAccount(tenant=name, weight=2.0, qpu_s=60.0) for name in ("red", "gold")}
    standings.hear(Accounts(600.0, tenants), 100.0)
    # Holding a slot for ever makes a decayed use of half-life / ln 2.
    red = standings.standing("red", 100.0)
    assert (red.slots, red.weight) == (pytest.approx(60.0 / (600.0 / 0.6931471805599453)), 2.0)
    assert standings.standing("red", 700.0).slots == pytest.approx(red.slots / 2)
    # A weight in the extender's own configuration is what somebody wrote down for it.
    assert standings.standing("gold", 100.0).weight == 5.0
    assert standings.standing("blue", 100.0).slots == 0.0


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        '{"half_life_s": 0, "accounts": []}',
        '{"half_life_s": 600, "accounts": [{"tenant": "a", "qpu_s": -1}]}',
        '{"half_life_s": 600, "accounts": [{"tenant": "a", "weight": 0}]}',
        '{"half_life_s": 600, "accounts": [{"tenant": "a", "cpu_s": NaN}]}',
    ],
)
def test_what_is_no_account_is_refused(data: str) -> None:
    with pytest.raises(InputError, match="accounts"):
        read_accounts(data)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=30), max_size=30))
def test_any_lines_are_read_without_a_fault(lines: list[str]) -> None:
    for event, data in read_events(lines):
        assert isinstance(event, str)
        assert isinstance(data, str)


def test_events_are_read_as_the_standard_says() -> None:
    lines = [
        ": hello",
        "event: accounts",
        "data: a",
        "data:b",
        "id: 1",
        "",
        "data: c",
        "",
        "data: unfinished",
    ]
    assert list(read_events(lines)) == [("accounts", "a\nb"), ("message", "c")]
