"""The operator's own authority and its successor. The steps come after two thirds of a year, an hour, and a month more; here certificates get
older instead, by being made anew with earlier dates. Nothing is started anew for it, and no request fails. Each step stands on those before it."""

import base64
import datetime
import json

import agents
import certificates
import pytest
from certificates import KEY, MODES, PARTS, PEOPLE, SIDECARS, people, tollgate
from cluster import only_on_the_tests_own
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from installation import DIRECT, NAMESPACE, RELEASE
from sidecars import injected

IN_ORDER = INSTALLS = True
pytestmark = pytest.mark.long

AUTHORITY = f"{RELEASE}-ca"
CLAIM = "authority"
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)


def name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def signer(tollgate, entry: str = "tls") -> str:
    return name(x509.load_pem_x509_certificate(tollgate.secret(AUTHORITY)[f"{entry}.crt"]))


def issuers(tollgate) -> set[str]:
    """Of what all parts have in their Secrets."""
    return {certificates.in_secret(tollgate, part).issuer.rfc4514_string() for part in PARTS}


def trusted(pem: str) -> set[str]:
    return {name(one) for one in x509.load_pem_x509_certificates(pem.encode())}


def make_older(cluster, tollgate, entry: str, by: datetime.timedelta) -> None:
    """One that signs, or will, is made anew by its own key, as if that had been earlier."""
    secret = tollgate.secret(AUTHORITY)
    present = x509.load_pem_x509_certificate(secret[f"{entry}.crt"])
    older = (
        x509.CertificateBuilder()
        .subject_name(present.subject)
        .issuer_name(present.issuer)
        .public_key(present.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(present.not_valid_before_utc - by)
        .not_valid_after(present.not_valid_after_utc - by)
    )
    for extension in present.extensions:
        older = older.add_extension(extension.value, extension.critical)
    older = older.sign(load_pem_private_key(secret[f"{entry}.key"], None), hashes.SHA256())
    others = [one for one in x509.load_pem_x509_certificates(secret["ca.crt"]) if one != present]
    entries = {f"{entry}.crt": [older], "ca.crt": [older, *others]}
    data = {name: base64.b64encode(b"".join(one.public_bytes(Encoding.PEM) for one in all)).decode() for name, all in entries.items()}
    patch = json.dumps({"data": data})
    cluster.kubectl("patch", "secret", AUTHORITY, "--type=merge", f"--patch={patch}", f"--namespace={NAMESPACE}")


def everybody_trusts(cluster, tollgate, names: set[str]) -> bool:
    """In the Secrets, in the webhook's configuration, and in what the pods have of the Secrets."""
    secrets = [(f"{RELEASE}-{part}-tls", NAMESPACE) for part in PARTS]
    secrets += [(KEY, namespace) for namespace in MODES.values()] + [(SIDECARS, DIRECT)]
    pods = [*tollgate.pods("ledger"), *tollgate.pods("gateway"), cluster.get("pod", "agent", PEOPLE)]
    pods += [cluster.get("pod", "lasting", namespace) for namespace in MODES.values()]
    mounted = [cluster.mounted(pod, "ca.crt") for pod in pods]
    assert all(mounted), "a pod has nothing of the Secrets"
    bundles = [tollgate.secret(*secret)["ca.crt"].decode() for secret in secrets] + certificates.believed(cluster) + sum(mounted, [])
    return all(trusted(pem) == names for pem in bundles)


@pytest.fixture(scope="module")
def serve_until(cluster, tollgate, people):
    """Waits, while the pods that there are from the beginning, sidecars too, serve every request."""
    only_on_the_tests_own("the tests look only into a node of their own")
    for mode, namespace in MODES.items():
        cluster.apply(injected(mode, KEY, agents.pod("lasting")), namespace)
    for namespace in MODES.values():
        cluster.wait("pod/lasting", "condition=Ready", namespace)
    before = certificates.pods(tollgate)

    def is_so_with_the_same(is_so) -> bool:
        certificates.assert_none_has_begun_anew(tollgate, before)
        for mode, namespace in MODES.items():
            answers = agents.messages(cluster, namespace, "lasting", "--count=2")
            assert [answer.status for answer in answers] == [200, 200], (mode, answers)
        return is_so()

    yield lambda is_so, what: certificates.assert_served_until(cluster, lambda: is_so_with_the_same(is_so), what)
    for namespace in MODES.values():
        cluster.kubectl("delete", "pod/lasting", "--wait=false", f"--namespace={namespace}")


@pytest.fixture(scope="module")
def first(tollgate):
    """The authority of the first day, by its name."""
    return signer(tollgate)


@pytest.fixture(scope="module")
def second(cluster, tollgate, first):
    """Its successor."""
    make_older(cluster, tollgate, "tls", 244 * DAY)
    cluster.watch("secret", AUTHORITY, lambda secret: "next.crt" in secret["data"], "there is a successor", NAMESPACE)
    return signer(tollgate, "next")


def test_a_successor_is_believed_everywhere_before_it_signs(cluster, tollgate, serve_until, first, second):
    serve_until(lambda: everybody_trusts(cluster, tollgate, {first, second}), "everybody trusts both")
    assert signer(tollgate) == first
    assert issuers(tollgate) == {first}


def test_after_an_hour_it_signs_everything_anew(cluster, tollgate, serve_until, first, second):
    make_older(cluster, tollgate, "next", HOUR)
    is_signed = lambda: issuers(tollgate) == {second} and certificates.show_what_they_hold(cluster, tollgate)
    serve_until(is_signed, "all show what the successor has signed")
    held = tollgate.secret(AUTHORITY)
    assert "next.crt" not in held and trusted(held["ca.crt"].decode()) == {first, second}


@pytest.mark.parametrize("mode", MODES)
def test_a_job_with_a_sidecar_completes(cluster, second, mode):
    certificates.run_job(cluster, mode)


def test_the_first_is_forgotten_when_what_it_signed_has_ended(cluster, tollgate, serve_until, second):
    make_older(cluster, tollgate, "tls", 30 * DAY)
    serve_until(lambda: everybody_trusts(cluster, tollgate, {second}), "nobody trusts the first")
    # The certificates themselves are as before.
    assert issuers(tollgate) == {second}


def test_every_connection_is_made_anew_with_the_successors_certificates(cluster, second):
    certificates.assert_requests_go_on_until(cluster, lambda: True, "they are served")
