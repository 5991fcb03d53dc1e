"""An older chart with older books, then today's, while streams run and requests come: the way of an installation that has been there for
long. No older images exist yet, so the older chart runs today's: what is older are its objects, its definitions and its books."""

import concurrent.futures
import contextlib
import dataclasses
import decimal
import gzip
import json
import pathlib
import secrets
import sqlite3
import tempfile
import time

import agents
import installation
import pytest
import resources
import volumes
import yaml
from accounts import KeyBooks
from cluster import Refused
from installation import NAMESPACE, RELEASE

INSTALLS = True

FIXTURES = pathlib.Path(__file__).with_name("fixtures")
OLDER_CHART = FIXTURES / "tollgate-0.0.9.tgz"
# What was spent with this key, as the ledger said that wrote them.
OLDER_BOOKS = FIXTURES / "ledger-schema-2.db.gz"
KEPT = json.loads((FIXTURES / "ledger-schema-2.json").read_text())
CLAIM, BOOKS = "books", "ledger.db"

PEOPLE, TEAM, KEY = "patient", "patient", "patient"
STREAMS = 4
# Longer than an upgrade may take; they end once it is over.
EVENTS, EVENT_DELAY_MS = 1000, 100
PARTS = ("ledger", "operator", "gateway")


@pytest.fixture(scope="module")
def older(cluster, site):
    """The older chart, installed over the older books."""
    site.uninstall()
    cluster.claim(CLAIM, NAMESPACE)
    with volumes.mounted(cluster, NAMESPACE, CLAIM) as volume:
        volume.write(BOOKS, gzip.decompress(OLDER_BOOKS.read_bytes()))
    # The books end long ago, which somebody has to confirm.
    ledger = {"persistence": {"existingClaim": CLAIM}, "extraArgs": ["--accept-clock"]}
    site.helm("install", chart=OLDER_CHART, images={"tag": installation.version()}, ledger=ledger)
    yield site
    site.uninstall()


@pytest.fixture(scope="module")
def people(cluster, older):
    """An agent with a key of the older installation."""
    cluster.kubectl("create", "namespace", PEOPLE)
    resources.apply(cluster, NAMESPACE, resources.open_team(TEAM))
    resources.make_key(cluster, PEOPLE, KEY, TEAM)
    cluster.apply(agents.pod("agent", **agents.with_secret(KEY)), PEOPLE)
    cluster.wait("pod/agent", "condition=Ready", PEOPLE)
    yield
    cluster.delete("virtualkeys", "--all", PEOPLE)
    cluster.kubectl("delete", "namespace", PEOPLE, "--wait=false")


@dataclasses.dataclass
class State:
    """What an upgrade replaces, and what it keeps."""

    pods: dict[str, set[str]]
    secrets: dict[str, dict[str, bytes]]

    @classmethod
    def of(cls, tollgate) -> "State":
        pods = {part: {pod["metadata"]["uid"] for pod in tollgate.pods(part)} for part in PARTS}
        kept = (f"{RELEASE}-master-key", f"{RELEASE}-ca")
        return cls(pods, {name: tollgate.secret(name) for name in kept})


@dataclasses.dataclass
class Upgrade:
    """What was there before and after it, and the answers to what was asked meanwhile."""

    name: str
    before: State
    after: State
    # How many streams still ran when Helm was content.
    open: int
    streams: list[agents.Answer]
    requests: list[agents.Answer]


@pytest.fixture(scope="module")
def upgrade(cluster, older, people):
    """Streams begin; the ledger stops; its books are made as old as the older chart; today's chart comes."""
    name = secrets.token_hex(4)
    before = State.of(older)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        streams = [pool.submit(stream, cluster, f"{name}-stream-{number}") for number in range(STREAMS)]
        wait_until_all_stream(older.provider, name)
        age_the_books(cluster)
        told = {"user_id": f"{name}-$NUMBER"}
        how = ("--for=15s", "--parallel=2", "--header=x-mock-delay-ms: 100")
        requests = pool.submit(agents.messages, cluster, PEOPLE, "agent", *how, metadata=told)
        older.helm("upgrade", ledger={"persistence": {"existingClaim": CLAIM}})
        open_streams = sum(not one.done() for one in streams)
        after = State.of(older)
        requests = requests.result()
        older.provider.release()
        return Upgrade(name, before, after, open_streams, [answer for one in streams for answer in one.result()], requests)


def stream(cluster, name: str) -> list[agents.Answer]:
    """On a connection of its own, by which it comes to any of the gateways."""
    pace = {"events": EVENTS, "event-delay-ms": EVENT_DELAY_MS, "output": EVENTS, "until-release": "true"}
    headers = [f"--header=x-mock-{header}: {value}" for header, value in pace.items()]
    asked = {"stream": True, "max_tokens": 2 * EVENTS, "metadata": {"user_id": name}}
    return agents.messages(cluster, PEOPLE, "agent", "--timeout=3m", *headers, **asked)


