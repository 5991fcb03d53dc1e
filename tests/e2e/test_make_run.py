"""What `make run` promises: one port, data that stays, keys that are not mistaken, and words when it cannot start."""

import os
import signal
import subprocess
from decimal import Decimal

import httpx
import pytest
from stack import MASTER, free_port

OWN_KEY = "own-Zq7vT2mK9xWb4LrN8sYd3HfGc6JpUe1A"


def send_messages(stack, key) -> httpx.Response:
    return stack.messages(key, headers={"x-mock-input": "1000", "x-mock-output": "100"})


class TestPort:
    """The one port: what is the ledger's, what is the filter's, and what is nobody's."""

    @pytest.mark.parametrize(
        "method, path",
        [
            ("POST", "/key/generate"),
            ("GET", "/key/list"),
            ("POST", "/team/new"),
            ("POST", "/organization/new"),
            ("POST", "/user/new"),
            ("GET", "/spend/logs"),
            ("GET", "/spend/tags"),
        ],
    )
    @pytest.mark.parametrize("credential", [None, "sk-wrong", "virtual"])
    def test_the_admin_api_wants_the_master_key(self, stack, method, path, credential):
        key = stack.key() if credential == "virtual" else credential
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        response = stack.http.request(method, path, headers=headers, json={} if method == "POST" else None)
        assert response.status_code == 401, response.text
        assert response.json()["error"]["message"]

    def test_a_virtual_key_reads_its_own_account_alone(self, stack):
        key, other = stack.key(key_alias="mine-to-read"), stack.key()
        mine = stack.http.get("/key/info", headers={"authorization": f"Bearer {key}"})
        assert (mine.status_code, mine.json()["info"]["key_alias"]) == (200, "mine-to-read")
        theirs = stack.http.get("/key/info", params={"key": other}, headers={"authorization": f"Bearer {key}"})
        assert theirs.status_code == 403

    @pytest.mark.parametrize("path", ["/v1/models", "/models"])
    def test_models_are_the_ledgers_or_the_filters_by_the_key(self, stack, path):
        def models(key):
            return stack.http.get(path, headers={"authorization": f"Bearer {key}"} if key else {})

        every = [model["id"] for model in models(MASTER).json()["data"]]
        assert len(every) > 50
        key = stack.key(models=["gpt-4.1-mini"])
        assert [model["id"] for model in models(key).json()["data"]] == ["gpt-4.1-mini"]
        assert models("sk-tg-made-up").status_code == 401
        assert models(None).status_code == 401

    def test_health_needs_no_key(self, stack):
        assert stack.http.get("/health/liveliness").status_code == 200
        assert stack.http.get("/health/readiness").status_code == 200

    @pytest.mark.parametrize("path", ["/nothing", "/", "/key", "/keys/list", "/v1/key/list", "/metrics", "/ui"])
    def test_everything_else_is_404_in_openais_shape(self, stack, path):
        response = stack.http.get(path, headers={"authorization": f"Bearer {MASTER}"})
        assert response.status_code == 404
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    def test_only_the_one_port_is_open_to_others_than_loopback_or_to_tcp_at_all(self, stack):
        """Envoy's admin interface is a Unix socket that only its owner can open."""
        socket = stack.data / "run" / "envoy.sock"
        assert socket.is_socket() and socket.stat().st_mode & 0o077 == 0
        listening = subprocess.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True).stdout
        inodes = {}
        for line in listening.splitlines():
            fields = line.split()
            if len(fields) > 9 and fields[3] == "0A":
                inodes[fields[9]] = fields[1]
        for name in ("envoy", "tollgate-ledger"):
            for inode in sockets_of(stack.pid_of(name)):
                address = inodes.get(inode)
                assert address is None or address.startswith("0100007F:"), f"{name} listens on {address}"

    def test_secrets_are_readable_by_their_owner_alone(self, stack):
        for folder in (stack.data, stack.data / "run"):
            assert folder.stat().st_mode & 0o077 == 0
        for file in (stack.data / "run").rglob("*"):
            assert file.stat().st_mode & 0o077 == 0, file


def sockets_of(pid: int) -> set[str]:
    links = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
        except OSError:
            continue
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def restarted(make_stack, stack, env):
    """The same data, started anew with another environment."""
    stack.stop()
    return make_stack(env=env, data=stack.data)


