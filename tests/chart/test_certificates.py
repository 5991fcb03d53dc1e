"""Who signs and keeps the certificates: the operator, cert-manager, or a company; and what each part is told of it."""

import json

import definitions
import pytest
import yaml
from rendering import CHART, ROOT
from test_chart import one, pods

VALUES = f"--values={CHART / 'ci' / 'cert-manager.yaml'}"
# What the operator makes where it keeps the certificates; its own test writes it.
LEAVES = ROOT / "src" / "operator" / "src" / "authority" / "golden" / "leaves.json"
BASE_URL = "--set=gateway.baseURL=https://tollgate.example.com"
# What ends TLS in front of the gateway, and what passes it through.
INGRESS = [BASE_URL, "--set=gateway.ingress.enabled=true", "--set=gateway.ingress.host=tollgate.example.com"]
PASSING = [BASE_URL, "--set=gateway.route.enabled=true", "--set=gateway.route.parentRefs[0].name=x", "--set=gateway.route.passthrough=true"]
ROUTE = [*PASSING, "--set=gateway.route.passthrough=false", "--set=gateway.route.authorities.configMap=inside"]
INSIDE = "https://tollgate-gateway.tollgate.svc"
SECRET, CONFIG_MAP = "--set=gateway.tls.secret=company", "--set=gateway.tls.authorities.configMap=company-authorities"


def certificates(helm, *arguments: str, **where: str) -> list[dict]:
    return [thing for thing in helm.template(*arguments, **where) if thing["kind"] == "Certificate"]


def operator(objects: list[dict]) -> tuple[dict[str, str], dict]:
    """What the operator is told, and its pod."""
    spec = dict(pods(objects))["tollgate-operator"]["spec"]
    return dict(word.removeprefix("--").split("=", 1) for word in spec["containers"][0]["args"] if "=" in word), spec


def page(objects: list[dict]) -> dict:
    return yaml.safe_load(one(objects, "ConfigMap", "tollgate-sidecar")["data"]["sidecar.yaml"])


