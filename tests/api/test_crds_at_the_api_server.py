"""What a real API server makes of the CRDs: each rule and range accepts and refuses, and says what to do."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from efaas.api.crd import custom_resource_definitions
from efaas.api.crd_rules import NAME_RULE
from tests.support.cluster import ApiError, Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
GROUP = "/apis/efaas.dev/v1alpha1"
COLLECTIONS = {
    "VQASession": f"{GROUP}/namespaces/default/vqasessions",
    "QPUDevice": f"{GROUP}/qpudevices",
}
TABLES = {
    table["kind"]: table
    for table in (yaml.safe_load(path.read_text()) for path in (ROOT / "tests/data/crd").glob("*.yaml"))
}
CASES = [
    pytest.param(kind, case, id=f"{kind}-{number}-{case['message'][:40]}")
    for kind, table in sorted(TABLES.items())
    for number, case in enumerate(table["cases"])
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("crds")) as cluster:
        cluster.apply_crds()
        yield cluster


def merged(base: Any, change: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(change, Mapping):
        return change
    result = dict(base) if isinstance(base, Mapping) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def document(kind: str, spec: Any, name: str = "one") -> dict[str, Any]:
    return {
        "apiVersion": "efaas.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": copy.deepcopy(spec),
    }


def refusal(cluster: Cluster, kind: str, sent: Mapping[str, Any], old: str | None = None) -> str:
    """The API server's text, empty if it accepts; nothing is kept."""
    path, method = COLLECTIONS[kind], "POST"
    if old is not None:
        path, method = f"{path}/{old}", "PUT"
    try:
        cluster.api.call(method, path, sent, query={"dryRun": "All", "fieldValidation": "Strict"})
    except ApiError as error:
        if error.status != 422:
            raise
        return str(error.body["message"])
    return ""


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_each_rule_accepts_and_refuses_and_says_what_to_do(cluster: Cluster, kind: str, case: dict[str, Any]):
    base, old, version = TABLES[kind]["base"], None, None
    if "before" in case:
        base, old = merged(base, case["before"]), "one"
        stored = cluster.api.create(COLLECTIONS[kind], document(kind, base))
        base, version = stored["spec"], stored["metadata"]["resourceVersion"]
    try:
        for part in ("accepted", "refused"):
            sent = document(kind, merged(base, case[part]))
            if version is not None:
                sent["metadata"]["resourceVersion"] = version
            said = refusal(cluster, kind, sent, old)
            if part == "accepted":
                assert said == ""
            else:
                assert case["message"] in said
    finally:
        if old is not None:
            cluster.api.delete(f"{COLLECTIONS[kind]}/{old}")


def schemas() -> dict[str, dict[str, Any]]:
    return {
        definition["spec"]["names"]["kind"]: definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for definition in custom_resource_definitions().values()
    }


