"""The Secret of a namespace's sidecars, stolen and used against another namespace: what it opens is its own namespace's keys."""

import contextlib
import hashlib
import secrets

import agents
import calls
import installation
import pytest
import resources
from calls import admin, ledger
from certificates import SIDECARS
from installation import DIRECT, NAMESPACE, RELEASE

TEAM = "robbed"
# Whose Secret it is, and against whom it is used; each has a key of this name.
KEY = "saved"
THERE = "victims"
SOMEBODY_ELSES = "the hold belongs to another key"


class Caller:
    """Who speaks to the ledger with a certificate."""

    def __init__(self, channel):
        self.stub = calls.ledger_services.LedgerStub(channel)

    def look_up(self, digest: bytes):
        return self.stub.Lookup(ledger.LookupRequest(key_digest=digest), timeout=20)

    def hold(self, digest: bytes, version: bytes) -> tuple[bytes, str]:
        """A hold for a request of one dollar or so, and what came of it."""
        id = secrets.token_bytes(16)
        bounds = ledger.Bounds(input=1000, input_per_call=1000, output=1000)
        ask = ledger.HoldRequest(
            hold_id=id,
            key_digest=digest,
            policy_version=version,
            model="claude-sonnet-4-20250514",
            provider=ledger.PROVIDER_ANTHROPIC,
            api=ledger.API_MESSAGES,
            bounds=bounds,
        )
        answer = self.stub.Hold(ask, timeout=20)
        if answer.WhichOneof("verdict") == "denied":
            return id, ledger.DenialReason.Name(answer.denied.reason)
        return id, answer.WhichOneof("verdict")

    def report(self, id: bytes, digest: bytes, **event) -> str:
        event = ledger.ReportEvent(hold_id=id, key_digest=digest, sequence=1, **event)
        (outcome,) = self.stub.Report(ledger.ReportRequest(events=[event]), timeout=20).outcomes
        return outcome.reason or ledger.ReportResult.Name(outcome.result)


USAGE = ledger.Usage(input=10, output=10)
EVENTS = {
    "adjust": ledger.Adjust(usage=USAGE),
    "settle": ledger.Settle(usage=USAGE, end=ledger.END_COMPLETE),
    "void": ledger.Void(status=500),
}


@pytest.fixture(scope="module")
def digests(cluster, tollgate):
    """Of the two keys, by their namespaces."""
    cluster.kubectl("create", "namespace", THERE)
    resources.apply(cluster, NAMESPACE, resources.open_team(TEAM))
    for namespace in (DIRECT, THERE):
        resources.apply(cluster, namespace, resources.key(KEY, TEAM))
    for namespace in (DIRECT, THERE):
        resources.wait_until_ready(cluster, "virtualkeys", KEY, namespace)
    key = lambda namespace: tollgate.secret(KEY, namespace)["ANTHROPIC_API_KEY"]
    yield {namespace: hashlib.sha256(key(namespace)).digest() for namespace in (DIRECT, THERE)}
    for namespace in (DIRECT, THERE):
        cluster.delete("virtualkeys", KEY, namespace)
    cluster.kubectl("delete", "namespace", THERE, "--wait=false")


@pytest.fixture(scope="module")
def stolen(tollgate) -> dict[str, bytes]:
    """The real one."""
    return tollgate.secret(SIDECARS, DIRECT)


@pytest.fixture(scope="module")
def callers(cluster, tollgate, stolen):
    """The thief, and the gateway, which may act for every key."""
    with contextlib.ExitStack() as stack:
        open_channel = lambda secret: stack.enter_context(calls.channel(cluster, calls.LEDGER_PORT, secret))
        yield Caller(open_channel(stolen)), Caller(open_channel(tollgate.secret(f"{RELEASE}-gateway-tls")))


def state(tollgate, namespace: str) -> dict:
    """How a key's account stands, and all that the ledger says about it."""
    with tollgate.ledger() as books:
        return books.admin("GET", "/key/info", key=tollgate.secret(KEY, namespace)["ANTHROPIC_API_KEY"].decode())["info"]