def wait_until_all_stream(provider, name: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        begun = [one for one in provider.requests() if name in json.dumps(one["body"]) and one["answer"]["chunks"] > 2]
        if len(begun) == STREAMS:
            return
        assert time.monotonic() < deadline, f"{len(begun)} streams have begun"
        time.sleep(0.2)


def age_the_books(cluster) -> None:
    """As an older ledger would have left them, with all that is open in them."""
    ledger = f"deployment/{RELEASE}-ledger"
    cluster.kubectl("scale", ledger, "--replicas=0", "--namespace", NAMESPACE)
    cluster.kubectl("wait", "pod", "--for=delete", "--selector=app.kubernetes.io/component=ledger", "--namespace", NAMESPACE)
    with volumes.mounted(cluster, NAMESPACE, CLAIM) as volume:
        # It has closed its file, or some of it would be in another.
        with pytest.raises(Refused, match="no such file"):
            volume.read(f"{BOOKS}-wal")
        volume.write(BOOKS, aged(volume.read(BOOKS)))


def aged(books: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / BOOKS
        file.write_bytes(books)
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.executescript((FIXTURES / "to-schema-2.sql").read_text())
        return file.read_bytes()


def test_the_older_chart_brings_the_older_books_into_service(cluster, older):
    labels = cluster.get("deployment", f"{RELEASE}-ledger", NAMESPACE)["metadata"]["labels"]
    assert labels["helm.sh/chart"] == OLDER_CHART.stem
    with older.ledger() as ledger:
        assert ledger.admin("GET", "/key/info", key=KEPT["key"])["info"]["spend"] == decimal.Decimal(KEPT["spend"])


def test_everything_is_replaced(upgrade):
    for part in PARTS:
        # Gateways that still have streams stay until these end.
        new = upgrade.after.pods[part] - upgrade.before.pods[part]
        assert len(new) == len(upgrade.before.pods[part]), (part, upgrade)
    assert not upgrade.after.pods["ledger"] & upgrade.before.pods["ledger"]


def test_no_stream_is_cut(upgrade):
    assert upgrade.open == STREAMS, "the upgrade took longer than the streams"
    for answer in upgrade.streams:
        assert answer.status == 200 and answer.complete and answer.body.count("event: content_block_delta") == EVENTS, answer
        assert "message_stop" in answer.body


def test_no_request_is_refused_meanwhile(upgrade):
    assert len(upgrade.requests) > 20
    assert [answer for answer in upgrade.requests if answer.status != 200 or not answer.complete] == []


def test_all_of_it_is_charged(older, upgrade):
    key = older.secret(KEY, PEOPLE)["ANTHROPIC_API_KEY"].decode()
    with older.ledger() as ledger:
        journal = KeyBooks(ledger, older.provider, key, upgrade.name).accounted()
    assert len(journal) == STREAMS + len(upgrade.requests)
    streams = [row for number, row in journal.items() if "stream" in number]
    assert [(row["completion_tokens"], row["metadata"]["estimated"]) for row in streams] == [(EVENTS, False)] * STREAMS


def test_the_books_are_todays_and_whole(cluster, older, upgrade):
    """It looks at nothing in books of another schema than its own."""
    said = cluster.exec(
        f"deployment/{RELEASE}-ledger", "/tollgate-ledger", "verify", f"--db=/var/lib/tollgate/{BOOKS}", namespace=NAMESPACE
    )
    assert said, said


def test_what_was_spent_before_is_still_there_and_the_key_goes_on(cluster, older, upgrade):
    headers = {"x-api-key": KEPT["key"], "anthropic-version": "2023-06-01", "content-type": "application/json"}
    url = "$ANTHROPIC_BASE_URL/v1/messages"
    (answer,) = agents.request(cluster, PEOPLE, "agent", url, headers, agents.MESSAGE)
    assert answer.status == 200, answer
    with older.ledger() as ledger:
        books = KeyBooks(ledger, older.provider, KEPT["key"], "")
        info = books.quiet()
        rows = books.charged()
    assert len(rows) == KEPT["requests"] + 1
    assert info["spend"] == decimal.Decimal(KEPT["spend"]) + rows[0]["spend"]


def test_the_master_key_and_the_authority_are_kept(upgrade):
    for name, entries in upgrade.before.secrets.items():
        assert upgrade.after.secrets[name] == entries, name


def test_the_definitions_are_todays(cluster, upgrade):
    today = yaml.safe_load((installation.CHART / "Chart.yaml").read_text())["version"]
    for file in sorted((installation.CHART / "files" / "crds").glob("*.yaml")):
        definition = yaml.safe_load(file.read_text())
        there = cluster.get("customresourcedefinition", definition["metadata"]["name"])
        assert there["metadata"]["labels"]["helm.sh/chart"] == f"tollgate-{today}"
        schemas = [[version["schema"] for version in one["spec"]["versions"]] for one in (definition, there)]
        assert schemas[0] == schemas[1], file.name


def test_the_older_gateways_leave_with_their_last_stream(cluster, older, upgrade):
    for uid in upgrade.before.pods["gateway"]:
        gone = lambda: uid not in {pod["metadata"]["uid"] for pod in older.pods("gateway")}
        deadline = time.monotonic() + 60
        while not gone():
            assert time.monotonic() < deadline, "an older gateway stays"
            time.sleep(0.5)
