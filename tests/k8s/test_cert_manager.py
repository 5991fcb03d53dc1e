"""cert-manager itself, for the certificates between Tollgate's parts: docs/kubernetes/certificates.md, in its words, on an installation
whose certificates the operator has kept until then. Each step stands on those before it."""

import agents
import certificates
import pytest
import real_cert_manager
import resources
import yaml
from accounts import KeyBooks
from cert_manager import CERTIFICATES
from certificates import BROUGHT, CA, KEY, MODES, PARTS, PEOPLE, SIDECARS, TEAM, people, tollgate
from cryptography import x509
from installation import DIRECT, NAMESPACE, RELEASE, ROOT
from pages import blocks, section
from stack import wait_until

IN_ORDER = INSTALLS = True
pytestmark = pytest.mark.long

PAGE = ROOT / "docs" / "kubernetes" / "certificates.md"
CLAIM = "cert-manager"


@pytest.fixture(scope="module")
def keeper(cluster, tollgate):
    with real_cert_manager.installed(cluster):
        yield


def said(language: str) -> list[str]:
    return blocks(section(PAGE, "By cert-manager"), language)


def run(cluster, commands: str) -> None:
    """As a reader types it."""
    cluster.run("bash", "-ec", commands.replace("NAMESPACE", DIRECT), timeout=300)


def authority(tollgate) -> str:
    return tollgate.secret("tollgate-authority", real_cert_manager.NAMESPACE)["tls.crt"].decode()


def leaves(cluster) -> dict[tuple[str, str], dict]:
    """All Certificates of the chart, by where they are."""
    found = cluster.find(CERTIFICATES, "*", f"app.kubernetes.io/instance={RELEASE}")
    return {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in found}


def wait_until_switched(cluster, tollgate) -> None:
    """Until the new certificates are everywhere. Meanwhile nobody hears anything else than that it does not work now."""

    def is_served() -> bool:
        (answer,) = certificates.ask(cluster)
        assert answer.status in (0, 200, 503), answer
        return answer.status == 200

    wait_until(lambda: is_served() and certificates.show_what_they_hold(cluster, tollgate), "an agent is served by new certificates", BROUGHT)
    certificates.renew_connections(cluster)
    wait_until(is_served, "an agent is served over new connections", BROUGHT)


def test_before_it_the_operator_signs(cluster, tollgate):
    (answer,) = certificates.ask(cluster)
    assert answer.status == 200, answer


def test_the_issuer_of_the_page_gets_ready(cluster, keeper):
    manifests = next(block for block in said("yaml") if "ClusterIssuer\nmetadata" in block)
    cluster.apply(manifests)
    cluster.wait("certificate/tollgate-authority", "condition=Ready", real_cert_manager.NAMESPACE)
    cluster.wait("clusterissuer/tollgate", "condition=Ready")


def test_an_installation_is_switched_over_as_the_page_says(cluster, tollgate, keeper):
    operators = tollgate.secret(f"{RELEASE}-ca")["ca.crt"].decode()
    values = yaml.safe_load(said("yaml")[0])
    tollgate.helm("upgrade", **values)
    switch, forget, _ = said("console")
    run(cluster, switch)
    assert {name for _, name in leaves(cluster)} == {SIDECARS, *(f"{RELEASE}-{part}-tls" for part in PARTS)}
    for namespace, name in leaves(cluster):
        cluster.watch(CERTIFICATES, name, real_cert_manager.is_ready, f"{namespace}/{name} is ready", namespace)
    wait_until_switched(cluster, tollgate)
    run(cluster, forget)
    wait_until(lambda: certificates.believed(cluster) == [authority(tollgate)], "the injector has written it again", BROUGHT)
    tollgate.values.update(values)
    assert authority(tollgate) != operators


def test_no_certificate_of_the_operators_is_left(cluster, tollgate, keeper):
    root = x509.load_pem_x509_certificate(authority(tollgate).encode())
    certificates.assert_none_is_the_operators(cluster, tollgate, authority(tollgate))
    assert certificates.show_what_they_hold(cluster, tollgate)
    for namespace, name in leaves(cluster):
        held = tollgate.secret(name, namespace)
        x509.load_pem_x509_certificate(held["tls.crt"]).verify_directly_issued_by(root)
    for namespace in MODES.values():
        assert tollgate.secret(KEY, namespace)["ca.crt"].decode() == authority(tollgate)


def test_an_agent_is_served_and_metered(cluster, tollgate, keeper):
    name = "metered"
    resources.make_key(cluster, PEOPLE, name, TEAM)
    key = tollgate.secret(name, PEOPLE)["ANTHROPIC_API_KEY"].decode()
    headers, message = {**agents.MESSAGES_HEADERS, "x-api-key": key}, {**agents.MESSAGE, "metadata": {"user_id": name}}
    (answer,) = agents.request(cluster, PEOPLE, "agent", agents.MESSAGES_URL, headers, message, (CA,))
    assert answer.status == 200, answer
    with tollgate.ledger() as ledger:
        assert len(KeyBooks(ledger, tollgate.provider, key, name).accounted()) == 1
    cluster.delete("virtualkeys", name, PEOPLE)


@pytest.mark.parametrize("mode", MODES)
def test_a_job_with_a_sidecar_completes(cluster, tollgate, keeper, mode):
    """The API server believes the webhook: cert-manager's injector has told it of the authority."""
    certificates.run_job(cluster, mode)


def test_requests_go_on_while_certificates_are_renewed_and_after_it(cluster, tollgate, keeper):
    before = certificates.pods(tollgate)
    old = {part: certificates.in_secret(tollgate, part) for part in PARTS}
    for namespace, name in leaves(cluster):
        real_cert_manager.renew(cluster, namespace, name)
    assert all(certificates.in_secret(tollgate, part) != old[part] for part in PARTS)

    def are_shown() -> bool:
        certificates.assert_none_has_begun_anew(tollgate, before)
        return certificates.show_what_they_hold(cluster, tollgate)

    certificates.assert_requests_go_on_until(cluster, are_shown, "all show their new certificates")


def test_and_back(cluster, tollgate, keeper):
    tollgate.helm("upgrade", certificates={})
    *_, back = said("console")
    run(cluster, back)
    for part in PARTS:
        cluster.wait(f"secret/{RELEASE}-{part}-tls", "create", NAMESPACE)
    wait_until_switched(cluster, tollgate)
    assert leaves(cluster) == {}
    operators = tollgate.secret(f"{RELEASE}-ca")["ca.crt"].decode()
    for part in PARTS:
        assert tollgate.secret(f"{RELEASE}-{part}-tls")["ca.crt"].decode() == operators
    wait_until(lambda: certificates.believed(cluster) == [operators], "the API server believes the operator", BROUGHT)
