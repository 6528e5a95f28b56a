"""What the commands print, to the letter, and with which code they exit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner, Result

from efaas.api.device import QueuePolicy
from efaas.cli import POLICIES, main
from efaas.devices.shipped import snapshot_names


def efaas(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def session(problem: str = 'hamiltonian: "-1 ZZ - 0.5 XI"', rest: str = "", name: str = "a") -> str:
    text = dedent(f"""
        apiVersion: efaas.dev/v1alpha1
        kind: VQASession
        metadata: {{name: {name}}}
        spec:
          problem: {{{problem}}}
          ansatz: {{realAmplitudes: {{}}}}
          optimizer: {{spsa: {{}}}}
    """)
    return "---" + text + "".join(f"  {line}\n" for line in rest.splitlines())


def program(body: str, config_map: str = "") -> str:
    return dedent(f"""
        apiVersion: efaas.dev/v1alpha1
        kind: VQASession
        metadata: {{name: a}}
        spec: {{program: {body}}}
    """) + dedent(config_map)


DEVICE = """
---
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: q}
spec: {model: {snapshot: manila-5}}
"""


@pytest.mark.parametrize(
    ("manifest", "sentences"),
    [
        # A field that does not exist, with the nearest that does.
        (
            session(rest="shot: 10"),
            ["{file}, VQASession a: spec.shot: unknown field; did you mean shots?"],
        ),
        # Two sessions, a fault each: both are told.
        (
            session('hamiltonian: "1 ZZ + 2 Z"', name="a") + session('hamiltonian: "2 II"', name="b"),
            [
                "VQASession a: spec.problem.hamiltonian: 'Z' has 1 qubit, the others have"
                " 2 (term at character 6)",
                "VQASession b: spec.problem.hamiltonian: the Hamiltonian is 2 times the"
                " identity, so all states"
                " have the same energy; give it a term with X, Y or Z",
            ],
        ),
        # Too large for the only device there is.
        (
            session("isingChain: {sites: 9}") + DEVICE,
            [
                "VQASession a: spec.device: no device fits, 9 qubits are needed: q has 5"
                " qubits; add a QPUDevice"
                " that fits (`efaas devices` lists the models)"
            ],
        ),
        (
            session() + DEVICE.replace("manila-5", "manilla-5"),
            [
                "QPUDevice q: spec.model.snapshot: no device snapshot is named"
                " 'manilla-5'; did you mean manila-5?"
            ],
        ),
        (
            session() + DEVICE.replace("{snapshot: manila-5}", "{configMap: {name: mine, key: device.json}}"),
            [
                "QPUDevice q: spec.model.configMap.name: ConfigMap mine is not in the"
                " manifest; add it to the files"
            ],
        ),
        (
            program("{image: registry.example/vqe}"),
            [
                "VQASession a: spec.program.image: container images run on a cluster only;"
                " for `efaas run` put the"
                " Python file into a ConfigMap of the same manifest and name it in spec.program.script"
            ],
        ),
        (
            program("{script: {name: code, key: main.py}}"),
            [
                "VQASession a: spec.program.script.name: ConfigMap code is not in the"
                " manifest (namespace default);"
                " add it"
            ],
        ),
        (
            program(
                "{script: {name: code, key: main.py}}",
                """
                ---
                apiVersion: v1
                kind: ConfigMap
                metadata: {name: code}
                data: {other.py: "pass"}
                """,
            ),
            ["VQASession a: spec.program.script.key: ConfigMap code has no key main.py; it has other.py"],
        ),
        (DEVICE, ["manifest: holds no VQASession, so there is nothing to run"]),
        ("a: [", ["{file}, line 1: is not YAML: did not find expected node content"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_bad_input_is_one_sentence_a_fault_and_exit_code_2(
    tmp_path: Path, command: str, manifest: str, sentences: list[str]
) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(manifest)
    runs = ["--runs-dir", str(tmp_path / "runs")] if command == "run" else []
    result = efaas(command, str(file), *runs)
    assert result.stdout == ""
    wanted = [f"error: {sentence}".replace("{file}", str(file)) for sentence in sentences]
    got = result.stderr.splitlines()
    if "is not YAML" in wanted[0]:  # libyaml and PyYAML word it differently
        got, wanted = [line.partition(" YAML: ")[0] for line in got], [wanted[0].partition(" YAML: ")[0]]
    assert got == wanted
    assert result.exit_code == 2
    assert not (tmp_path / "runs").exists(), "nothing is written for a run that cannot start"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run"], "name a manifest FILE, or a run with --resume"),
        (["run", "a.yaml", "--resume", "x"], "leave out FILE with --resume"),
        (["check"], "name a manifest FILE"),
        (["run", "--policy", "fastest", "a.yaml"], "Invalid value for '--policy'"),
        (["run", "--seed", "-1", "a.yaml"], "Invalid value for '--seed'"),
        (["ruin"], "No such command 'ruin'"),
    ],
)
def test_a_command_that_makes_no_sense_says_so_and_exits_with_2(arguments: list[str], sentence: str) -> None:
    result = efaas(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    result = efaas("run", str(tmp_path / "none.yaml"))
    assert result.stderr == f"error: {tmp_path}/none.yaml: cannot be read: No such file or directory\n"
    assert result.exit_code == 2


def test_a_folder_that_cannot_be_made_is_named() -> None:
    result = efaas("bench", "--out", "/proc/none")
    assert result.stderr == "error: --out: /proc/none cannot be made: No such file or directory\n"
    assert result.exit_code == 2


def test_what_never_ends_is_not_read_to_its_end() -> None:
    result = efaas("run", "/dev/zero")
    assert result.stderr == "error: /dev/zero: is larger than 4 MiB; split it\n"
    assert result.exit_code == 2


def test_resuming_what_is_no_run_names_the_last_ones(tmp_path: Path) -> None:
    (tmp_path / "20260101-120000-h2").mkdir()
    (tmp_path / "20260101-120000-h2" / "manifest.yaml").touch()
    result = efaas("run", "--resume", "h3", "--runs-dir", str(tmp_path))
    assert result.stderr == (
        "error: --resume h3: is not a run that can go on; the last ones are 20260101-120000-h2\n"
    )
    assert result.exit_code == 2


def test_resume_takes_no_other_seed(tmp_path: Path) -> None:
    result = efaas("run", "--resume", "x", "--seed", "3", "--runs-dir", str(tmp_path))
    assert result.stderr == (
        "error: --resume: goes on with what the run was started with; leave out files,"
        " --seed, --policy, --weight and --name\n"
    )
    assert result.exit_code == 2


def test_check_says_where_each_session_fits(tmp_path: Path) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(
        session(name="a")
        + session("isingChain: {sites: 12}", name="b")
        + session(name="c", rest="suspend: true")
    )
    result = efaas("check", str(file))
    assert result.stderr == ""
    assert result.stdout == (
        "default/a: 2 qubits, fits manila-5, guadalupe-16\n"
        "default/b: 12 qubits, fits guadalupe-16\n"
        "default/c: 2 qubits, suspended\n"
    )
    assert result.exit_code == 0


def test_devices_lists_every_shipped_model() -> None:
    table = efaas("devices")
    assert [line.split()[0] for line in table.stdout.splitlines()[1:]] == list(snapshot_names())
    models = json.loads(efaas("devices", "--json").stdout)
    manila = next(model for model in models if model["name"] == "manila-5")
    assert (manila["qubits"], manila["rep_delay_us"], manila["two_qubit_gate"]) == (5, 250.0, "cx")
    assert all(0 < model["readout_error"] < 0.5 for model in models)


def test_policies_of_the_command_line_are_those_of_the_api() -> None:
    assert set(POLICIES) == {policy.value for policy in QueuePolicy}


def test_help_and_version_need_nothing_heavy() -> None:
    heavy = ("qiskit", "qiskit_aer", "scipy", "matplotlib", "rich", "grpc", "numpy", "pydantic")
    code = dedent(f"""
        import sys
        from efaas.cli import main
        try:
            main(["version"])
        except SystemExit as end:
            assert not end.code
        print(sorted(set({heavy!r}) & set(sys.modules)))
    """)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, loaded = run.stdout.splitlines()
    assert version[0].isdigit()
    assert loaded == "[]"


def test_the_supervisor_never_imports_a_simulator() -> None:
    code = "import sys, efaas.local.run, efaas.local.plot, efaas.local.live, efaas.local.monitor\n"
    code += "print([name for name in ('qiskit', 'qiskit_aer', 'efaas_qpu') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
