"""The whole, as a test starts it: `tollgate-run` with a mock provider of the test's own, and what a test asks of both."""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import time
from decimal import Decimal

import httpx

MASTER = "sk-master-of-the-tests-0123456789"
PROVIDER_KEYS = {"anthropic": "provider-key-anthropic", "openai": "provider-key-openai", "gemini": "provider-key-gemini"}
# Time for Envoy to compile the filter on a busy machine.
PATIENCE = 90.0


def free_port() -> int:
    """A port where nothing looks for ports of outgoing connections, so that what is started again gets it again."""
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", random.randrange(16_384, 32_768)))
            return listener.getsockname()[1]


def wait_until(condition, what: str, patience: float = PATIENCE):
    """Asks until the answer is true, and gives it."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not within {patience:.0f} s: {what}")


def ask_admin(http: httpx.Client, master: str, method: str, path: str, body=None, **parameters):
    """What the admin API answers."""
    response = http.request(method, path, json=body, params=parameters or None, headers={"authorization": f"Bearer {master}"})
    assert response.status_code == 200, f"{method} {path}: {response.status_code} {response.text}"
    # Amounts are exact, and stay so.
    return response.json(parse_float=Decimal)


class Mock:
    """The mock provider, and its control API."""

    def __init__(self, *arguments: str):
        self.port = free_port()
        program = os.path.join(os.environ["TOLLGATE_BIN_DIR"], "tollgate-mock-provider")
        keys = [f"--{name}-key={key}" for name, key in PROVIDER_KEYS.items()]
        self.process = subprocess.Popen(
            [program, "--listen", f"127.0.0.1:{self.port}", "--exit-with-stdin", *keys, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline(), "the mock provider does not start"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests(self) -> list[dict]:
        return self.http.get("/mock/requests").json()

    def count(self) -> int:
        return self.http.get("/mock/count").json()["count"]

    def reset(self) -> None:
        self.http.delete("/mock/requests").raise_for_status()

    def held(self) -> int:
        return self.http.get("/mock/held").json()["held"]

    def release(self) -> None:
        self.http.post("/mock/release").raise_for_status()

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


class Stack:
    """A running Tollgate."""

    def __init__(self, mock: Mock | None = None, settings: dict | None = None, env: dict | None = None, data=None):
        self.mock = mock
        self._folder = None if data else tempfile.TemporaryDirectory(prefix="tollgate-e2e-")
        self.data = pathlib.Path(data or self._folder.name)
        self.port = free_port()
        self.env = {
            "PATH": os.environ["PATH"],
            **{name: os.environ[name] for name in ("TOLLGATE_BIN_DIR", "TOLLGATE_FILTER", "TOLLGATE_ENVOY", "TOLLGATE_ENVOY_CONFIG")},
            "TOLLGATE_PORT": str(self.port),
            "TOLLGATE_DATA": str(self.data),
            "TOLLGATE_MASTER_KEY": MASTER,
            "TOLLGATE_CONCURRENCY": "2",
            "TOLLGATE_FILTER_SETTINGS": json.dumps(settings or {}),
        }
        if mock:
            for name, key in PROVIDER_KEYS.items():
                self.env[f"{name.upper()}_API_KEY"] = key
                self.env[f"TOLLGATE_{name.upper()}_URL"] = mock.url
        self.env.update(env or {})
        self.output: list[str] = []
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, and waits for the line that it promises."""
        program = os.path.join(os.environ["TOLLGATE_BIN_DIR"], "tollgate-run")
        self.process = subprocess.Popen(
            [program], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in self.process.stdout:
            self.output.append(line)
            if line.startswith("Tollgate is ready"):
                return
        raise AssertionError("Tollgate does not start:\n" + "".join(self.output) + self.logs())

    def logs(self) -> str:
        return "".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in sorted(self.data.glob("log/*.log")))

    def stop(self, expect: int = 0) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=90)
        self.output.append(rest or "")
        assert self.process.returncode == expect, f"exit {self.process.returncode}:\n" + "".join(self.output)

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self.process.stdout.close()
        if self._folder:
            with contextlib.suppress(OSError):
                self._folder.cleanup()

    # Processes of the whole, for tests that kill them.

    def pid_of(self, name: str) -> int:
        """The process id of a child: `tollgate-ledger`, or `envoy`."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(OSError):
                if pathlib.Path(os.readlink(f"/proc/{child}/exe")).name == name:
                    return int(child)
        raise LookupError(f"{name} does not run")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid_of(name), number)

    def envoy_stats(self, *names: str) -> dict[str, int]:
        """Envoy's counters and gauges of these names; those that it has not made yet are 0."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.data / "run" / "envoy.sock"))) as client:
            lines = client.get("http://envoy/stats?usedonly").text.splitlines()
        values = dict(line.split(": ", 1) for line in lines if ": " in line)
        return {name: int(values.get(name, 0)) for name in names}

    def requests_taken(self) -> int:
        """Requests that have reached Envoy so far."""
        return self.envoy_stats("http.ingress.downstream_rq_total")["http.ingress.downstream_rq_total"]

    # The admin API.

    def admin(self, method: str, path: str, body=None, **parameters):
        return ask_admin(self.http, MASTER, method, path, body, **parameters)

    def organization(self, **fields) -> str:
        return self.admin("POST", "/organization/new", fields)["organization_id"]

    def team(self, **fields) -> str:
        return self.admin("POST", "/team/new", fields)["team_id"]

    def user(self, **fields) -> str:
        return self.admin("POST", "/user/new", {"auto_create_key": False, **fields})["user_id"]

    def key(self, **fields) -> str:
        return self.admin("POST", "/key/generate", fields)["key"]

    def key_info(self, key: str) -> dict:
        return self.admin("GET", "/key/info", key=key)["info"]

    def settled(self, key: str) -> dict:
        """The key's account once nothing of it is pending any more."""
        return wait_until(lambda: (info := self.key_info(key))["pending"] == 0 and info, "every hold of the key has ended", 30)

    def spend_logs(self, **parameters) -> list[dict]:
        return self.admin("GET", "/spend/logs", **parameters)

    # The data path.

    def messages(self, key: str, body: dict | None = None, headers: dict | None = None, **more) -> httpx.Response:
        return self.http.post(
            "/v1/messages",
            json={**MESSAGE, **(body or {})},
            headers={"x-api-key": key, "anthropic-version": "2023-06-01", **(headers or {})},
            **more,
        )

    def chat(self, key: str, body: dict | None = None, headers: dict | None = None, **more) -> httpx.Response:
        return self.http.post(
            "/v1/chat/completions",
            json={**CHAT, **(body or {})},
            headers={"authorization": f"Bearer {key}", **(headers or {})},
            **more,
        )


MESSAGE = {"model": "claude-sonnet-4-20250514", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
CHAT = {"model": "gpt-4.1-mini", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
