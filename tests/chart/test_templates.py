"""What the chart renders, by what it is for."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from efaas_operator.configuration import Configuration as OperatorConfiguration
from efaas_operator.installing.devices import Wanted
from efaas_operator.settings import Settings
from efaas_scheduler.configuration import Configuration as SchedulerConfiguration
from efaas_scheduler.profile import scheduler_configuration

from tests.chart.conftest import CHART, NAMESPACE, Refused, one, pod_specs, rendered
from tests.support.cluster import ROOT

pytestmark = pytest.mark.cluster

EVERYTHING = {
    "images": {"registry": "registry.example.com/efaas/", "tag": "1.2", "pullSecrets": ["pull"]},
    "weights": {"team-a": 1, "team-b": 3},
    "operator": {"nodeSelector": {"tier": "control"}, "pace": {"workers": 4}},
    "scheduler": {"settings": {"holdLimit": "5s"}, "kubeScheduler": {"tag": "v1.36.0"}},
    "gateway": {"postgresql": {"secret": "database"}, "keepDays": 30, "keepBytes": 100000000},
    "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True},
    },
    "tls": {"mode": "CertManager", "issuer": {"name": "company"}},
}


@pytest.fixture(scope="module")
def everything():
    return rendered(EVERYTHING)


@pytest.mark.parametrize(
    "values", [{}, EVERYTHING, {"tls": {"mode": "Off"}}, {"gateway": {"enabled": False}}]
)
def test_every_container_keeps_the_restricted_standard_with_a_read_only_root(values):
    specs = pod_specs(rendered(values))
    assert specs
    for name, spec in specs.items():
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] == 65532, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert "hostNetwork" not in spec, name
        for container in spec["containers"] + spec.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"], name
            assert container["resources"]["limits"]["memory"], name


def test_servers_have_all_three_probes(defaults):
    for name in ("efaas-operator", "efaas-scheduler", "efaas-gateway"):
        for container in one(defaults, "Deployment", name)["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name


def test_two_replicas_of_operator_and_scheduler_are_spread_and_kept_through_drains(defaults):
    for name in ("efaas-operator", "efaas-scheduler"):
        spec = one(defaults, "Deployment", name)["spec"]
        assert spec["replicas"] == 2
        labels = spec["template"]["metadata"]["labels"]
        spread = spec["template"]["spec"]["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in spread] == [
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        ]
        budget = one(defaults, "PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == 1
        for selector in (
            spec["selector"],
            budget["selector"],
            *(constraint["labelSelector"] for constraint in spread),
        ):
            assert selector["matchLabels"].items() <= labels.items()


def test_budgets_can_be_left_out():
    documents = rendered({"podDisruptionBudgets": False})
    assert not [each for each in documents if each["kind"] == "PodDisruptionBudget"]


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"gateway": {"enabled": False}}])
def test_the_operator_understands_its_configuration(values):
    data = one(rendered(values), "ConfigMap", "efaas-operator")["data"]
    configuration = OperatorConfiguration.model_validate(yaml.safe_load(data["operator.yaml"]))
    assert configuration.system_namespace == NAMESPACE
    assert (configuration.gateway is None) == (values.get("gateway", {}).get("enabled") is False)
    assert configuration.user == 65532
    assert configuration.qpu_tls is not None
    mounts = pod_specs(rendered(values))["Deployment/efaas-operator"]["containers"][0]["volumeMounts"]
    assert configuration.qpu_tls.ca_file == f"{mounts[2]['mountPath']}/ca.crt"
    if configuration.gateway is not None:
        assert configuration.gateway.ca_file == configuration.qpu_tls.ca_file


@pytest.mark.parametrize("values", [{}, EVERYTHING])
def test_the_extender_understands_its_configuration(values):
    data = one(rendered(values), "ConfigMap", "efaas-scheduler")["data"]
    configuration = SchedulerConfiguration.model_validate(yaml.safe_load(data["extender.yaml"]))
    assert configuration.address[0] == "127.0.0.1"
    containers = pod_specs(rendered(values))["Deployment/efaas-scheduler"]["containers"]
    (ports,) = [each["ports"] for each in containers if each["name"] == "extender"]
    assert configuration.metrics_address == ("", ports[0]["containerPort"])
    assert configuration.weights == values.get("weights", {})


def test_kube_scheduler_gets_the_profile_that_the_extender_asks_for(defaults):
    data = one(defaults, "ConfigMap", "efaas-scheduler")["data"]
    assert yaml.safe_load(data["kube-scheduler.yaml"]) == scheduler_configuration(
        "http://127.0.0.1:8888", lease_namespace=NAMESPACE
    )


def test_the_jobs_understand_the_devices():
    values = {"devices": {"list": [{"name": "ideal", "spec": {"model": {"snapshot": "manila-5"}}}]}}
    data = one(rendered(values), "ConfigMap", "efaas-devices")["data"]
    wanted = Wanted.model_validate(yaml.safe_load(data["devices.yaml"]))
    assert [each.name for each in wanted.list_] == ["ideal"]


def test_a_change_of_configuration_makes_new_pods(defaults):
    def checksum(documents, name):
        template = one(documents, "Deployment", name)["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/config"]

    changed = rendered({"weights": {"team": 2}, "operator": {"halfLife": "1h"}})
    for name in ("efaas-operator", "efaas-scheduler"):
        assert checksum(defaults, name) != checksum(changed, name)
        assert checksum(defaults, name) == checksum(rendered(), name)


def test_kube_scheduler_is_of_the_clusters_version_unless_told(everything):
    text = pod_specs(rendered())["Deployment/efaas-scheduler"]["containers"][0]["image"]
    assert re.fullmatch(r"registry\.k8s\.io/kube-scheduler:v1\.\d+\.\d+", text)
    told = pod_specs(everything)["Deployment/efaas-scheduler"]["containers"][0]["image"]
    assert told == "registry.k8s.io/kube-scheduler:v1.36.0"


def test_images_come_from_one_registry_with_one_tag(everything):
    images = {
        container["image"]
        for name, spec in pod_specs(everything).items()
        for container in spec["containers"]
        if container["name"] != "kube-scheduler"
    }
    assert images == {
        f"registry.example.com/efaas/efaas-{part}:1.2" for part in ("operator", "scheduler", "gateway")
    }
    assert all(spec["imagePullSecrets"] == [{"name": "pull"}] for spec in pod_specs(everything).values())


def test_crds_are_upgraded_with_the_release_and_outlive_it(defaults):
    found = [each for each in defaults if each["kind"] == "CustomResourceDefinition"]
    assert {each["metadata"]["name"] for each in found} == {"qpudevices.efaas.dev", "vqasessions.efaas.dev"}
    for crd in found:
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        plural = crd["spec"]["names"]["plural"]
        assert crd["spec"] == yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text())["spec"]


def test_sqlite_is_on_a_volume_and_postgresql_comes_from_a_secret(defaults, everything):
    lite = pod_specs(defaults)["Deployment/efaas-gateway"]
    claim = one(defaults, "PersistentVolumeClaim", "efaas-gateway")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert {"name": "EFAAS_STORE", "value": "/var/lib/efaas/gateway.db"} in lite["containers"][0]["env"]
    assert {"name": "data", "mountPath": "/var/lib/efaas"} in lite["containers"][0]["volumeMounts"]

    postgresql = pod_specs(everything)["Deployment/efaas-gateway"]
    assert not [each for each in everything if each["kind"] == "PersistentVolumeClaim"]
    reference = {"secretKeyRef": {"name": "database", "key": "url"}}
    assert {"name": "EFAAS_STORE", "valueFrom": reference} in postgresql["containers"][0]["env"]
    assert {"--keep-days=30", "--keep-bytes=100000000"} <= set(postgresql["containers"][0]["args"])


def test_without_a_gateway_nothing_speaks_of_one():
    documents = rendered({"gateway": {"enabled": False}})
    kinds = {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "Pod", "PersistentVolumeClaim"}
    assert not [
        each["metadata"]["name"]
        for each in documents
        if each["kind"] in kinds and "gateway" in each["metadata"]["name"]
    ]


def test_the_operator_has_a_token_for_each_kind_of_server_and_no_other(defaults):
    volumes = pod_specs(defaults)["Deployment/efaas-operator"]["volumes"]
    sources = next(each for each in volumes if each["name"] == "tokens")["projected"]["sources"]
    assert [each["serviceAccountToken"]["audience"] for each in sources] == ["efaas-qpu", "efaas-gateway"]
    assert all(
        each["serviceAccountToken"]["path"] == each["serviceAccountToken"]["audience"] for each in sources
    )


def test_ports_are_those_of_the_operators_pods(defaults):
    settings = Settings("runner", "qpu")
    ports = {
        rule["port"]
        for ingress in one(defaults, "NetworkPolicy", "efaas-qpu")["spec"]["ingress"]
        for rule in ingress["ports"]
    }
    assert ports == {settings.stream_port}


def test_the_devices_and_the_journals_are_open_to_runners_and_the_parts_that_need_them_only(defaults):
    def peers(name, port):
        rules = one(defaults, "NetworkPolicy", name)["spec"]["ingress"]
        found = [rule["from"] for rule in rules if rule["ports"] == [{"port": port, "protocol": "TCP"}]]
        assert len(found) == 1
        return {
            (
                peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name", "any"),
                "any namespace" if "namespaceSelector" in peer else "own namespace",
            )
            for peer in found[0]
        }

    runner, operator = ("efaas-runner", "any namespace"), ("efaas-operator", "own namespace")
    assert peers("efaas-qpu", 8470) == {runner, operator}
    assert peers("efaas-gateway", 8081) == {runner, operator, ("efaas-qpu", "own namespace")}
    assert ("any", "any namespace") in peers("efaas-gateway", 8080)
    closed = one(defaults, "NetworkPolicy", "efaas-closed")["spec"]
    assert closed == {
        "podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "efaas"}},
        "policyTypes": ["Ingress"],
    }


def test_metrics_are_open_to_those_named_only(defaults, everything):
    assert not [each for each in defaults if each["metadata"]["name"] == "efaas-metrics"]
    peers = [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]
    rules = one(everything, "NetworkPolicy", "efaas-qpu")["spec"]["ingress"]
    assert {"ports": [{"port": 9470, "protocol": "TCP"}], "from": peers} in rules
    assert one(everything, "NetworkPolicy", "efaas-metrics")["spec"]["ingress"][0]["from"] == peers


def test_policies_can_be_left_out():
    documents = rendered({"networkPolicy": {"enabled": False}})
    assert not [each for each in documents if each["kind"] == "NetworkPolicy"]


def test_certificates_come_before_what_shows_them_and_are_renewed(defaults):
    job = one(defaults, "Job", "efaas-certificates")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    renewal = one(defaults, "CronJob", "efaas-certificates")["spec"]["jobTemplate"]["spec"]
    assert renewal["template"]["spec"]["containers"][0]["args"] == arguments
    assert f"--server=efaas-qpu-tls=*.{NAMESPACE}.svc,*.{NAMESPACE}.svc.cluster.local" in arguments
    gateway = pod_specs(defaults)["Deployment/efaas-gateway"]["containers"][0]
    assert {"--tls-cert=/etc/efaas-tls/tls.crt", "--tls-key=/etc/efaas-tls/tls.key"} <= set(gateway["args"])
    assert gateway["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"


def test_cert_manager_can_issue_them(everything):
    found = [each for each in everything if each["kind"] == "Certificate"]
    assert {each["spec"]["secretName"] for each in found} == {"efaas-gateway-tls", "efaas-qpu-tls"}
    for certificate in found:
        assert certificate["spec"]["issuerRef"]["name"] == "company"
        assert certificate["spec"]["duration"] == f"{90 * 24}h"
    assert not [each for each in everything if each["metadata"]["name"] == "efaas-certificates"]
    with pytest.raises(Refused, match=r"tls\.issuer\.name"):
        rendered({"tls": {"mode": "CertManager"}})


def test_tls_can_be_off():
    documents = rendered({"tls": {"mode": "Off"}})
    assert "tls" not in json.dumps(pod_specs(documents))
    assert not [each for each in documents if "certificates" in each["metadata"]["name"]]
    data = one(documents, "ConfigMap", "efaas-operator")["data"]["operator.yaml"]
    configuration = OperatorConfiguration.model_validate(yaml.safe_load(data))
    assert configuration.qpu_tls is None
    assert configuration.gateway is not None
    assert configuration.gateway.ca_file is None
    assert str(configuration.gateway.url).startswith("http:")


def test_viewers_and_editors_are_part_of_the_standard_roles(defaults):
    def labels(documents, name):
        found = one(documents, "ClusterRole", name)["metadata"]["labels"]
        return {key.rpartition("-")[2] for key in found if key.startswith("rbac.authorization.k8s.io/")}

    assert labels(defaults, "efaas-viewer") == {"view", "edit", "admin"}
    assert labels(defaults, "efaas-editor") == {"edit", "admin"}
    assert labels(defaults, "efaas-device-admin") == set()
    assert labels(rendered({"aggregateRoles": False}), "efaas-viewer") == set()


def test_monitors_and_dashboards_are_there_when_asked_for(defaults, everything):
    assert not [each for each in defaults if "monitoring" in each["apiVersion"]]
    monitors = [each for each in everything if each["kind"] == "PodMonitor"]
    assert {each["metadata"]["name"] for each in monitors} == {
        "efaas-operator",
        "efaas-scheduler",
        "efaas-qpu",
    }
    # What a monitor names is a port of some container, else nothing would be read.
    for name in ("efaas-operator", "efaas-scheduler"):
        (endpoint,) = one(everything, "PodMonitor", name)["spec"]["podMetricsEndpoints"]
        containers = one(everything, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        ports = [port["name"] for each in containers for port in each.get("ports", ())]
        assert ports.count(endpoint["port"]) == 1
    assert all(each["metadata"]["labels"]["release"] == "prometheus" for each in monitors)
    dashboards = one(everything, "ConfigMap", "efaas-dashboards")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert set(dashboards["data"]) == {file.name for file in (CHART / "files" / "dashboards").glob("*.json")}


def test_dashboards_ask_for_metrics_that_exist():
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("metrics.md", "operator.md"))
    for source in (ROOT / "operator" / "efaas_operator").glob("**/*.py"):
        pages += source.read_text()
    asked = set()
    for file in (CHART / "files" / "dashboards").glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                asked |= set(re.findall(r"\befaas_[a-z_]+", target["expr"]))
    assert asked
    for metric in asked:
        name = re.sub("_(bucket|sum|count)$", "", metric)
        assert name in pages or name.removesuffix("_total") in pages, metric


def test_hooks_are_gone_when_they_are_done(defaults):
    for document in defaults:
        annotations = document["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations:
            assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"], document["metadata"]["name"]
