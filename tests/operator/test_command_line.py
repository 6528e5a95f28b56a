"""What operator and extender are told wrongly at their start: one sentence, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import click
import efaas_operator.cli
import efaas_scheduler.cli
import pytest
from click.testing import CliRunner

GARBAGE = b"\xd5\x00\xff"
NEEDED = {efaas_operator.cli.main: b"images: {runner: r, qpu: q}\n", efaas_scheduler.cli.main: b""}
"""What a configuration cannot do without."""


@pytest.fixture(params=list(NEEDED), ids=["operator", "extender"])
def command(request: pytest.FixtureRequest) -> click.Command:
    found: click.Command = request.param
    return found


@pytest.mark.parametrize(
    ("configuration", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (GARBAGE, "is not UTF-8 text (byte "),
        (b"images: [", "is not YAML"),
        (b"colour: red", "colour: unknown field"),
        (b"logLevel: loud", "logLevel: 'loud' is not one of"),
        (b"listen: ':99999'", "listen: a port is at most 65535"),
        (b"#" * ((1 << 20) + 1), "is larger than 1 MiB; this is no configuration"),
    ],
)
def test_a_wrong_configuration(
    command: click.Command, tmp_path: Path, configuration: bytes | None, sentence: str
) -> None:
    file = tmp_path / "config.yaml"
    if configuration is not None:
        file.write_bytes(NEEDED[command] + configuration)
    result = CliRunner().invoke(command, ["serve", "--config", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    (said,) = result.stderr.splitlines()
    assert said.startswith(f"Error: {file}")
    assert sentence in said


@pytest.mark.parametrize(
    ("kubeconfig", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (GARBAGE, "is not YAML; give one as `kubectl config view --raw` prints it"),
        (b"apiVersion: [", "is not YAML; give one as"),
        (b"words", "is no kubeconfig; give one as"),
        (b"kind: Config", "is no kubeconfig, 'current-context' is missing; give one as"),
    ],
)
def test_a_wrong_kubeconfig(
    command: click.Command, tmp_path: Path, kubeconfig: bytes | None, sentence: str
) -> None:
    configuration, file = tmp_path / "config.yaml", tmp_path / "kubeconfig"
    configuration.write_bytes(NEEDED[command])
    if kubeconfig is not None:
        file.write_bytes(kubeconfig)
    result = CliRunner().invoke(command, ["serve", "--config", str(configuration), "--kubeconfig", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    (said,) = result.stderr.splitlines()
    assert said.startswith(f"Error: {file}")
    assert sentence in said
