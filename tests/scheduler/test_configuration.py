"""What the process is told: strictly read, and explained where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from efaas_scheduler.cli import main
from efaas_scheduler.configuration import Configuration, load_configuration
from efaas_scheduler.connection import connect
from efaas_scheduler.profile import scheduler_configuration

from efaas.errors import ManifestError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("holdLimits: 5s", "holdLimits: unknown field; did you mean holdLimit?"),
        ("stalenessLimit: 5", "'5' is not a duration"),
        ("listen: 0.0.0.0:8888", "without tls only 127.0.0.1 is served"),
        ("listen: 127.0.0.1:99999", "listen: a port is at most 65535"),
        ("metricsListen: ':99999'", "metricsListen: a port is at most 65535"),
        ("halfLife: 0s", "half_life: must be above 0"),
        ("weights: {a: 0}", "weights.a"),
        ("limits: {requestBytes: 1}", "limits.requestBytes"),
        ("[", "is not YAML"),
        ("{}\n---\nlisten: 127.0.0.1:1", "more than one document"),
        ("#" * (1 << 20) + "\n", "larger than 1 MiB"),
        ("- listen", "valid dictionary"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_field(tmp_path: Path, text: str, words: str):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        load_configuration(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_empty_file_is_a_configuration(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("")
    assert load_configuration(path) == load_configuration(None) == Configuration()


def test_the_profile_keeps_slots_with_kube_scheduler_and_scores_with_the_extender_alone():
    printed = CliRunner().invoke(main, ["profile", "--lease-namespace", "efaas"])
    document = yaml.safe_load(printed.output)
    (extender,) = document["extenders"]
    assert extender["managedResources"] == [{"name": "efaas.dev/session", "ignoredByScheduler": False}]
    assert "bindVerb" not in extender
    assert document["profiles"][0]["plugins"]["score"]["disabled"] == [{"name": "*"}]
    assert document["leaderElection"]["resourceName"] == "efaas-scheduler"


def test_an_https_extender_is_never_trusted_blindly():
    with pytest.raises(ValueError, match="needs a CA file"):
        scheduler_configuration("https://extender:8888")
    (extender,) = scheduler_configuration("https://extender:8888", ca_file="/ca.crt")["extenders"]
    assert extender["tlsConfig"] == {"caFile": "/ca.crt"}


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        ({"insecure-skip-tls-verify": True}, {}, "does not check the server's certificate"),
        ({}, {"exec": {"command": "aws"}}, "needs a program for its token"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_safely_is_refused(
    tmp_path: Path, cluster: dict[str, object], user: dict[str, object], words: str
):
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1", **cluster}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    with pytest.raises(ManifestError, match=words):
        connect(path)


def test_outside_a_cluster_without_a_kubeconfig_it_says_what_to_give(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ManifestError, match="give --kubeconfig"):
        connect(None)


def test_a_pod_reads_its_token_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    certificates = Path(__import__("ssl").get_default_verify_paths().cafile or "")
    if not certificates.is_file():
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    (tmp_path / "ca.crt").write_bytes(certificates.read_bytes())
    (tmp_path / "token").write_text("first\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    connection = connect(None, folder=tmp_path)
    assert connection.headers() == {"Authorization": "Bearer first"}
    (tmp_path / "token").write_text("second\n")
    assert connection.headers() == {"Authorization": "Bearer second"}


def test_why_without_an_extender_says_what_to_give():
    result = CliRunner().invoke(main, ["why", "pod", "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "does not answer" in result.output
    assert "give --url" in result.output
