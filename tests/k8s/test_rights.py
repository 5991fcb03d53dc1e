"""Who may do what, as the API server judges it: the operator, and people with the roles that the chart ships. Nothing of Tollgate runs here."""

import json

import pytest
from cluster import Refused
from installation import CHART
from stack import wait_until

# Of a release that is not the one of the other tests.
RELEASE, NAMESPACE = "rights", "tollgate-rights"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-operator"
AS_OPERATOR = f"--as={OPERATOR}"
LABEL = "tollgate.dev/virtual-key"
TEMPLATES = ("rbac", "secret-guard", "user-roles")


@pytest.fixture(scope="module")
def rights(bare_cluster):
    cluster = bare_cluster
    shown = [f"--show-only=templates/{template}.yaml" for template in TEMPLATES]
    manifests = cluster.helm("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", *shown)
    for namespace in (NAMESPACE, "people"):
        cluster.kubectl("create", "namespace", namespace)
    cluster.apply(manifests)
    # The API server takes up a policy some moments after it is there.
    probe = ("create", "secret", "generic", "probe", "--namespace=people", AS_OPERATOR, "--dry-run=server")
    wait_until(lambda: is_refused(cluster, *probe), "the policy is in force", 60)
    roles = {"anna": "tollgate-platform", "ben": "edit", "carla": "view", "dora": "admin"}
    for person, role in roles.items():
        cluster.kubectl("create", "rolebinding", person, f"--clusterrole={role}", f"--user={person}", "--namespace=people")
    yield cluster
    cluster.kubectl("delete", "--filename=-", "--wait=false", stdin=manifests)
    cluster.kubectl("delete", "namespace", NAMESPACE, "people", "--wait=false")


def is_refused(cluster, *arguments: str) -> bool:
    """Whether the policy is in force."""
    try:
        cluster.kubectl(*arguments)
    except Refused as refusal:
        return "carry one of its labels" in str(refusal)
    return False


def review(user: str, verb: str, what: str, name: str = "", namespace: str = "people") -> dict:
    """What `kubectl auth can-i` asks; `what` is `RESOURCE.GROUP` or `RESOURCE.GROUP/PART`."""
    resource, _, part = what.partition("/")
    resource, _, group = resource.partition(".")
    asked = {"verb": verb, "resource": resource, "group": group, "subresource": part, "name": name, "namespace": namespace}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": asked},
    }


def allowed(cluster, reviews: list[dict]) -> list[bool]:
    """Asks the API server all of it at once: a process for each question would take longer than the rest of these tests."""
    asked = {"apiVersion": "v1", "kind": "List", "items": reviews}
    said = cluster.kubectl("create", "--filename=-", '--output=jsonpath={.status.allowed}{"\\n"}', stdin=json.dumps(asked))
    answers = [line == "true" for line in said.splitlines()]
    assert len(answers) == len(reviews), said
    return answers


# Of the operator, wherever it is.
ANYWHERE = [
    ("patch", "budgets.tollgate.dev", "", True),
    ("patch", "budgets.tollgate.dev/status", "", True),
    ("create", "budgets.tollgate.dev", "", False),
    ("patch", "pricebooks.tollgate.dev/status", "", True),
    ("create", "pricebooks.tollgate.dev", "", False),
    ("delete", "virtualkeys.tollgate.dev", "", False),
    ("create", "secrets", "", True),
    ("update", "secrets", "", False),
    ("update", "secrets", "tollgate-sidecar-tls", False),
    ("deletecollection", "secrets", "", False),
    ("create", "pods", "", False),
    ("get", "pods", "", False),
    ("create", "events.events.k8s.io", "", True),
    ("patch", "namespaces", "", False),
    ("create", "rolebindings.rbac.authorization.k8s.io", "", False),
    ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io", f"{RELEASE}-sidecar-injector", True),
    ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "other", False),
    ("create", "leases.coordination.k8s.io", "", False),
]
# In its own namespace.
AT_HOME = [
    ("create", "leases.coordination.k8s.io", "", True),
    ("patch", "leases.coordination.k8s.io", f"{RELEASE}-operator", True),
    ("patch", "leases.coordination.k8s.io", "other", False),
    ("update", "secrets", f"{RELEASE}-ca", True),
    ("update", "secrets", "other", False),
]


