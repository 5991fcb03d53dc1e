"""What is in our images, as whoever pulls one sees it."""

import json
import pathlib
import re
import tarfile

import pytest
from installation import IMAGES, REPOSITORY, ROOT, version

# Each with the program that it starts, and what else is in it.
PROGRAMS = {
    "tollgate-ledger": ("tollgate-ledger", set()),
    "tollgate-operator": ("tollgate-operator", set()),
    "tollgate-filter": ("tollgate-run", {"plugin.wasm"}),
    "tollgate-mock-provider": ("tollgate-mock-provider", set()),
}
PREFIX = "org.opencontainers.image."


class Archive:
    """An image as `make images` leaves it."""

    def __init__(self, path: pathlib.Path):
        self.tar = tarfile.open(path)
        self.index = self.json("index.json")
        manifest = self.blob(self.index["manifests"][0])
        while "manifests" in manifest:
            manifest = self.blob(manifest["manifests"][0])
        self.layers = manifest["layers"]
        self.configuration = self.blob(manifest["config"])

    def json(self, name: str) -> dict:
        return json.load(self.tar.extractfile(name))

    def blob(self, named: dict) -> dict:
        return self.json(f"blobs/{named['digest'].replace(':', '/')}")

    def files(self) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        found = {}
        for layer in self.layers:
            with tarfile.open(fileobj=self.tar.extractfile(f"blobs/{layer['digest'].replace(':', '/')}")) as tar:
                found |= {one.name.lstrip("./"): (one, tar.extractfile(one).read()) for one in tar if one.isfile()}
        return found


@pytest.fixture(scope="module", params=PROGRAMS)
def image(request, bare_cluster):
    """Where there can be no cluster, there are none."""
    yield request.param, Archive(IMAGES / f"{request.param}.tar")


def test_it_holds_what_it_needs_and_nothing_else(image):
    name, archive = image
    program, others = PROGRAMS[name]
    files = archive.files()
    assert set(files) == {program, *others}
    entry, content = files[program]
    assert entry.mode & 0o777 == 0o755
    # Static, because nothing stands beside it; and it does not tell where it was built.
    assert content.startswith(b"\x7fELF") and b"ld-musl" not in content and b"ld-linux" not in content
    assert str(ROOT).encode() not in content
    if others:
        assert files["plugin.wasm"][1].startswith(b"\0asm")


def test_it_runs_as_nobody_in_particular_and_says_what_it_is(image):
    name, archive = image
    said = archive.configuration["config"]
    assert said["User"] == "65532:65532"
    assert said["Entrypoint"] == [f"/{PROGRAMS[name][0]}"]
    labels = {label.removeprefix(PREFIX): text for label, text in said["Labels"].items() if label.startswith(PREFIX)}
    assert labels["title"] == name and labels["version"] == version() and labels["licenses"] == "Apache-2.0"
    assert re.fullmatch("[0-9a-f]{40}|unknown", labels["revision"])
    assert labels["source"] == labels["url"] and labels["description"]
    assert archive.index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] == f"{REPOSITORY}/{name}:{version()}"
