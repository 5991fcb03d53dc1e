"""What is compared: plain Envoy, Envoy with a filter that does nothing, and Tollgate, in front of the same provider.

The first two run the configuration that Tollgate's Envoy runs, with what is Tollgate's taken out of it: listener,
connection manager, access log, provider cluster and credential injection are the same to the letter."""

import copy
import json
import os
import pathlib
import subprocess
import urllib.error
import urllib.request

from stack import Mock, Stack, free_port, wait_until

NAMES = ("plain", "empty", "tollgate")
# One worker: CPU per request is what is compared, and the machine's other cores are for the rest.
WORKERS = "1"
# So that no limit is ever met: refusals are cheaper than requests.
LIMIT = {"max_budget": 1_000_000, "budget_duration": "1mo"}


class Provider(Mock):
    """The mock provider without a record of what it got."""

    def __init__(self):
        super().__init__("--quiet")


class Tollgate:
    """The whole, as `make run` starts it, and one key whose every request is held on four accounts."""

    def __init__(self, provider: Provider, folder: pathlib.Path):
        self.stack = Stack(provider, env={"TOLLGATE_CONCURRENCY": WORKERS}, data=folder)
        organization = self.stack.organization(organization_alias="bench", **LIMIT)
        team = self.stack.team(team_alias="bench", organization_id=organization, **LIMIT)
        user = self.stack.admin("POST", "/user/new", {"user_alias": "bench", "auto_create_key": False, **LIMIT})["user_id"]
        self.key = self.stack.key(key_alias="bench", team_id=team, user_id=user, **LIMIT)
        self.port = self.stack.port
        self.pid = self.stack.pid_of("envoy")
        self.ledger_pid = self.stack.pid_of("tollgate-ledger")
        self.configuration = json.loads((folder / "run" / "envoy.json").read_text())

    def stop(self) -> None:
        self.stack.stop()
        self.stack.close()


class Envoy:
    """Envoy alone with a configuration."""

    def __init__(self, configuration: dict, port: int, folder: pathlib.Path):
        folder.mkdir()
        file = folder / "envoy.json"
        file.write_text(json.dumps(configuration))
        self.log = folder / "envoy.log"
        # As `tollgate-run` starts it.
        arguments = ["-c", file, "--disable-hot-restart", "--log-level", "warning", "--concurrency", WORKERS]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([os.environ["TOLLGATE_ENVOY"], *arguments], stdout=log, stderr=log)
        self.port, self.pid = port, self.process.pid
        try:
            wait_until(self.serves, f"Envoy serves; {self.log} says why not")
        except BaseException:
            self.stop()
            raise

    def serves(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def manager_of(configuration: dict) -> dict:
    """The connection manager, where filters and routes are."""
    return configuration["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def plain(tollgate: dict, port: int) -> dict:
    """Without the filter. What led to a provider where the filter said so leads there always."""
    configuration = copy.deepcopy(tollgate)
    del configuration["admin"]
    configuration["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port
    manager = manager_of(configuration)
    manager["http_filters"] = [each for each in manager["http_filters"] if each["name"] != "tollgate"]
    host = manager["route_config"]["virtual_hosts"][0]
    route = next(each for each in host["routes"] if each.get("name") == "anthropic")
    del route["match"]["filter_state"]
    host["routes"] = [route]
    clusters = configuration["static_resources"]["clusters"]
    configuration["static_resources"]["clusters"] = [each for each in clusters if each["name"] == "anthropic"]
    return configuration


def empty(tollgate: dict, port: int) -> dict:
    """With a filter that does nothing, in a virtual machine with Tollgate's settings."""
    configuration = plain(tollgate, port)
    filters = manager_of(tollgate)["http_filters"]
    filter = copy.deepcopy(next(each for each in filters if each["name"] == "tollgate"))
    config = filter["typed_config"]["config"]
    config["vm_config"]["code"]["local"]["filename"] = os.environ["TOLLGATE_EMPTY_FILTER"]
    del config["configuration"]
    manager_of(configuration)["http_filters"].insert(0, filter)
    return configuration


class Variants:
    """All of it, side by side."""

    def __init__(self, folder: pathlib.Path):
        self.running = []
        try:
            self.provider = self.started(Provider())
            tollgate = self.started(Tollgate(self.provider, folder / "tollgate"))
            self.by_name = {"tollgate": tollgate}
            for name, configure in (("plain", plain), ("empty", empty)):
                port = free_port()
                configuration = configure(tollgate.configuration, port)
                self.by_name[name] = self.started(Envoy(configuration, port, folder / name))
        except BaseException:
            self.stop()
            raise

    def started(self, part):
        self.running.append(part)
        return part

    def __getitem__(self, name: str):
        return self.by_name[name]

    @property
    def headers(self) -> list[str]:
        """The same for each: plain Envoy, too, replaces the credential."""
        return [
            f"x-api-key: {self['tollgate'].key}",
            "anthropic-version: 2023-06-01",
            "content-type: application/json",
        ]

    def stop(self) -> None:
        while self.running:
            self.running.pop().stop()
