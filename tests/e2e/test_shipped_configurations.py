"""The configurations that are shipped, judged as they are by the Envoy that is to run them."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

SHIPPED = pathlib.Path(__file__).parents[2] / "envoy"
# Where the configurations look for everything.
HOME = "/run/tollgate"
SECRETS = {
    "anthropic": "key",
    "anthropic-bearer": "Bearer key",
    "openai-bearer": "Bearer key",
    "gemini-bearer": "Bearer key",
    "virtual-key": "Bearer sk-tg-0123456789",
}


def secret(name: str, value: str) -> str:
    """A file of the form that envoy/README.md shows."""
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    return json.dumps({"resources": [{"@type": kind, "name": name, "generic_secret": {"secret": {"inline_string": value}}}]})


def certificate(folder: pathlib.Path) -> None:
    """A certificate that is its own authority, and its key. Debian's and Fedora's CA certificates, which Envoy needs here
    too, bring openssl along."""
    folder.mkdir()
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    subprocess.run(
        ["openssl", "req", "-x509", *curve, *files, "-days", "2", "-subj", "/CN=sidecar"], check=True, capture_output=True
    )
    shutil.copy(folder / "tls.crt", folder / "ca.crt")


@pytest.fixture
def home(tmp_path):
    """A folder with everything that envoy/README.md says they need."""
    shutil.copy(os.environ["TOLLGATE_FILTER"], tmp_path / "tollgate_filter.wasm")
    (tmp_path / "secrets").mkdir()
    for name, value in SECRETS.items():
        (tmp_path / "secrets" / f"{name}.json").write_text(secret(name, value))
    certificate(tmp_path / "ledger")
    shutil.copy(tmp_path / "ledger" / "ca.crt", tmp_path / "ca.crt")
    return tmp_path


def validate(config: pathlib.Path) -> subprocess.CompletedProcess:
    envoy = [os.environ["TOLLGATE_ENVOY"], "--mode", "validate", "-c", config]
    return subprocess.run(envoy, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", ["ingress.yaml", "sidecar.yaml", "identity.yaml"])
def test_envoy_takes_it_as_it_is_shipped(home, name):
    text = (SHIPPED / name).read_text()
    assert HOME in text
    (home / name).write_text(text.replace(HOME, str(home)))
    result = validate(home / name)
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"configuration '{home / name}' OK" in result.stdout + result.stderr
    assert "deprecated" not in result.stderr.lower(), result.stderr[-3000:]


@pytest.mark.parametrize("name", ["ingress.yaml", "sidecar.yaml"])
def test_envoy_does_not_take_it_without_the_filter(home, name):
    (home / "tollgate_filter.wasm").write_bytes(b"")
    (home / name).write_text((SHIPPED / name).read_text().replace(HOME, str(home)))
    assert validate(home / name).returncode != 0