def test_without_provider_keys_the_mock_serves_and_own_keys_are_never_taken_for_the_providers(make_stack, tmp_path):
    first = make_stack(data=tmp_path / "data")
    output = "".join(first.output)
    for provider in ("anthropic", "openai", "gemini"):
        assert f"the built-in mock provider ({provider.upper()}_API_KEY is not set)" in output
    team = first.team(team_alias="engineering", max_budget=5000, budget_duration="1mo")
    key = first.key(team_id=team, max_budget=100, budget_duration="1mo")
    imported = first.key(key=OWN_KEY)
    assert imported == OWN_KEY
    assert send_messages(first, key).status_code == 200
    # The least fraction that JSON's floats would lose is kept, too.
    assert first.settled(key)["spend"] == Decimal("0.0045")

    # The tutorial's shell has the virtual key in the variable that names the provider's.
    again = restarted(
        make_stack, first, {"ANTHROPIC_API_KEY": key, "OPENAI_API_KEY": OWN_KEY, "GEMINI_API_KEY": MASTER}
    )
    output = "".join(again.output)
    for provider in ("anthropic", "openai", "gemini"):
        line = next(line for line in again.output if line.startswith(provider))
        variable = f"{provider.upper()}_API_KEY"
        assert f"the built-in mock provider ({variable} is a virtual key of this Tollgate" in line
    for secret in (key, OWN_KEY, MASTER):
        assert secret not in output
    assert again.key_info(key)["spend"] == Decimal("0.0045"), "data survive a restart"
    assert again.admin("GET", "/team/info", team_id=team)["team_info"]["max_budget"] == 5000
    assert send_messages(again, key).status_code == 200
    assert again.settled(key)["spend"] == Decimal("0.009")
    assert len(again.spend_logs(api_key=key)) == 2

    # Killed without a goodbye, it starts again all the same.
    again.process.send_signal(signal.SIGKILL)
    again.process.wait(30)
    third = make_stack(data=tmp_path / "data")
    assert third.settled(key)["spend"] == Decimal("0.009")


def test_where_each_providers_traffic_goes_is_said(stack, mock):
    for provider in ("anthropic", "openai", "gemini"):
        line = next(line for line in stack.output if line.startswith(provider))
        assert line.split() == [provider, "goes", "to", mock.url, "(with", f"{provider.upper()}_API_KEY)"]
    assert stack.output[-1] == f"Tollgate is ready: http://localhost:{stack.port}\n"
    assert "provider-key-" not in "".join(stack.output)


class TestRefusedStart:
    def start(self, stack, tmp_path, **env) -> subprocess.CompletedProcess:
        program = os.path.join(os.environ["TOLLGATE_BIN_DIR"], "tollgate-run")
        environment = {**stack.env, "TOLLGATE_DATA": str(tmp_path / "data"), **env}
        done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert "Tollgate is ready" not in done.stdout
        return done

    def test_a_port_that_is_taken(self, stack, tmp_path):
        done = self.start(stack, tmp_path)
        assert f"port {stack.port} is taken: set TOLLGATE_PORT to another one" in done.stderr
        assert stack.http.get("/api/hello").status_code == 200, "whoever had it keeps it"

    def test_data_that_another_one_uses(self, stack, tmp_path):

        done = self.start(stack, tmp_path, TOLLGATE_PORT=str(free_port()), TOLLGATE_DATA=str(stack.data))
        assert "ledger" in done.stderr
        assert stack.http.get("/health/readiness").status_code == 200

    @pytest.mark.parametrize(
        "variable, value", [("TOLLGATE_PORT", "many"), ("TOLLGATE_ANTHROPIC_URL", "ftp://x"), ("TOLLGATE_FILTER", "")]
    )
    def test_a_variable_that_is_wrong_is_named(self, stack, tmp_path, variable, value):
        assert variable in self.start(stack, tmp_path, **{variable: value}).stderr


def test_the_default_master_key_comes_with_a_warning(make_stack, mock):
    stack = make_stack(mock, env={"TOLLGATE_MASTER_KEY": ""})
    warning = [line for line in stack.output if "sk-master" in line]
    assert len(warning) == 1 and "TOLLGATE_MASTER_KEY" in warning[0]
    assert stack.http.get("/key/list", headers={"authorization": "Bearer sk-master"}).status_code == 200
