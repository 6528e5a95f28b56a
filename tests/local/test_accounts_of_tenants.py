"""Accounts within one run: what each queue is told of its tenants' use on the other devices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from efaas.accounts.message import read_accounts
from efaas.local.folder import RunFolder
from efaas.local.progress import DeviceRecord, RunRecord, SessionRecord
from efaas.local.tenants import ACCOUNTS_FILE, TenantAccounts


@pytest.fixture
def record() -> RunRecord:
    sessions = {
        key: SessionRecord(key, 2, ("a", "b"), device=device)
        for key, device in (("red/one", "a"), ("red/two", "b"), ("blue/one", "a"))
    }
    devices = {name: DeviceRecord(name, "manila-5", 5) for name in ("a", "b", "c")}
    return RunRecord("run", "runs/run", "now", sessions, devices)


@pytest.fixture
def accounts(tmp_path: Path, record: RunRecord) -> TenantAccounts:
    folder = RunFolder(tmp_path)
    for name in record.devices:
        folder.device(name).mkdir(parents=True)
    return TenantAccounts(folder, record, {"a": 600.0, "b": 600.0, "c": 60.0})


def told(tmp_path: Path, device: str) -> dict[str, tuple[float, float, float]]:
    text = (RunFolder(tmp_path).device(device) / ACCOUNTS_FILE).read_text()
    return {
        name: (account.weight, account.cpu_s, account.qpu_s)
        for name, account in read_accounts(text).tenants.items()
    }


def test_a_queue_hears_of_use_on_the_others_and_never_of_its_own(
    tmp_path: Path, record: RunRecord, accounts: TenantAccounts
) -> None:
    record.weights["red"] = 3.0
    record.devices["a"].charged_s = {"red/one": 8.0, "blue/one": 1.0}
    record.devices["b"].charged_s = {"red/two": 2.0}
    record.sessions["red/one"].cpu_s = 0.5
    accounts.take()
    accounts.tell()
    assert told(tmp_path, "a") == {"red": (3.0, 0.0, 2.0), "blue": (1.0, 0.0, 0.0)}
    assert told(tmp_path, "b") == {"red": (3.0, 0.5, 8.0), "blue": (1.0, 0.0, 1.0)}
    assert told(tmp_path, "c") == {"red": (3.0, 0.5, 10.0), "blue": (1.0, 0.0, 1.0)}


def test_the_same_charge_counts_once_and_decays_on_the_listeners_clock(
    tmp_path: Path, record: RunRecord, accounts: TenantAccounts
) -> None:
    record.devices["a"].charged_s = {"red/one": 8.0}
    for _ in range(3):
        accounts.take()
    record.devices["b"].clock_s, record.devices["c"].clock_s = 600.0, 120.0
    record.devices["a"].charged_s = {"red/one": 9.0}
    accounts.take()
    accounts.tell()
    assert told(tmp_path, "b")["red"][2] == pytest.approx(8.0 / 2 + 1.0)
    assert told(tmp_path, "c")["red"][2] == pytest.approx(8.0 / 4 + 1.0)


def test_what_is_told_is_a_whole_document(
    tmp_path: Path, record: RunRecord, accounts: TenantAccounts
) -> None:
    accounts.tell()
    assert not (RunFolder(tmp_path).device("a") / ACCOUNTS_FILE).exists()
    record.devices["a"].charged_s = {"red/one": 8.0}
    accounts.take()
    accounts.tell()
    document = json.loads((RunFolder(tmp_path).device("b") / ACCOUNTS_FILE).read_text())
    assert document == {
        "half_life_s": 600.0,
        "accounts": [{"tenant": "red", "weight": 1.0, "cpu_s": 0.0, "qpu_s": 8.0}],
    }
