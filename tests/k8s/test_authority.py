"""The operator's own authority and its successor. The steps come after two thirds of a year, an hour, and a month more; here certificates get
older instead, by being made anew with earlier dates. Nothing is started anew for it, and no request fails. Each step stands on those before it."""

import base64
import datetime
import json

import certificates
import pytest
from certificates import BROUGHT, KEY, MODES, PARTS, PEOPLE
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from installation import DIRECT, NAMESPACE, RELEASE
from stack import wait_until

IN_ORDER = INSTALLS = True
pytestmark = pytest.mark.long

AUTHORITY = f"{RELEASE}-ca"
SIDECARS = "tollgate-sidecar-tls"
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def tollgate(cluster, site):
    with certificates.installed(cluster, site, "authority") as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def people(cluster, tollgate):
    with certificates.people(cluster):
        yield


@pytest.fixture(scope="module")
def pods(tollgate, people):
    """Those that there are, and stay."""
    return certificates.pods(tollgate)


def signer(tollgate, entry: str = "tls") -> x509.Certificate:
    return x509.load_pem_x509_certificate(tollgate.secret(AUTHORITY)[f"{entry}.crt"])


def trusted(pem: str | bytes) -> set[str]:
    """By their names."""
    all_of_them = x509.load_pem_x509_certificates(pem if isinstance(pem, bytes) else pem.encode())
    return {one.subject.rfc4514_string() for one in all_of_them}


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
    held = [tollgate.secret(f"{RELEASE}-{part}-tls")["ca.crt"].decode() for part in PARTS]
    held += [tollgate.secret(KEY, namespace)["ca.crt"].decode() for namespace in MODES.values()]
    held += [tollgate.secret(SIDECARS, DIRECT)["ca.crt"].decode()]
    held += certificates.believed(cluster)
    living = [pod for part in ("ledger", "gateway") for pod in tollgate.pods(part)] + [cluster.get("pod", "agent", PEOPLE)]
    mounted = [cluster.mounted(pod, "ca.crt") for pod in living]
    assert all(mounted), "a pod has nothing of the Secrets"
    return all(trusted(pem) == names for pem in [*held, *(pem for of_pod in mounted for pem in of_pod)])


def assert_served_until(cluster, tollgate, pods, is_so, what: str) -> None:
    answers = []

    def is_so_and_served() -> bool:
        assert certificates.pods(tollgate) == pods, "something has been started anew"
        answers.extend(certificates.ask(cluster, "--count=5"))
        return is_so()

    wait_until(is_so_and_served, what, BROUGHT)
    assert {answer.status for answer in answers} == {200}, answers


@pytest.fixture(scope="module")
def first(tollgate):
    """The authority of the first day, by its name."""
    return signer(tollgate).subject.rfc4514_string()


@pytest.fixture(scope="module")
def second(cluster, tollgate, first):
    """Its successor."""
    make_older(cluster, tollgate, "tls", 244 * DAY)
    cluster.watch("secret", AUTHORITY, lambda secret: "next.crt" in secret["data"], "there is a successor", NAMESPACE)
    return signer(tollgate, "next").subject.rfc4514_string()


def test_a_successor_is_believed_everywhere_before_it_signs(cluster, tollgate, pods, first, second):
    assert_served_until(
        cluster, tollgate, pods, lambda: everybody_trusts(cluster, tollgate, {first, second}), "everybody trusts both"
    )
    assert signer(tollgate).subject.rfc4514_string() == first
    for part in PARTS:
        assert certificates.in_secret(tollgate, part).issuer.rfc4514_string() == first


def test_after_an_hour_it_signs_everything_anew(cluster, tollgate, pods, first, second):
    make_older(cluster, tollgate, "next", HOUR)

    def is_signed() -> bool:
        issuers = {certificates.in_secret(tollgate, part).issuer.rfc4514_string() for part in PARTS}
        return issuers == {second} and certificates.show_what_they_hold(cluster, tollgate)

    assert_served_until(cluster, tollgate, pods, is_signed, "all show what the successor has signed")
    held = tollgate.secret(AUTHORITY)
    assert "next.crt" not in held and trusted(held["ca.crt"]) == {first, second}


@pytest.mark.parametrize("mode", MODES)
def test_a_job_with_a_sidecar_completes(cluster, tollgate, pods, second, mode):
    certificates.run_job(cluster, mode)


def test_the_first_is_forgotten_when_what_it_signed_has_ended(cluster, tollgate, pods, second):
    make_older(cluster, tollgate, "tls", 30 * DAY)
    assert_served_until(cluster, tollgate, pods, lambda: everybody_trusts(cluster, tollgate, {second}), "nobody trusts the first")
    # The certificates themselves are as before.
    for part in PARTS:
        assert certificates.in_secret(tollgate, part).issuer.rfc4514_string() == second


def test_every_connection_is_made_anew_with_the_successors_certificates(cluster, tollgate, second):
    certificates.assert_requests_go_on_until(cluster, lambda: True, "they are served")