def messages(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for rule in schema.get("x-kubernetes-validations", ()):
            yield rule["message"]
        for part in schema.values():
            yield from messages(part)


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_every_rule_of_the_crds_has_a_case(kind: str):
    tried = {case["message"] for case in TABLES[kind]["cases"]} | {NAME_RULE["message"]}
    assert set(messages(schemas()[kind])) == tried


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_names_leave_room_for_those_made_of_them(cluster: Cluster, kind: str):
    for name in TABLES[kind]["names"]["accepted"]:
        assert refusal(cluster, kind, document(kind, TABLES[kind]["base"], name)) == ""
    for name in TABLES[kind]["names"]["refused"]:
        assert NAME_RULE["message"] in refusal(cluster, kind, document(kind, TABLES[kind]["base"], name))


def least(schema: Mapping[str, Any]) -> Any:
    """The smallest value of a schema that makes sense in these CRDs."""
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object":
            return {name: least(schema["properties"][name]) for name in schema.get("required", ())}
        case "array":
            return [least(schema["items"])] * schema.get("minItems", 0)
        case "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return False
    pattern = schema.get("pattern", "")
    return next(text for text in ("a", "1", "1s", "X") if re.search(pattern, text))


def limits(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each limit of a field: its keyword, a value just inside, one just outside."""
    if "minimum" in schema:
        yield "minimum", schema["minimum"], schema["minimum"] - 1
    if "maximum" in schema:
        yield "maximum", schema["maximum"], schema["maximum"] + 1
    if schema["type"] == "string" and "enum" not in schema:
        if schema.get("pattern"):
            yield "pattern", least(schema), "no such thing!"
        if "maxLength" in schema and schema["maxLength"] < 10_000:
            letter = (
                "a"
                if re.search(schema.get("pattern", ""), "a")
                else "X"
                if "IXYZ" in schema["pattern"]
                else "1"
            )
            # Durations have no such long form that is also a sensible time.
            inside = None if "(ms|s|m|h)" in schema.get("pattern", "") else letter * schema["maxLength"]
            yield "maxLength", inside, letter * (schema["maxLength"] + 1)
    if "enum" in schema:
        yield "enum", schema["enum"][-1], "NoSuchThing"
    if schema["type"] == "array":
        one = least(schema["items"])
        if schema.get("minItems"):
            yield "minItems", [one] * schema["minItems"], [one] * (schema["minItems"] - 1)
        if schema["maxItems"] <= 64:
            yield "maxItems", [one] * schema["maxItems"], [one] * (schema["maxItems"] + 1)


def fields(schema: Mapping[str, Any], spec: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field below a schema: path, its schema, and a specification in which it can be set."""
    one_of = any("exactly one" in rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    for name, field in schema.get("properties", {}).items():
        here = (*path, name)
        around = placed(spec, path, {}) if one_of else copy.deepcopy(spec)
        if here == ("program",):
            around = {}
        yield here, field, around
        yield from fields(field, placed(around, here, least(field)), here)


def placed(spec: Any, path: tuple[str, ...], value: Any) -> Any:
    result = copy.deepcopy(spec)
    place = result
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = copy.deepcopy(value)
    return result


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_every_range_holds_at_its_ends_and_names_its_field(cluster: Cluster, kind: str):
    tried = 0
    spec_schema = schemas()[kind]["properties"]["spec"]
    for path, field, around in fields(spec_schema, TABLES[kind]["base"]):
        dotted = "spec." + ".".join(path)
        for keyword, inside, outside in limits(field):
            where = f"{dotted} {keyword}"
            if inside is not None:
                said = refusal(cluster, kind, document(kind, placed(around, path, inside)))
                # A rule between fields may still refuse; the range itself must not.
                assert not re.search(rf"{re.escape(dotted)}[^,]* (should|Unsupported|Too)", said), (
                    where,
                    said,
                )
            said = refusal(cluster, kind, document(kind, placed(around, path, outside)))
            assert dotted in said, where
            assert re.search("should|must|Unsupported|Too|write", said), (where, said)
            tried += 1
    assert tried > 20


def test_every_example_is_accepted(cluster: Cluster):
    tried = 0
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        for example in yaml.safe_load_all(path.read_text()):
            if example["kind"] in COLLECTIONS:
                example["metadata"].pop("namespace", None)  # it need not be there
                assert refusal(cluster, example["kind"], example) == "", path.name
                tried += 1
    assert tried >= 12


def test_an_unknown_field_is_named(cluster: Cluster):
    sent = document("VQASession", merged(TABLES["VQASession"]["base"], {"shotz": 5}))
    with pytest.raises(ApiError, match=r'unknown field "spec.shotz"'):
        cluster.api.call("POST", COLLECTIONS["VQASession"], sent, query={"fieldValidation": "Strict"})


def kubectl(cluster: Cluster, *arguments: str) -> str:
    command = ["kubectl", f"--kubeconfig={cluster.kubeconfig}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize(("kind", "plural"), [("VQASession", "vqasessions"), ("QPUDevice", "qpudevices")])
def test_explain_shows_the_description_of_every_field(cluster: Cluster, kind: str, plural: str):
    # What `kubectl explain` reads.
    served = cluster.api.get("/openapi/v3/apis/efaas.dev/v1alpha1")["components"]["schemas"]
    served = served[f"dev.efaas.v1alpha1.{kind}"]["properties"]
    for part in ("spec", "status"):
        for path, field, _ in fields(schemas()[kind]["properties"][part], {}):
            place = served[part]
            for name in path:
                place = place["properties"][name]
            assert place["description"] == field["description"], path
    told = re.sub(r"\s+", " ", kubectl(cluster, "explain", f"{plural}.spec"))
    for name, field in schemas()[kind]["properties"]["spec"]["properties"].items():
        assert name in told
        assert re.sub(r"\s+", " ", field["description"]) in told, name


def test_kubectl_answers_where_a_session_is_by_its_short_name(cluster: Cluster):
    path = COLLECTIONS["VQASession"]
    cluster.api.create(path, document("VQASession", TABLES["VQASession"]["base"], "shown"))
    status = {
        "state": "Pending",
        "reason": "NoDeviceFits: manila: 3 qubits, 4 needed",
        "queue": {"position": 3},
        "progress": {"iterations": 12, "bestValue": "-1.85"},
        "conditions": [
            {
                "type": "Admitted",
                "status": "False",
                "reason": "NoDeviceFits",
                "lastTransitionTime": "2026-01-31T09:30:00Z",
            }
        ],
    }
    cluster.api.patch(f"{path}/shown/status", {"status": status})
    heading, line = kubectl(cluster, "get", "vqa", "shown").splitlines()
    assert heading.split() == ["STATE", "WHY", "DEVICE", "ITERATION", "BEST", "AGE"] or heading.startswith(
        "NAME"
    )
    assert "NoDeviceFits: manila: 3 qubits, 4 needed" in line
    assert "-1.85" in line
    assert "shown" in kubectl(cluster, "get", "efaas")