def test_cert_manager_is_asked_for_exactly_what_the_operator_would_make(helm):
    wanted = json.loads(LEAVES.read_text())
    # Neither is called Tollgate: a mistake of one for the other is seen, and the name that every client of the ledger asks for.
    release, namespace = "books", "platform"
    assert "tollgate-ledger" in wanted[0]["dnsNames"]
    direct = [leaf["namespace"] for leaf in wanted if leaf["namespace"] != namespace]
    assert len(direct) == 2
    chosen = f"--set=injection.directNamespaces={{{','.join(direct)}}}"
    made = certificates(helm, VALUES, chosen, release=release, namespace=namespace)
    for leaf, certificate in zip(wanted, made, strict=True):
        assert certificate["metadata"]["name"] == leaf["secretName"]
        spec = {"namespace": certificate["metadata"]["namespace"], "dnsNames": [], "uris": [], **certificate["spec"]}
        assert {**spec, "dnsNames": sorted(spec["dnsNames"])} == {
            **leaf,
            "duration": "720h",
            "renewBefore": "240h",
            "privateKey": {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"},
            "issuerRef": {"name": "tollgate", "kind": "ClusterIssuer", "group": "cert-manager.io"},
        }


@pytest.mark.parametrize("values", ["cert-manager", "exposed"])
def test_cert_managers_definitions_take_every_certificate(helm, values):
    made = certificates(helm, f"--values={CHART / 'ci' / values}.yaml")
    assert made
    for certificate in made:
        schema = definitions.schemas("cert-manager")[certificate["apiVersion"], certificate["kind"]]
        assert list(definitions.faults(schema, certificate)) == []


def test_where_there_is_no_webhook_nobody_shows_its_certificate(helm):
    made = certificates(helm, VALUES, "--set=injection.enabled=false", "--set=certificates.certManager.issuerRef.kind=Issuer")
    assert [certificate["metadata"]["name"] for certificate in made] == [f"tollgate-{part}-tls" for part in ("ledger", "gateway", "operator")]
    assert {certificate["spec"]["issuerRef"]["kind"] for certificate in made} == {"Issuer"}


def test_every_pod_mounts_what_cert_manager_writes(helm):
    objects = helm.template(VALUES)
    written = {thing["spec"]["secretName"] for thing in objects if thing["kind"] == "Certificate"}
    mounted = {volume["secret"]["secretName"] for _, pod in pods(objects) for volume in pod["spec"]["volumes"] if "secret" in volume}
    assert {name for name in mounted if name.endswith("-tls")} == {"tollgate-ledger-tls", "tollgate-gateway-tls"} < written


def test_the_operator_is_told_who_keeps_the_certificates(helm):
    assert operator(helm.template())[0]["keep-certificates"] == "true"
    assert operator(helm.template(VALUES))[0]["keep-certificates"] == "false"


def test_the_api_server_is_told_of_the_webhooks_authority_by_whoever_keeps_it(helm):
    annotations = [
        one(helm.template(*chosen), "MutatingWebhookConfiguration", "tollgate-sidecar-injector")["metadata"].get("annotations")
        for chosen in ([], [VALUES])
    ]
    assert annotations == [None, {"cert-manager.io/inject-ca-from": "tollgate/tollgate-webhook-tls"}]


def test_who_keeps_no_certificates_has_no_right_to_replace_any(helm):
    rules = [rule for thing in helm.template(VALUES) if thing["kind"] in ("Role", "ClusterRole") for rule in thing["rules"]]
    assert not any("update" in rule["verbs"] for rule in rules if "secrets" in rule["resources"])
    assert not any("mutatingwebhookconfigurations" in rule["resources"] for rule in rules)


@pytest.mark.parametrize(
    ("arguments", "told", "comes_with_key"),
    [
        ([], "own", True),
        ([BASE_URL], "own", True),
        ([SECRET], "public", False),
        ([SECRET, CONFIG_MAP], "/run/tollgate/authorities/ca.crt", True),
        ([SECRET, CONFIG_MAP, "--set=gateway.tls.authorities.entry=all.pem"], "/run/tollgate/authorities/all.pem", True),
        ([SECRET, CONFIG_MAP, "--set=injection.enabled=false"], "/run/tollgate/authorities/ca.crt", True),
        # Clients see the Ingress's certificate, whatever the gateway shows to it.
        (INGRESS, "public", False),
        ([*INGRESS, SECRET], "public", False),
        ([*INGRESS, CONFIG_MAP], "/run/tollgate/authorities/ca.crt", True),
        ([*INGRESS, SECRET, CONFIG_MAP], "/run/tollgate/authorities/ca.crt", True),
        (ROUTE, "public", False),
        ([*ROUTE, CONFIG_MAP], "/run/tollgate/authorities/ca.crt", True),
        # And the gateway's where TLS is passed through, or where they are sent to its Service all the same.
        (PASSING, "own", True),
        ([*PASSING, SECRET], "public", False),
        ([*PASSING, SECRET, CONFIG_MAP], "/run/tollgate/authorities/ca.crt", True),
        ([*INGRESS, "--set=gateway.baseURL="], "own", True),
    ],
)
def test_clients_and_sidecars_are_told_by_whom_they_know_the_gateway(helm, arguments, told, comes_with_key):
    objects = helm.template(*arguments)
    words, pod = operator(objects)
    assert words["gateway-authorities"] == told
    assert page(objects)["authoritiesWithKey"] is comes_with_key
    # A sidecar goes where that certificate is seen.
    at = INSIDE if BASE_URL not in arguments or "--set=gateway.baseURL=" in arguments else "https://tollgate.example.com"
    assert page(objects)["ingress"] == words["base-url"] == at
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0].get("volumeMounts", [])}
    configs = {volume["name"]: volume["configMap"]["name"] for volume in pod.get("volumes", [])}
    assert mounts.keys() == configs.keys()
    # The file is where the operator looks for it.
    in_a_file = told.startswith("/")
    assert mounts.get("authorities") == ("/run/tollgate/authorities" if in_a_file else None)
    assert configs.get("authorities") == ("company-authorities" if in_a_file else None)
    # Without the ConfigMap budgets still count.
    assert all(volume["configMap"].get("optional", False) is (volume["name"] == "authorities") for volume in pod.get("volumes", []))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([CONFIG_MAP], "gateway.tls.secret"),
        ([*PASSING, CONFIG_MAP], "gateway.tls.secret"),
        ([*INGRESS, "--set=gateway.baseURL=", CONFIG_MAP], "gateway.baseURL"),
        (["--set=certificates.certManager.enabled=true"], "certificates.certManager.issuerRef.name"),
        ([VALUES, "--set=certificates.certManager.issuerRef.kind=Issuer"], "it must be a ClusterIssuer"),
        ([VALUES, "--set=certificates.certManager.issuerRef.kind=Somebody"], "/certificates/certManager/issuerRef/kind"),
    ],
)
def test_what_cannot_be_is_refused(helm, arguments, word):
    assert word in helm.refusal(*arguments)
