"""What the chart makes, over a table of values: who runs how, who may do what, and where no secret is."""

import itertools
import json
import pathlib
import re

import pytest
import yaml
from rendering import CHART

TABLE = sorted((CHART / "ci").glob("*.yaml"))
HERE = pathlib.Path(__file__).parent

each_of_the_table = pytest.mark.parametrize("values", TABLE, ids=lambda path: path.stem)


def pods(objects: list[dict]):
    """(name, pod) of everything that runs."""
    for thing in objects:
        if thing["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield thing["metadata"]["name"], thing["spec"]["template"]


def containers(pod: dict):
    return itertools.chain(pod["spec"].get("initContainers", []), pod["spec"]["containers"])


def strings(tree):
    """Every string in a tree."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from strings(value)
    elif isinstance(tree, str):
        yield tree


@each_of_the_table
def test_helm_is_content(helm, values):
    result = helm.run("lint", "--strict", str(CHART), f"--values={values}")
    assert result.returncode == 0, result.stdout + result.stderr


@each_of_the_table
def test_every_pod_is_restricted(helm, values):
    objects = helm.template(f"--values={values}")
    assert len(list(pods(objects))) >= 2
    for name, pod in pods(objects):
        spec = pod["spec"]
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & spec.keys(), name
        # Only the operator speaks to the API server.
        assert spec["automountServiceAccountToken"] is (name == "tollgate-operator"), name
        assert spec["enableServiceLinks"] is False
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"secret", "configMap", "emptyDir", "persistentVolumeClaim"}, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, container["name"]
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys() and "memory" in resources["limits"], container["name"]
        for container in spec["containers"]:
            assert "readinessProbe" in container, container["name"]


@each_of_the_table
def test_every_image_comes_from_the_values(helm, values):
    chosen = ["--set=images.repository=r.example/t", "--set=images.tag=v9", "--set=images.envoy=r.example/envoy:v9"]
    for name, pod in pods(helm.template(f"--values={values}", *chosen)):
        for container in containers(pod):
            assert container["image"].startswith("r.example/") and container["image"].endswith(":v9"), name


@each_of_the_table
def test_no_secret_stands_where_others_read(helm, values):
    objects = helm.template(f"--values={values}")
    secret = [value for thing in objects if thing["kind"] == "Secret" for value in strings(thing.get("data", {}))]
    rest = [text for thing in objects if thing["kind"] != "Secret" for text in strings(thing)]
    for value in secret:
        assert len(value) > 20 and not any(value in text for text in rest)
    assert not any(re.search(r"sk-[A-Za-z0-9-]{8,}", text) for text in rest)
    for name, pod in pods(objects):
        for container in containers(pod):
            for variable in container.get("env", []):
                is_secret = re.search("KEY|PASSWORD|TOKEN|DATABASE_URL", variable["name"])
                assert not is_secret or "secretKeyRef" in variable["valueFrom"], variable["name"]


@each_of_the_table
def test_whatever_is_named_is_there(helm, values):
    objects = helm.template(f"--values={values}")
    known = {(thing["kind"], thing["metadata"]["name"]) for thing in objects}
    for name, pod in pods(objects):
        spec = pod["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in known, name
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        mounted = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", [])}
        assert mounted == volumes.keys(), name
        for volume in volumes.values():
            config = volume.get("configMap", {}).get("name")
            assert config in (None, "company-authorities") or ("ConfigMap", config) in known, config
    for thing in objects:
        assert thing["metadata"]["labels"]["app.kubernetes.io/instance"] == "tollgate", thing["metadata"]["name"]
        if thing["kind"] == "Service":
            wanted = thing["spec"]["selector"].items()
            found = [pod for _, pod in pods(objects) if wanted <= pod["metadata"]["labels"].items()]
            (pod,) = found
            ports = {port["name"] for container in containers(pod) for port in container.get("ports", [])}
            assert {port["targetPort"] for port in thing["spec"]["ports"]} <= ports, thing["metadata"]["name"]


@each_of_the_table
def test_what_is_kept_survives_an_uninstall(helm, values):
    for thing in helm.template(f"--values={values}"):
        name, kind = thing["metadata"]["name"], thing["kind"]
        kept = thing["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
        wanted = kind in ("PersistentVolumeClaim", "CustomResourceDefinition") or (kind == "Secret" and "master-key" in name)
        assert kept is wanted, f"{kind} {name}"


def test_a_gateway_is_given_the_time_that_it_drains(helm):
    chosen = ["--set=gateway.drain.endpointsSeconds=7", "--set=gateway.drain.streamsSeconds=900"]
    gateway = dict(pods(helm.template(*chosen)))["tollgate-gateway"]
    assert gateway["spec"]["terminationGracePeriodSeconds"] == 937


def test_rights_are_those_with_a_reason(helm):
    wanted = yaml.safe_load((HERE / "rbac.yaml").read_text())
    assert all(len(one["why"].split()) > 5 for one in wanted)
    wanted = [(one["role"], one["rule"]) for one in wanted]
    # With everything that asks for a right of its own.
    present = [
        (f"{thing['kind']} {thing['metadata']['name']}", rule)
        for thing in helm.template(f"--values={CHART / 'ci' / 'sidecars.yaml'}")
        if thing["kind"] in ("Role", "ClusterRole")
        for rule in thing["rules"]
    ]
    for role, rule in present:
        assert (role, rule) in wanted, f"{role}: {rule} has no reason in rbac.yaml"
    for role, rule in wanted:
        assert (role, rule) in present, f"{role}: {rule} is not in the chart"
    assert not any("*" in strings_of for _, rule in present for strings_of in strings(rule))


def test_rights_over_all_secrets_are_narrowed_by_an_admission_policy(helm):
    (policy,) = [thing for thing in helm.template() if thing["kind"] == "ValidatingAdmissionPolicy"]
    assert policy["spec"]["failurePolicy"] == "Fail"
    (condition,) = policy["spec"]["matchConditions"]
    assert '"system:serviceaccount:tollgate:tollgate-operator"' in condition["expression"]
    # A token Secret, which Kubernetes fills with a token of whatever service account it names, is of neither type.
    variables = {variable["name"]: variable["expression"] for variable in policy["spec"]["variables"]}
    assert variables["isPlain"] == (
        'object == null || (object.type in ["Opaque", "kubernetes.io/tls"] && namespaceObject.metadata.name != "kube-system")'
    )
    held = [validation["expression"] for validation in policy["spec"]["validations"]]
    assert held == ["variables.wasOurs && variables.isOurs", "variables.isPlain"]
    (binding,) = [thing for thing in helm.template() if thing["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


def test_roles_for_people_are_part_of_those_that_everybody_has(helm):
    roles = {thing["metadata"]["name"]: thing["metadata"]["labels"] for thing in helm.template() if thing["kind"] == "ClusterRole"}
    aggregated = {
        name: sorted(label.rpartition("-")[2] for label in labels if label.startswith("rbac.authorization.k8s.io/"))
        for name, labels in roles.items()
    }
    assert aggregated == {
        "tollgate-tollgate-operator": [],
        "tollgate-platform": [],
        "tollgate-namespace-user": ["admin", "edit"],
        "tollgate-namespace-viewer": ["view"],
    }


def test_the_webhook_sees_only_pods_that_ask_for_it(helm):
    (configuration,) = [thing for thing in helm.template() if thing["kind"] == "MutatingWebhookConfiguration"]
    (webhook,) = configuration["webhooks"]
    assert webhook["objectSelector"] == {"matchLabels": {"tollgate.dev/inject": "true"}}
    (expression,) = webhook["namespaceSelector"]["matchExpressions"]
    assert expression["operator"] == "NotIn" and {"kube-system", "tollgate"} <= set(expression["values"])
    assert webhook["failurePolicy"] == "Fail" and webhook["timeoutSeconds"] <= 10


def test_only_gateways_reach_the_ledger_and_only_the_operator_its_admin_port(helm):
    policies = {thing["metadata"]["name"]: thing["spec"] for thing in helm.template() if thing["kind"] == "NetworkPolicy"}
    assert policies.keys() == {"tollgate-ledger", "tollgate-operator", "tollgate-gateway"}
    doors = {rule["ports"][0]["port"]: rule.get("from") for rule in policies["tollgate-ledger"]["ingress"]}
    component = "app.kubernetes.io/component"
    assert [peer["podSelector"]["matchLabels"][component] for peer in doors["grpc"]] == ["gateway"]
    assert [peer["podSelector"]["matchLabels"][component] for peer in doors["admin"]] == ["operator"]


def test_no_right_is_there_for_what_is_off(helm):
    verbs = {verb for rule in rights_over_secrets(helm.template()) for verb in rule["verbs"] if "resourceNames" not in rule}
    assert "update" not in verbs
    assert not any("tollgate-sidecar-tls" in rule.get("resourceNames", []) for rule in rights_over_secrets(helm.template()))
    without = helm.template("--set=injection.enabled=false")
    assert not any("mutatingwebhookconfigurations" in rule["resources"] for thing in without for rule in thing.get("rules") or [])


def rights_over_secrets(objects: list[dict]):
    for thing in objects:
        if thing["kind"] in ("Role", "ClusterRole"):
            yield from (rule for rule in thing["rules"] if "secrets" in rule["resources"])


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_the_sidecars_page_is_there_with_and_without_the_webhook(helm, enabled):
    """`tollgate-operator inject` reads it where there is no webhook."""
    objects = helm.template(f"--set=injection.enabled={enabled}")
    (page,) = [thing for thing in objects if (thing["kind"], thing["metadata"]["name"]) == ("ConfigMap", "tollgate-sidecar")]
    assert yaml.safe_load(page["data"]["sidecar.yaml"])["ingress"] == "https://tollgate-gateway.tollgate.svc"
    assert any(thing["kind"] == "MutatingWebhookConfiguration" for thing in objects) is (enabled == "true")


def one(objects: list[dict], kind: str, name: str) -> dict:
    (found,) = [thing for thing in objects if (thing["kind"], thing["metadata"]["name"]) == (kind, name)]
    return found


def exposed(helm, *arguments: str) -> list[dict]:
    return helm.template(f"--values={CHART / 'ci' / 'exposed.yaml'}", *arguments)


def test_an_ingress_leads_to_the_port_with_tls(helm):
    (rule,) = one(exposed(helm), "Ingress", "tollgate-gateway")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "tollgate-gateway", "port": {"name": "https"}}


def test_an_http_route_leads_to_the_gateway_and_cuts_no_stream(helm):
    (rule,) = one(exposed(helm), "HTTPRoute", "tollgate-gateway")["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "tollgate-gateway", "port": 443}]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}


@pytest.mark.parametrize(
    ("arguments", "believed"),
    [
        ([], {"wellKnownCACertificates": "System"}),
        (
            ["--set=gateway.route.authorities.system=false", "--set=gateway.route.authorities.configMap=company"],
            {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "company"}]},
        ),
    ],
)
def test_behind_an_http_route_is_tls_too(helm, arguments, believed):
    policy = one(exposed(helm, *arguments), "BackendTLSPolicy", "tollgate-gateway")
    assert policy["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert policy["spec"] == {
        "targetRefs": [{"group": "", "kind": "Service", "name": "tollgate-gateway"}],
        "validation": {"hostname": "tollgate.example.com", **believed},
    }


def test_sidecars_that_call_providers_believe_them_as_the_gateway_does(helm):
    def told(*arguments):
        page = one(helm.template(*arguments), "ConfigMap", "tollgate-sidecar")
        return yaml.safe_load(page["data"]["sidecar.yaml"]).get("authorities")

    direct, company = f"--values={CHART / 'ci' / 'sidecars.yaml'}", "--set=gateway.authorities.configMap=company-authorities"
    assert told(direct) is None and told(company) is None
    assert told(direct, company) == {"configMap": "company-authorities", "entry": "ca.crt"}


@pytest.mark.parametrize(
    ("arguments", "version"), [([], "v1alpha2"), (["--api-versions=gateway.networking.k8s.io/v1/TLSRoute"], "v1")]
)
def test_tls_is_passed_through_in_the_form_that_the_cluster_knows(helm, arguments, version):
    objects = helm.template(f"--values={CHART / 'ci' / 'sidecars.yaml'}", *arguments)
    route = one(objects, "TLSRoute", "tollgate-gateway")
    assert route["apiVersion"] == f"gateway.networking.k8s.io/{version}"
    assert route["spec"]["rules"] == [{"backendRefs": [{"name": "tollgate-gateway", "port": 443}]}]
    assert not any(thing["kind"] == "BackendTLSPolicy" for thing in objects)


def test_with_autoscaling_the_autoscaler_alone_says_how_many(helm):
    objects = helm.template(f"--values={CHART / 'ci' / 'postgresql.yaml'}")
    scaler = one(objects, "HorizontalPodAutoscaler", "tollgate-gateway")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "tollgate-gateway"}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 20)
    assert "replicas" not in one(objects, "Deployment", "tollgate-gateway")["spec"]


@pytest.mark.parametrize("part", ["ledger", "operator", "gateway"])
def test_maintenance_takes_one_of_several_at_a_time(helm, part):
    objects = helm.template(f"--values={CHART / 'ci' / 'postgresql.yaml'}")
    budget = one(objects, "PodDisruptionBudget", f"tollgate-{part}")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= dict(pods(objects))[f"tollgate-{part}"]["metadata"]["labels"].items()


@pytest.mark.parametrize("part", ["ledger", "operator", "gateway"])
def test_a_service_monitor_finds_a_service_with_the_port(helm, part):
    monitor = one(exposed(helm), "ServiceMonitor", f"tollgate-{part}")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [thing for thing in exposed(helm) if thing["kind"] == "Service" and wanted <= thing["metadata"]["labels"].items()]
    assert endpoint["port"] in [port["name"] for service in services for port in service["spec"]["ports"]]


def test_cert_manager_makes_the_certificate_that_the_gateway_shows(helm):
    certificate = one(exposed(helm), "Certificate", "tollgate-gateway")["spec"]
    assert certificate["secretName"] == "tollgate-public"
    assert certificate["issuerRef"] == {"name": "letsencrypt", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    volumes = dict(pods(exposed(helm)))["tollgate-gateway"]["spec"]["volumes"]
    assert "tollgate-public" in [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        # Let's Encrypt signs for no name that only the cluster knows.
        ([], ["tollgate.example.com"]),
        (["--set=gateway.tls.certManager.dnsNames={llm.example.com}"], ["tollgate.example.com", "llm.example.com"]),
        (["--set=gateway.baseURL=https://llm.example.com:8443/"], ["llm.example.com", "tollgate.example.com"]),
        (
            ["--set=gateway.baseURL=", "--set=gateway.tls.certManager.dnsNames=null"],
            ["tollgate-gateway.tollgate.svc", "tollgate-gateway.tollgate.svc.cluster.local"],
        ),
    ],
)
def test_the_gateways_certificate_has_the_names_by_which_clients_reach_it(helm, arguments, names):
    assert one(exposed(helm, *arguments), "Certificate", "tollgate-gateway")["spec"]["dnsNames"] == names


def test_a_namespace_name_that_is_a_number_stays_a_name(helm):
    chosen = ["--set-json=injection.directNamespaces=[\"123\"]", "--set-json=injection.excludedNamespaces=[\"456\"]"]
    objects = helm.template(*chosen)
    for thing in objects:
        if thing["kind"] in ("NetworkPolicy", "MutatingWebhookConfiguration"):
            assert not {123, 456} & set(numbers(thing)), thing["metadata"]["name"]


def numbers(tree):
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from numbers(value)
    elif isinstance(tree, int):
        yield tree


@pytest.mark.parametrize("values", [path for path in TABLE if path.stem != "cert-manager"], ids=lambda path: path.stem)
def test_a_release_that_knew_no_such_values_can_be_upgraded_with_its_own(helm, values):
    """`helm upgrade --reuse-values`: defaults that are newer than the release are not there."""
    lacking = ["--set=certificates=null", "--set=gateway.tls.authorities=null", "--set=injection.reinvocationPolicy=null"]
    # But for the master key, which is made up each time.
    rest = lambda *arguments: [thing for thing in helm.template(f"--values={values}", *arguments) if thing["kind"] != "Secret"]
    assert rest(*lacking) == rest()


def test_the_schema_knows_every_value_and_no_other():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(schema: dict, values: dict, path: str):
        assert schema["additionalProperties"] is False, path
        known = schema["properties"].keys() - {"global"}
        assert known == values.keys(), f"{path}: {known ^ values.keys()}"
        for name, value in values.items():
            if "properties" in schema["properties"][name] and value:
                compare(schema["properties"][name], value, f"{path}.{name}")

    compare(schema, values, "values")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--set=colour=red"], "colour"),
        (["--set=ledger.store=mysql"], "/ledger/store"),
        (["--set=ledger.replicas=2"], "SQLite has one ledger"),
        (["--set=ledger.store=postgresql"], "ledger.postgresql.secret"),
        (["--set=ledger.persistence.accessModes={ReadWriteMany}"], "/ledger/persistence/accessModes"),
        (["--set=ledger.holdTTL=900"], "/ledger/holdTTL"),
        (["--set=providers.azure.secret=x"], "azure"),
        (["--set=providers.openai.url=https://x"], "secret"),
        (["--set=providers.openai.secret=x", "--set=providers.openai.url=ftp://x"], "/providers/openai/url"),
        (["--set=gateway.baseURL=http://x"], "/gateway/baseURL"),
        (["--set=gateway.kind=nginx"], "/gateway/kind"),
        (["--set=gateway.drain.streamsSeconds=-1"], "/gateway/drain/streamsSeconds"),
        (["--set=gateway.ingress.enabled=true"], "gateway.ingress.host"),
        (["--set=gateway.route.enabled=true"], "gateway.route.parentRefs"),
        (["--set=gateway.route.enabled=true", "--set=gateway.route.parentRefs[0].name=public"], "gateway.route.passthrough"),
        (["--set=gateway.tls.certManager.enabled=true"], "gateway.tls.secret"),
        (["--set=gateway.tls.certManager.enabled=true", "--set=gateway.tls.secret=x"], "gateway.tls.certManager.issuerRef.name"),
        (["--set=injection.failurePolicy=Perhaps"], "/injection/failurePolicy"),
        (["--set=injection.reinvocationPolicy=Always"], "/injection/reinvocationPolicy"),
        (["--set=platformNamespaces={Platform}"], "/platformNamespaces"),
        (["--set=cluster=a/b"], "/cluster"),
        (["--set=images.pullPolicy=Sometimes"], "/images/pullPolicy"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(helm, arguments, word):
    refusal = helm.refusal(*arguments)
    assert word in refusal.replace("'", "").replace(".", "/") or word in refusal, refusal
