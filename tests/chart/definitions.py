"""Other people's definitions of custom resources, from their Go modules, and what they say of an object.

Of a definition only its schema is read; its rules in CEL are an API server's to judge (tests/k8s/test_envoy_gateway.py).
"""

import functools
import pathlib
import subprocess
from collections.abc import Iterator

import jsonschema
import yaml
from rendering import ROOT

# The folder or file of definitions in each module that `.make/go-module` knows.
PLACES = {
    "cert-manager": "deploy/crds",
    "envoy-gateway": "charts/gateway-helm/charts/crds/crds",
    "istio": "kubernetes/customresourcedefinitions.gen.yaml",
}


def module(name: str) -> pathlib.Path:
    command = [ROOT / ".make" / "go-module", name]
    return pathlib.Path(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


def version(module: pathlib.Path) -> str:
    return module.name.rpartition("@")[2]


@functools.cache
def schemas(name: str) -> dict[tuple[str, str], dict]:
    """By apiVersion and kind."""
    place = module(name) / PLACES[name]
    files = sorted(place.rglob("*.yaml")) if place.is_dir() else [place]
    return {
        (f"{one['spec']['group']}/{version['name']}", one["spec"]["names"]["kind"]): whole(version["schema"]["openAPIV3Schema"])
        for file in files
        for one in yaml.load_all(file.read_text(), yaml.CSafeLoader)
        if one and one["kind"] == "CustomResourceDefinition"
        for version in one["spec"]["versions"]
    }


def whole(schema: dict) -> dict:
    """With what every object has; and with no room for what the schema does not know, which an API server would drop."""
    known = {"apiVersion": {}, "kind": {}, "metadata": {}}
    return closed({**schema, "properties": {**schema["properties"], **known}})


def closed(schema):
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(value) for name, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and "properties" in schema and not is_open:
        schema["additionalProperties"] = False
    return schema


def faults(schema: dict, thing: dict) -> Iterator[str]:
    for fault in jsonschema.Draft202012Validator(schema).iter_errors(thing):
        place = "/".join(str(part) for part in fault.absolute_path)
        yield f"{thing['kind']} {thing['metadata']['name']}: {place}: {fault.message}"
