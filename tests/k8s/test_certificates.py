"""Certificates that are not the operator's: between Tollgate's parts cert-manager's, and for clients a company's own, whose authority is in
no image, neither the agents' nor Envoy's.

cert-manager itself is not run: `cert_manager.py` says why, and what stands in for it.
"""

import ssl

import agents
import cert_manager
import installation
import pytest
import resources
import sidecars
import trustme
from cluster import Refused
from cryptography import x509
from installation import DIRECT, NAMESPACE, RELEASE
from stack import wait_until

INSTALLS = True

CLAIM = "certificates"
PEOPLE, TEAM, KEY = "believers", "believers", "believer"
# Where the agent has what its key's Secret says of the gateway.
MOUNTED = "/company"
CA = f"--ca={MOUNTED}/ca.crt"
AUTHORITIES = "private-authorities"
# Where each mode is tried.
MODES = {"identity": PEOPLE, "direct": DIRECT}
# A kubelet brings a changed Secret or ConfigMap with its next look at the pod, after a minute or more; the operator looks each 30 or 60 s.
BROUGHT = 240.0


@pytest.fixture(scope="module")
def company():
    """A private authority: nobody has heard of it."""
    return trustme.CA()


@pytest.fixture(scope="module")
def keeper(cluster):
    with cert_manager.installed(cluster) as keeper:
        yield keeper


@pytest.fixture(scope="module")
def tollgate(cluster, site, company, keeper):
    """Installed by somebody who has never had the operator keep certificates."""
    site.uninstall()
    cluster.kubectl("delete", "secrets", "--all-namespaces", "--selector=tollgate.dev/secret")
    claim = {
        "storageClassName": cluster.volume(CLAIM),
        "accessModes": ["ReadWriteOncePod"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": claim}, NAMESPACE)
    cluster.apply([installation.gateway_certificate("private-certificate", company), authorities(company)], NAMESPACE)
    tls = {"secret": "private-certificate", "authorities": {"configMap": AUTHORITIES}}
    issuer = {"name": "platform", "kind": "ClusterIssuer"}
    with keeper.at_work():
        site.helm(
            "install",
            certificates={"certManager": {"enabled": True, "issuerRef": issuer}},
            gateway={**site.values["gateway"], "tls": tls},
            ledger={"persistence": {"existingClaim": CLAIM}},
        )
    yield site
    site.uninstall()


def authorities(*trusted: trustme.CA) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": AUTHORITIES}, "data": {"ca.crt": bundle(*trusted)}}


def bundle(*trusted: trustme.CA) -> str:
    return "".join(authority.cert_pem.bytes().decode() for authority in trusted)


@pytest.fixture(scope="module", autouse=True)
def people(cluster, tollgate):
    """Keys where each mode is tried, and an agent that mounts what comes with its own."""
    installation.restricted_namespace(cluster, PEOPLE)
    resources.apply(cluster, NAMESPACE, resources.open_team(TEAM))
    for namespace in MODES.values():
        resources.make_key(cluster, namespace, KEY, TEAM)
    mount = {"name": "company", "mountPath": MOUNTED, "readOnly": True}
    agent = agents.pod("agent", volumeMounts=[mount], **agents.with_secret(KEY))
    entry = [{"key": "ca.crt", "path": "ca.crt"}]
    agent["spec"]["volumes"] = [{"name": "company", "secret": {"secretName": KEY, "items": entry}}]
    cluster.apply(agent, PEOPLE)
    cluster.wait("pod/agent", "condition=Ready", PEOPLE)
    yield
    for namespace in MODES.values():
        cluster.kubectl("delete", "job/job", "--ignore-not-found", "--wait=false", f"--namespace={namespace}")
        cluster.delete("virtualkeys", KEY, namespace)
    cluster.kubectl("delete", "namespace", PEOPLE, "--wait=false")


def test_the_operator_makes_no_certificate_and_keeps_no_authority(cluster, tollgate, keeper):
    with pytest.raises(Refused, match="NotFound"):
        cluster.get("secret", f"{RELEASE}-ca", NAMESPACE)
    assert cluster.find("secrets", "*", "tollgate.dev/secret") == []
    for part in ("ledger", "gateway", "operator", "webhook"):
        assert tollgate.secret(f"{RELEASE}-{part}-tls")["ca.crt"].decode() == keeper.authority


def test_an_agent_knows_the_gateway_by_what_comes_with_its_key(cluster, tollgate, company):
    assert tollgate.secret(KEY, PEOPLE)["ca.crt"].decode() == bundle(company)
    (answer,) = agents.messages(cluster, PEOPLE, "agent", CA)
    assert answer.status == 200, answer
    # Its image does not know that authority.
    (answer,) = agents.messages(cluster, PEOPLE, "agent")
    assert answer.status == 0 and "certificate" in answer.error, answer


@pytest.mark.parametrize("mode", MODES)
def test_a_job_with_a_sidecar_completes(cluster, tollgate, mode):
    cluster.apply(sidecars.job(mode, KEY), MODES[mode])
    cluster.wait("job/job", "condition=Complete", MODES[mode])


@pytest.fixture(scope="module")
def renewed(cluster, people, keeper, company):
    """Everything is signed anew; and the company announces its next authority. Gives the new bundle."""
    keeper.renew()
    following = trustme.CA()
    cluster.apply(authorities(company, following), NAMESPACE)
    return bundle(company, following)


def shown(cluster) -> x509.Certificate:
    """By the ledger, to whoever comes now."""
    with cluster.forward(f"service/{RELEASE}-ledger", 4002, NAMESPACE) as port:
        return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode())


def test_requests_go_on_while_certificates_are_renewed_and_after_it(cluster, tollgate, renewed):
    new = x509.load_pem_x509_certificate(tollgate.secret(f"{RELEASE}-ledger-tls")["tls.crt"])
    answers = []

    def is_shown() -> bool:
        answers.extend(agents.messages(cluster, PEOPLE, "agent", CA, "--count=5"))
        return shown(cluster) == new

    wait_until(is_shown, "the ledger shows its new certificate", BROUGHT)
    # Connections to it are made anew, each by the newest certificates.
    cluster.kubectl("rollout", "restart", f"deployment/{RELEASE}-ledger", f"--namespace={NAMESPACE}")
    cluster.rollout(f"deployment/{RELEASE}-ledger", NAMESPACE)
    answers.extend(agents.messages(cluster, PEOPLE, "agent", CA, "--count=5"))
    assert {answer.status for answer in answers} == {200}, answers
    # The operator comes to the ledger, too.
    resources.make_key(cluster, PEOPLE, "another", TEAM)
    cluster.delete("virtualkeys", "another", PEOPLE)


def test_changed_authorities_come_with_the_keys_without_a_restart(cluster, tollgate, renewed):
    wait_until(lambda: tollgate.secret(KEY, PEOPLE)["ca.crt"].decode() == renewed, "the Secret has both authorities", BROUGHT)
