"""Certificates, and folders as Kubernetes mounts a Secret: every name is a link through `..data`, and one rename of that link
changes all of them at once."""

import datetime
import ipaddress
import itertools
import os
import pathlib
import secrets

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

IDENTITY = "spiffe://tollgate.dev/"


class Mount:
    """A mounted Secret."""

    def __init__(self, folder: pathlib.Path, files: dict[str, str | bytes]):
        self.folder = folder
        self.numbers = itertools.count(1)
        folder.mkdir(parents=True)
        self.renew(files)

    def renew(self, files: dict[str, str | bytes]) -> None:
        """What the kubelet does when the Secret has changed."""
        fresh = self.folder / f"..2026_{next(self.numbers)}"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(pathlib.Path("..data") / name)
        (self.folder / "..data_tmp").symlink_to(fresh.name)
        os.rename(self.folder / "..data_tmp", self.folder / "..data")


class Authority:
    """Who makes certificates, as the operator does."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        # Each has a name of its own, as the operator's have: of two of one name a verifier may try only the first.
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {secrets.token_hex(4)}")])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self.sign(name, self.key, name, [(constraints, True)])

    def sign(self, subject, key, issuer, extensions) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, who: str, *names: str, authorities: bytes = b"") -> dict[str, bytes]:
        """The entries of a Secret: a certificate of this identity and these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        sans = [x509.UniformResourceIdentifier(IDENTITY + who), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        sans += [x509.DNSName(name) for name in names]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who.replace("/", "-"))])
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        extensions = [
            (x509.SubjectAlternativeName(sans), False),
            (purposes, False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
        ]
        certificate = self.sign(subject, key, self.certificate.subject, extensions)
        return {
            "tls.crt": certificate.public_bytes(serialization.Encoding.PEM),
            "tls.key": key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "ca.crt": authorities or self.pem,
        }
