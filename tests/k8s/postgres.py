"""PostgreSQL in a pod: the server that is here, on a volume of the tests' own node, with TLS by an authority of its own."""

import os
import pathlib
import secrets
import shutil
import subprocess
import tempfile

import agents
import images
import trustme
from cluster import Cluster

IMAGE = "tests.tollgate.dev/postgresql:1"
NAMESPACE = "databases"
NAME = "postgresql"
HOST = f"{NAME}.{NAMESPACE}.svc"
USER = 65532
ZONES = pathlib.Path("/usr/share/zoneinfo")


def programs() -> pathlib.Path:
    return pathlib.Path(os.environ["TOLLGATE_POSTGRES_BIN"])


def asked(what: str) -> pathlib.Path:
    """Where the server looks for something."""
    said = subprocess.run([programs() / "pg_config", what], capture_output=True, text=True, check=True).stdout
    return pathlib.Path(said.strip())


def image() -> images.Image:
    """The server alone: no shell, and what it reads at its start."""
    server, shared, modules = programs() / "postgres", asked("--sharedir"), asked("--pkglibdir")
    files: dict = {str(server): server}
    files |= images.libraries(server)
    # Language and dictionary of its own; the compiler of queries is left out.
    read = [modules / "plpgsql.so", modules / "dict_snowball.so"]
    read += [*(shared / "timezonesets").iterdir(), ZONES / "UTC", ZONES / "Etc" / "UTC"]
    files |= {str(path): path.resolve() for path in read if path.exists()}
    return images.Image(IMAGE, [str(server)], files)


def start(cluster: Cluster) -> dict[str, str]:
    """Starts it, and gives the entries of the Secret that leads to it."""
    images.load_one(cluster, image())
    storage = cluster.volume(NAME, mode="ReadWriteOnce")
    authority, password = trustme.CA(), secrets.token_urlsafe()
    make(cluster.volume_folder(NAME) / "books", authority, password)
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.apply([claim(storage), pod(), service()], NAMESPACE)
    cluster.wait(f"pod/{NAME}", "condition=Ready", NAMESPACE)
    # The whole Secret is mounted beside the URL.
    url = f"postgres://tollgate:{password}@{HOST}/postgres?sslmode=verify-full&sslrootcert=/run/tollgate/database/ca.crt"
    return {"url": url, "ca.crt": authority.cert_pem.bytes().decode()}


def make(books: pathlib.Path, authority: trustme.CA, password: str) -> None:
    """A new cluster of databases, of the user that the pod runs as."""
    # initdb must not be root, and not be somebody without a name, as that user is.
    with tempfile.TemporaryDirectory(prefix="tollgate-initdb-") as name:
        made, said = pathlib.Path(name, "books"), pathlib.Path(name, "password")
        said.write_text(password)
        for path in (made.parent, said):
            shutil.chown(path, "nobody")
        command = [programs() / "initdb", f"--pgdata={made}", "--username=tollgate", f"--pwfile={said}", "--auth=scram-sha-256"]
        command += ["--locale=C", "--encoding=UTF8"]
        subprocess.run(command, user="nobody", extra_groups=[], cwd=name, check=True, capture_output=True)
        shutil.copytree(made, books)
    pair = authority.issue_cert(HOST)
    (books / "server.crt").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    (books / "server.key").write_bytes(pair.private_key_pem.bytes())
    (books / "server.key").chmod(0o600)
    with (books / "pg_hba.conf").open("a") as rules:
        rules.write("hostssl all all all scram-sha-256\n")
    for path in (books.parent, books, *books.rglob("*")):
        os.chown(path, USER, USER)


def claim(storage: str | None) -> dict:
    spec = {"storageClassName": storage, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": NAME}, "spec": spec}


def pod() -> dict:
    settings = {"listen_addresses": "*", "unix_socket_directories": "/tmp", "ssl": "on", "timezone": "UTC", "log_timezone": "UTC"}
    container = {
        "name": NAME,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-D", "/data/books", *(f"--{name}={value}" for name, value in settings.items())],
        "ports": [{"containerPort": 5432}],
        "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1},
        "securityContext": {**agents.RESTRICTED, "runAsUser": USER, "runAsGroup": USER},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": NAME}}, {"name": "tmp", "emptyDir": {}}]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 10}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "labels": {"app": NAME}}, "spec": spec}


def service() -> dict:
    spec = {"selector": {"app": NAME}, "ports": [{"port": 5432}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": spec}