def test_it_opens_its_own_namespace(digests, callers):
    """So that what follows fails for the right reason."""
    thief, _ = callers
    known = thief.look_up(digests[DIRECT])
    assert known.WhichOneof("verdict") == "known"
    id, verdict = thief.hold(digests[DIRECT], known.known.policy.version)
    assert verdict == "held"
    assert thief.report(id, digests[DIRECT], void=EVENTS["void"]) == "REPORT_RESULT_APPLIED"


def test_a_key_of_another_namespace_is_unknown_to_it(tollgate, digests, callers):
    thief, gateway = callers
    before = state(tollgate, THERE)
    assert thief.look_up(digests[THERE]).WhichOneof("verdict") == "unknown"
    version = gateway.look_up(digests[THERE]).known.policy.version
    assert thief.hold(digests[THERE], version)[1] == "DENIAL_REASON_KEY_UNKNOWN"
    assert state(tollgate, THERE) == before


def test_a_hold_of_another_namespace_is_beyond_its_reach(tollgate, digests, callers):
    thief, gateway = callers
    version = gateway.look_up(digests[THERE]).known.policy.version
    id, verdict = gateway.hold(digests[THERE], version)
    assert verdict == "held"
    before = state(tollgate, THERE)
    assert before["pending"] > 0
    for name, event in EVENTS.items():
        for digest in digests.values():
            assert thief.report(id, digest, **{name: event}) == SOMEBODY_ELSES, name
    assert state(tollgate, THERE) == before
    # It is open as it was.
    assert gateway.report(id, digests[THERE], settle=EVENTS["settle"]) == "REPORT_RESULT_APPLIED"


def test_it_administers_nothing_with_the_master_key_either(cluster, tollgate, digests, stolen):
    name = admin.AccountName(kind=ledger.ACCOUNT_KIND_KEY, id=f"kubernetes/{THERE}/{KEY}")
    free = admin.DesiredAccount(name=name, owner_scope=f"VirtualKey {THERE}/{KEY}")
    before = state(tollgate, THERE)
    master = tollgate.secret(f"{RELEASE}-master-key")["master-key"].decode()
    with calls.channel(cluster, calls.ADMIN_PORT, stolen) as channel:
        stub = calls.admin_services.AdminStub(channel)
        asked = [
            (stub.Apply, admin.ApplyRequest(managed_by="kubernetes", accounts=[free])),
            (stub.Delete, admin.DeleteRequest(managed_by="kubernetes", accounts=[admin.DeletedAccount(name=name)])),
            (stub.Changes, admin.ChangesRequest()),
            (stub.Crossings, admin.CrossingsRequest()),
        ]
        for call, request in asked:
            for metadata in ({}, {"authorization": f"Bearer {master}"}):
                assert calls.outcome(call, request, **metadata) == "PERMISSION_DENIED", request
    assert state(tollgate, THERE) == before


def test_in_a_pod_of_the_other_namespace_it_opens_no_admin_api(cluster, tollgate, digests, stolen):
    """As a thief has it: copied into a namespace of his own, and used over the network of the cluster."""
    cluster.apply(installation.secret("stolen", {name: text.decode() for name, text in stolen.items()}), THERE)
    pod = agents.pod("thief", volumeMounts=[{"name": "stolen", "mountPath": "/stolen"}])
    pod["spec"]["volumes"] = [{"name": "stolen", "secret": {"secretName": "stolen"}}]
    cluster.apply(pod, THERE)
    cluster.wait("pod/thief", "condition=Ready", THERE)
    master = tollgate.secret(f"{RELEASE}-master-key")["master-key"].decode()
    shown = ("--certificate=/stolen/tls.crt", "--key=/stolen/tls.key")
    headers = {"authorization": f"Bearer {master}"}
    url = f"https://{RELEASE}-ledger.{NAMESPACE}.svc:{calls.ADMIN_PORT}/team/list"
    ask = lambda *arguments: agents.request(cluster, THERE, "thief", url, headers, arguments=("--ca=/stolen/ca.crt", *arguments))
    (answer,) = ask(*shown)
    assert answer.status == 403, answer
    # It is the certificate that is refused.
    (answer,) = ask()
    assert answer.status == 200, answer
