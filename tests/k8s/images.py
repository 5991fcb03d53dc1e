"""Images without a registry: OCI archives of one layer, written file by file. The same files make the same bytes."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import platform
import subprocess
import tarfile
import tempfile

import trustme

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

PAUSE = "tests.tollgate.dev/pause:1"
CLIENT = "tests.tollgate.dev/client:1"
# The one that the chart names, with the same program in it.
ENVOY = "docker.io/envoyproxy/envoy:distroless-v1.40.0"


@dataclasses.dataclass
class Image:
    reference: str
    entrypoint: list[str]
    # By their paths in the image; what is given as text or bytes stands there as it is.
    files: dict[str, pathlib.Path | str | bytes]
    user: str = "65532:65532"

    def write(self, folder: pathlib.Path) -> pathlib.Path:
        """Writes the archive into the folder."""
        archive = folder / (self.reference.rpartition("/")[2].replace(":", "-") + ".tar")
        layer = archive.with_suffix(".layer")
        with tarfile.open(layer, "w") as tar:
            self._fill(tar)
        blobs: dict[str, bytes | pathlib.Path] = {}
        rootfs = _put(blobs, layer)
        configuration = _put(blobs, self._configuration(rootfs["digest"]))
        manifest = _put(blobs, _json({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **configuration},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **rootfs}],
        }))
        with tarfile.open(archive, "w") as tar:
            _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(tar, "index.json", self._index(manifest))
            for digest, blob in blobs.items():
                _add(tar, f"blobs/sha256/{digest}", blob)
        layer.unlink()
        return archive

    def _fill(self, tar: tarfile.TarFile) -> None:
        folders = {str(parent) for path in self.files for parent in pathlib.PurePosixPath(path).parents} - {"/"}
        for folder in sorted({*folders, "/tmp"}):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755
            tar.addfile(entry)
        for path, content in sorted(self.files.items()):
            _add(tar, path.lstrip("/"), content.encode() if isinstance(content, str) else content)

    def _configuration(self, layer: str) -> bytes:
        return _json({
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "User": self.user, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer]},
        })

    def _index(self, manifest: dict) -> bytes:
        return _json({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                **manifest,
                "platform": {"architecture": ARCHITECTURE, "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": self.reference,
                    "org.opencontainers.image.ref.name": self.reference.rpartition(":")[2],
                },
            }],
        })


def _json(value: dict) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _put(blobs: dict, content: bytes | pathlib.Path) -> dict:
    """Keeps it by its digest, and gives what names it."""
    if isinstance(content, bytes):
        digest, size = hashlib.sha256(content).hexdigest(), len(content)
    else:
        with open(content, "rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), content.stat().st_size
    blobs[digest] = content
    return {"digest": f"sha256:{digest}", "size": size}


def _add(tar: tarfile.TarFile, name: str, content: bytes | pathlib.Path) -> None:
    """Without owner and time."""
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    if isinstance(content, bytes):
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    else:
        entry.size = content.stat().st_size
        entry.mode = 0o755 if os.access(content, os.X_OK) else 0o644
        with open(content, "rb") as file:
            tar.addfile(entry, file)


def pause(client: pathlib.Path) -> Image:
    """What holds a pod's network: it only has to wait."""
    return Image(PAUSE, ["/client", "wait"], {"/client": client})


def client(program: pathlib.Path, certificates: str) -> Image:
    """An agent's: nothing but a client, and the certificates that its company trusts."""
    return Image(CLIENT, ["/client"], {"/client": program, CERTIFICATES: certificates})


def envoy(program: pathlib.Path, certificates: str) -> Image:
    """Envoy's own, as the chart names it, from the program that is here and the C library that it runs with."""
    files: dict = {"/usr/local/bin/envoy": program}
    files |= libraries(program)
    files[CERTIFICATES] = certificates + machine_certificates()
    return Image(ENVOY, ["/usr/local/bin/envoy"], files)


def libraries(program: pathlib.Path) -> dict[str, pathlib.Path]:
    """The shared libraries of a program, and the one that loads them."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return {word: pathlib.Path(word).resolve() for word in said.split() if word.startswith("/")}


def machine_certificates() -> str:
    """What the machine trusts, for the real providers; nothing, where it trusts nobody."""
    path = pathlib.Path(CERTIFICATES)
    return path.read_text() if path.exists() else ""


def load_one(cluster, image: Image) -> None:
    """Makes an image known to a cluster."""
    with tempfile.TemporaryDirectory() as folder:
        cluster.load(image.write(pathlib.Path(folder)))


def load(cluster, program: pathlib.Path, envoy_program: pathlib.Path, authority: trustme.CA) -> None:
    """Makes both known to a cluster, with the authority that the agents trust."""
    certificates = authority.cert_pem.bytes().decode()
    for image in (client(program, certificates), envoy(envoy_program, certificates)):
        load_one(cluster, image)
