"""Envoy Gateway without a cluster, as it runs on a host: it takes its objects from files, and starts the Envoy that it feeds."""

import json
import os
import pathlib
import ssl
import subprocess
import tarfile

import httpx
import trustme
from gateway import Child
from rendering import ROOT
from stack import CHAT, MESSAGE, free_port

# That of `.make/envoy`.
ENVOY_VERSION = "1.40.0"
CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
FILTER_IMAGE = ROOT / "target" / "images" / "tollgate-filter.tar"


class Registry(Child):
    """Serves the filter's image, by TLS: the client of the tests on a cluster can do that."""

    def __init__(self, folder: pathlib.Path, authority: trustme.CA):
        folder.mkdir()
        assert FILTER_IMAGE.exists(), f"no {FILTER_IMAGE}: run make images, or make test-long"
        with tarfile.open(FILTER_IMAGE) as archive:
            archive.extractall(folder / "layout", filter="data")
        pair = authority.issue_cert("127.0.0.1")
        pair.private_key_pem.write_to_path(folder / "tls.key")
        pair.cert_chain_pems[0].write_to_path(folder / "tls.crt")
        address = f"127.0.0.1:{free_port()}"
        self.image = f"{address}/company/tollgate-filter:1"
        program = os.environ["TOLLGATE_TEST_CLIENT"]
        super().__init__(folder, [program, "registry", address, folder / "layout", folder / "tls.crt", folder / "tls.key"], {})
        context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        self.wait_for(lambda: httpx.get(f"https://{address}/v2/", verify=context, trust_env=False).status_code == 200, "it serves")


class EnvoyGateway(Child):
    """The control plane, with its Envoy below it."""

    def __init__(self, folder: pathlib.Path, objects: list[dict], port: int, verify):
        folder.mkdir()
        self.objects = folder / "objects"
        self.objects.mkdir()
        self.give(objects)
        self._envoy(folder)
        configuration = folder / "envoy-gateway.yaml"
        configuration.write_text(json.dumps(self._configuration(folder)))
        self.http = httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=verify, trust_env=False, timeout=30)
        program, env = pathlib.Path(os.environ["TOLLGATE_ENVOY_GATEWAY"]) / "envoy-gateway", {"HOME": str(folder)}
        # Its own, between it and its Envoy.
        subprocess.run([program, "certgen", "--local", "--config-home", folder / "config"], env=env, capture_output=True, check=True)
        super().__init__(folder, [program, "server", "--config-path", configuration], env)

    def give(self, objects: list[dict]) -> None:
        """Makes these all that there is. It follows the folder."""
        fresh = self.objects / ".objects.yaml"
        fresh.write_text("\n---\n".join(json.dumps(thing) for thing in objects))
        fresh.rename(self.objects / "objects.yaml")

    def _envoy(self, folder: pathlib.Path) -> None:
        """Puts the real one where it would put what it had downloaded."""
        place = folder / "data" / "envoy-versions" / ENVOY_VERSION / "bin"
        place.mkdir(parents=True)
        (place / "envoy").symlink_to(os.environ["TOLLGATE_ENVOY"])

    def _configuration(self, folder: pathlib.Path) -> dict:
        homes = {"configHome": "config", "dataHome": "data", "stateHome": "state", "runtimeDir": "run"}
        host = {name: str(folder / place) for name, place in homes.items()}
        resource = {"type": "File", "file": {"paths": [str(self.objects)]}}
        return {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyGateway",
            "gateway": {"controllerName": CONTROLLER},
            "provider": {"type": "Custom", "custom": {"resource": resource, "infrastructure": {"type": "Host", "host": host}}},
            # What docs/kubernetes/envoy-gateway.md asks for.
            "extensionApis": {"enableEnvoyPatchPolicy": True, "enableBackend": True},
        }

    @staticmethod
    def on_a_host(folder: pathlib.Path, gateway: str, namespace: str) -> dict:
        """What it makes only for clusters: its Envoy fetches the filter from it by a name of Kubernetes, with certificates of the pod."""
        cluster = {"type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "wasm_cluster"}
        certificates = folder / "config" / "certs" / "envoy"
        own = {"certificate_chain": {"filename": f"{certificates}/tls.crt"}, "private_key": {"filename": f"{certificates}/tls.key"}}
        context = {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [own],
            "validation_context": {"trusted_ca": {"filename": f"{certificates}/ca.crt"}},
        }
        changes = {
            "/transport_socket/typed_config/common_tls_context": context,
            "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address": "127.0.0.1",
        }
        return {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyPatchPolicy",
            "metadata": {"name": "on-a-host", "namespace": namespace},
            "spec": {
                "targetRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway},
                "type": "JSONPatch",
                "jsonPatches": [
                    {**cluster, "operation": {"op": "replace", "path": path, "value": value}} for path, value in changes.items()
                ],
            },
        }

    def messages(self, key: str, timeout: float = 30, **more) -> httpx.Response:
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        return self.http.post("/v1/messages", json={**MESSAGE, **more}, headers=headers, timeout=timeout)

    def chat(self, key: str, **more) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json={**CHAT, **more}, headers={"authorization": f"Bearer {key}"})

    def close(self) -> None:
        self.http.close()
        # It stops its Envoy.
        self.process.terminate()
        self.process.wait(30)
