"""A stand-in for cert-manager: it does for each Certificate of the cluster what cert-manager and its CA injector do, and nothing else.

What is real is what the chart says to cert-manager: the definition of Certificates, which the API server checks them by. cert-manager
itself takes minutes to build; it runs in the long tests (`real_cert_manager.py`).
"""

import base64
import contextlib
import datetime
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import definitions
import pytest
from cluster import Cluster
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from installation import secret

CERTIFICATES = "certificates.cert-manager.io"
DEFINITION = "deploy/crds/cert-manager.io_certificates.yaml"
# What it puts on everything that it keeps.
GROUP = "cert-manager.io"
INJECT = f"{GROUP}/inject-ca-from"
USAGES = {"server auth": ExtendedKeyUsageOID.SERVER_AUTH, "client auth": ExtendedKeyUsageOID.CLIENT_AUTH}


class CertManager:
    """An authority of one level, and the Secrets of all Certificates."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the platform's authority")])
        key_usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        extensions = [(x509.BasicConstraints(ca=True, path_length=None), True), (key_usage, True)]
        own = self._signed(self._name, self._key.public_key(), datetime.timedelta(days=365), extensions)
        self.authority = pem(own)
        self._kept: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Meanwhile whatever comes is kept."""
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(self._work, stop)
            try:
                yield
            finally:
                stop.set()
            work.result()
        self.keep()

    def _work(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            self.keep()

    def keep(self) -> None:
        """Signs what is not there yet, and tells the API server of it."""
        for certificate in self.cluster.find(CERTIFICATES, "*"):
            name = certificate["metadata"]["namespace"], certificate["metadata"]["name"]
            if name not in self._kept:
                self._write(certificate)
                self._kept.add(name)
        self._inject()

    def renew(self) -> None:
        """Signs everything anew."""
        self._kept.clear()
        self.keep()

    def remove(self) -> None:
        """Everything that it has made: of cert-manager, Secrets would stay."""
        for namespace, name in self._kept:
            self.cluster.kubectl("delete", "secret", name, f"--namespace={namespace}", "--ignore-not-found")

    def _write(self, certificate: dict) -> None:
        spec, metadata = certificate["spec"], certificate["metadata"]
        written = secret(spec["secretName"], self._issue(spec), "kubernetes.io/tls")
        issuer = {f"{GROUP}/issuer-{what}": spec["issuerRef"][what] for what in ("name", "kind", "group")}
        written["metadata"]["annotations"] = {f"{GROUP}/certificate-name": metadata["name"], **issuer}
        written["metadata"]["labels"] = {"controller.cert-manager.io/fao": "true"}
        self.cluster.apply(written, metadata["namespace"])

    def _issue(self, spec: dict) -> dict[str, str]:
        """Exactly what is asked for: an unknown wish is an error."""
        assert spec["privateKey"] == {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"}
        digital_signature, *others = spec["usages"]
        assert digital_signature == "digital signature"
        names = [*map(x509.DNSName, spec.get("dnsNames", [])), *map(x509.UniformResourceIdentifier, spec.get("uris", []))]
        extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.KeyUsage(True, False, False, False, False, False, False, False, False), True),
            (x509.ExtendedKeyUsage([USAGES[usage] for usage in others]), False),
            (x509.SubjectAlternativeName(names), False),
        ]
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, spec["commonName"])])
        life = datetime.timedelta(hours=int(spec["duration"].partition("h")[0]))
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        certificate = self._signed(subject, key.public_key(), life, extensions)
        return {"tls.crt": pem(certificate), "tls.key": private.decode(), "ca.crt": self.authority}

    def _signed(self, subject: x509.Name, key, life: datetime.timedelta, extensions: list) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number(), now, now + life)
        extensions = [
            *extensions,
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

    def _inject(self) -> None:
        """As its CA injector: into webhooks that name one of its Certificates."""
        told = base64.b64encode(self.authority.encode()).decode()
        for configuration in self.cluster.find("mutatingwebhookconfigurations"):
            metadata = configuration["metadata"]
            source = metadata.get("annotations", {}).get(INJECT, "")
            if tuple(source.split("/")) not in self._kept:
                continue
            for place, webhook in enumerate(configuration["webhooks"]):
                if webhook["clientConfig"].get("caBundle") != told:
                    path = f"/webhooks/{place}/clientConfig/caBundle"
                    patch = f'[{{"op": "add", "path": "{path}", "value": "{told}"}}]'
                    self.cluster.kubectl("patch", "mutatingwebhookconfiguration", metadata["name"], "--type=json", f"--patch={patch}")


@contextlib.contextmanager
def installed(cluster: Cluster) -> Iterator[CertManager]:
    """cert-manager's definition of Certificates, and the stand-in."""
    skip_where_there_is_one(cluster)
    definition = definitions.module("cert-manager") / DEFINITION
    cluster.apply(definition)
    cluster.wait(f"customresourcedefinition/{CERTIFICATES}", "condition=Established")
    stand_in = CertManager(cluster)
    yield stand_in
    stand_in.remove()
    cluster.kubectl("delete", "--filename", str(definition), "--wait=false")


def skip_where_there_is_one(cluster: Cluster) -> None:
    if any(one["metadata"]["name"] == CERTIFICATES for one in cluster.find("customresourcedefinitions")):
        pytest.skip("machine: this cluster has a cert-manager, which is not the tests' to replace")


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
