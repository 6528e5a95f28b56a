"""What people get wrong at the command line: one sentence, exit code 2, and nothing served."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from efaas_gateway.cli import main

from tests.gateway.running import TOKEN


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--store", "{folder}"], "is no file; name one for the database"),
        (["--store", "{folder}/none/gateway.db"], "its folder does not exist; make it first"),
        (["--store", "{garbage}"], "is no SQLite database; name another file"),
        (["--store", "mysql://there"], "mysql is not supported"),
        (["--listen", "8080"], "--listen: '8080' is not HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "--listen: '127.0.0.1:99999' is not HOST:PORT"),
        (["--stream-listen", "127.0.0.1:99999"], "--stream-listen: "),
        (["--token-file", "{folder}/none"], "cannot be read: No such file or directory"),
        (["--token-file", "{garbage}"], "holds no token: it is not UTF-8 text"),
        (["--token-file", "/dev/zero"], "is larger than 1 MiB; this is no token"),
        (["--tls-cert", "{garbage}", "--tls-key", "{garbage}"], "cannot be used with"),
        (["--kubernetes", "cluster"], "--kubernetes: 'cluster' is no https://HOST:PORT"),
        (["--half-life", "-1"], "'--half-life'"),
        (["--keep-days", "-1"], "'--keep-days'"),
        (["--keep-bytes", "-1"], "'--keep-bytes'"),
        (["--follow", "{folder}/none"], "is no folder of a run"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_sentence(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    garbage, token = tmp_path / "garbage", tmp_path / "token"
    garbage.write_bytes(b"\xd5\x00\xff" * 1000)
    token.write_text(TOKEN)
    given = {"--store": f"{tmp_path}/gateway.db", "--token-file": str(token), "--listen": "127.0.0.1:0"}
    given["--stream-listen"] = "127.0.0.1:0"
    for name, value in zip(options[::2], options[1::2], strict=True):
        given[name] = value.format(folder=tmp_path, garbage=garbage)
    result = CliRunner().invoke(main, ["serve", *(word for option in given.items() for word in option)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
