"""What `efaas submit` makes of a script, before anything is sent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.api.load import load_documents
from efaas.cluster.submit import LONGEST_NAME, Wishes, script_documents, session_name
from efaas.errors import EfaasError, InputError

SCRIPT = "import efaas\n"


def test_a_script_becomes_a_session_and_its_config_map(tmp_path: Path):
    script = tmp_path / "My VQE.py"
    script.write_text(SCRIPT)
    wishes = Wishes("h2", {"device": {"qubits": 2}, "seed": 3}, ("--depth", "2"))
    session, config_map = script_documents(script, "team", wishes)
    assert session["spec"] == {
        "program": {"script": {"name": "h2-program", "key": "main.py"}, "arguments": ["--depth", "2"]},
        "device": {"qubits": 2},
        "seed": 3,
    }
    assert config_map["metadata"] == {"name": "h2-program", "namespace": "team"}
    assert config_map["data"] == {"main.py": SCRIPT}


@given(st.text(max_size=100))
def test_any_file_name_gives_a_name_that_kubernetes_takes(stem: str):
    name = session_name(stem)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= LONGEST_NAME


def test_two_submissions_of_a_script_have_different_names():
    assert len({session_name("vqe") for _ in range(50)}) == 50


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:\n", "vqe.py:1: is not Python"),
        ("#" * 900_001, "has more than 900000 bytes"),
    ],
)
def test_a_script_that_cannot_run_is_refused_before_anything_is_sent(tmp_path: Path, text: str, words: str):
    script = tmp_path / "vqe.py"
    script.write_text(text)
    with pytest.raises(InputError, match=re.escape(words)):
        script_documents(script, "team", Wishes())


def test_a_wish_out_of_range_is_refused_with_its_field(tmp_path: Path):
    script = tmp_path / "vqe.py"
    script.write_text(SCRIPT)
    with pytest.raises(EfaasError, match=r"spec\.weight: "):
        script_documents(script, "team", Wishes(spec={"weight": 5000}))


def test_what_is_sent_is_what_efaas_run_would_take(tmp_path: Path):
    import yaml

    script = tmp_path / "vqe.py"
    script.write_text(SCRIPT)
    manifest = tmp_path / "vqe.yaml"
    manifest.write_text(yaml.safe_dump_all(script_documents(script, "team", Wishes("vqe"))))
    (session,) = load_documents([manifest]).sessions
    assert session.key == "team/vqe"
