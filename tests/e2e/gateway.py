"""A gateway as it runs in a pod, beside a ledger that wants certificates; and what a test asks of both."""

import contextlib
import json
import os
import pathlib
import signal
import ssl
import subprocess
from decimal import Decimal

import httpx
from mounts import Authority, Mount
from processes import children
from stack import CHAT, MASTER, MESSAGE, free_port, wait_until

PROVIDERS = ("anthropic", "openai", "gemini")


def program(name: str) -> str:
    return os.path.join(os.environ["TOLLGATE_BIN_DIR"], name)


class Child:
    """A process of the test's own, and its log."""

    def __init__(self, folder: pathlib.Path, arguments: list, env: dict):
        self.folder, self.arguments, self.env = folder, arguments, env
        self.log = folder / "log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments, env={"PATH": os.environ["PATH"], **self.env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def says(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def wait_for(self, answers, what: str) -> None:
        def answered():
            assert self.process.poll() is None, f"it ended ({self.process.returncode}):\n{self.says()}"
            with contextlib.suppress(httpx.HTTPError):
                return answers()

        wait_until(answered, what)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)


class Ledger(Child):
    """A ledger with TLS on both of its ports."""

    def __init__(self, folder: pathlib.Path, authority: Authority, *names: str):
        folder.mkdir()
        self.authority = authority
        self.grpc, self.admin, self.metrics = free_port(), free_port(), free_port()
        self.mount = Mount(folder / "tls", authority.issue("ledger", "tollgate-ledger", *names))
        files = {"cert": "tls.crt", "key": "tls.key", "client-ca": "ca.crt"}
        ports = {"grpc": self.grpc, "admin": self.admin, "metrics": self.metrics}
        arguments = [program("tollgate-ledger"), "serve", f"--db={folder / 'ledger.db'}"]
        arguments += [f"--tls-{option}={folder / 'tls' / file}" for option, file in files.items()]
        arguments += [f"--{option}=127.0.0.1:{port}" for option, port in ports.items()]
        super().__init__(folder, arguments, {"TOLLGATE_MASTER_KEY": MASTER})
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        url = f"http://127.0.0.1:{self.metrics}/health/readiness"
        self.wait_for(lambda: httpx.get(url, trust_env=False).status_code == 200, "the ledger is ready")

    def restart(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.start()
        self.wait_until_ready()

    def ask(self, method: str, path: str, **more) -> dict:
        """The admin API."""
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        with httpx.Client(verify=context, trust_env=False, timeout=30) as client:
            headers = {"authorization": f"Bearer {MASTER}"}
            answer = client.request(method, f"https://127.0.0.1:{self.admin}{path}", headers=headers, **more)
        assert answer.status_code == 200, answer.text
        return answer.json(parse_float=Decimal)

    def key(self, **fields) -> str:
        return self.ask("POST", "/key/generate", json=fields)["key"]

    def spend(self, key: str) -> Decimal:
        return Decimal(self.ask("GET", "/key/info", params={"key": key})["info"]["spend"])


class Gateway(Child):
    """`tollgate-run gateway`, with one process of Envoy below it."""

    def __init__(self, folder: pathlib.Path, settings: dict, scheme: str = "http", verify=True, ready: bool = True):
        folder.mkdir(exist_ok=True)
        self.port, self.metrics = free_port(), free_port()
        (folder / "gateway.yaml").write_text(json.dumps({"concurrency": 1, **settings}))
        arguments = [
            program("tollgate-run"),
            "gateway",
            f"--settings={folder / 'gateway.yaml'}",
            f"--envoy={os.environ['TOLLGATE_ENVOY']}",
            f"--filter={os.environ['TOLLGATE_FILTER']}",
            f"--port={self.port}",
            f"--metrics=127.0.0.1:{self.metrics}",
            f"--run={folder / 'run'}",
        ]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, verify=verify, trust_env=False, timeout=30)
        super().__init__(folder, arguments, {})
        if ready:
            self.wait_for(lambda: self.health("/ready") == 200, "the gateway is ready")

    def health(self, path: str) -> int:
        return httpx.get(f"http://127.0.0.1:{self.metrics}{path}", trust_env=False).status_code

    def probe(self, question: str) -> tuple[int, str]:
        """How `tollgate-run health` ends, and what it says: the probe of a sidecar."""
        command = [program("tollgate-run"), "health", question, f"--port={self.metrics}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stderr.strip()

    def envoy(self) -> int:
        """The process id of Envoy."""
        (child,) = children(self.process.pid)
        return child

    def messages(self, key: str, **headers: str) -> httpx.Response:
        return self.http.post("/v1/messages", json=MESSAGE, headers={"x-api-key": key, "anthropic-version": "2023-06-01", **headers})

    def chat(self, key: str, **headers: str) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {key}", **headers})

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def close(self) -> None:
        self.http.close()
        super().close()


def providers(folder: pathlib.Path, url: str) -> tuple[dict[str, Mount], dict]:
    """A mounted Secret for each provider, and the settings that name them."""
    # As `kubectl create secret --from-file` makes it: with the file's last line feed.
    mounts = {name: Mount(folder / name, {"api-key": f"first-{name}\n"}) for name in PROVIDERS}
    return mounts, {name: {"key": str(folder / name / "api-key"), "url": url} for name in PROVIDERS}