@pytest.mark.parametrize(("namespace", "rows"), [("people", ANYWHERE), (NAMESPACE, AT_HOME)])
def test_the_operator_may_do_what_it_is_for(rights, namespace, rows):
    judged = allowed(rights, [review(OPERATOR, verb, what, name, namespace) for verb, what, name, _ in rows])
    assert [(*row[:3], may) for row, may in zip(rows, judged, strict=True)] == rows


@pytest.mark.parametrize(
    ("person", "writes_keys", "writes_budgets", "reads"),
    [
        ("anna", True, True, True),  # tollgate-platform
        ("ben", True, False, True),  # edit
        ("dora", True, False, True),  # admin
        ("carla", False, False, True),  # view
        ("eve", False, False, False),
    ],
)
def test_people_have_the_rights_of_their_role(rights, person, writes_keys, writes_budgets, reads):
    expected = {(verb, "virtualkeys"): writes_keys for verb in ("create", "update", "patch", "delete")}
    for kind in ("organizations", "teams", "users", "budgets", "pricebooks"):
        expected |= {(verb, kind): writes_budgets for verb in ("create", "update", "patch", "delete")}
        expected["get", kind] = reads
    # What a key has spent is the operator's word alone.
    expected["patch", "virtualkeys/status"] = False
    asked = [(verb, *kind.partition("/")) for verb, kind in expected]
    judged = allowed(rights, [review(person, verb, f"{kind}.tollgate.dev{slash}{part}") for verb, kind, slash, part in asked])
    assert dict(zip(expected, judged, strict=True)) == expected


def secret(name: str, namespace: str = "people", **labels: str) -> str:
    metadata = {"name": name, "namespace": namespace, "labels": {f"tollgate.dev/{kind.replace('_', '-')}": value for kind, value in labels.items()}}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"entry": "value"}})


def test_the_operator_writes_only_secrets_that_are_its_own(rights):
    create = ("create", "--filename=-")

    def refused(*arguments, **options):
        with pytest.raises(Refused, match="writes only Secrets that carry one of its labels"):
            rights.kubectl(*arguments, **options)

    rights.kubectl(*create, stdin=secret("theirs"))
    refused(*create, AS_OPERATOR, stdin=secret("bare"))
    for name, label in (("key", "virtual_key"), ("certificate", "secret")):
        rights.kubectl(*create, AS_OPERATOR, stdin=secret(name, **{label: ""}))
    own, theirs = ("key", "--namespace=people", AS_OPERATOR), ("theirs", "--namespace=people", AS_OPERATOR)
    rights.kubectl("patch", "secret", *own, '--patch={"stringData": {"entry": "other"}}')
    # Neither may it take what is not its own, nor leave something behind that nobody owns.
    refused("label", "secret", *theirs, f"{LABEL}=")
    refused("label", "secret", *own, f"{LABEL}-")
    refused("delete", "secret", *theirs)
    rights.kubectl("delete", "secret", *own)
    # Everybody else is left alone.
    rights.kubectl("delete", "secret", "theirs", "certificate", "--namespace=people")


def test_the_operator_writes_no_secret_that_kubernetes_fills_or_believes(rights):
    def refused(what: str) -> None:
        with pytest.raises(Refused, match="writes only Secrets of the types Opaque and kubernetes.io/tls, and none in kube-system"):
            rights.kubectl("create", "--filename=-", AS_OPERATOR, "--dry-run=server", stdin=what)

    # Kubernetes would write a token of that account into it, and the operator may read Secrets.
    token = json.loads(secret("token", virtual_key=""))
    token["type"] = "kubernetes.io/service-account-token"
    token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "default"}
    refused(json.dumps(token))
    refused(secret("key", "kube-system", virtual_key=""))
    certificate = json.loads(secret("certificate", secret=""))
    certificate |= {"type": "kubernetes.io/tls", "stringData": {"tls.crt": "", "tls.key": ""}}
    rights.kubectl("create", "--filename=-", AS_OPERATOR, "--dry-run=server", stdin=json.dumps(certificate))
