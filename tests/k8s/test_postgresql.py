"""Several ledgers on one PostgreSQL, as the chart installs them: `make test-long`."""

import concurrent.futures

import agents
import installation
import postgres
import pytest
from cluster import only_on_the_tests_own
from installation import NAMESPACE
from resources import apply, make_key, open_team, spend
from stack import wait_until

pytestmark = pytest.mark.long
IN_ORDER = True

PEOPLE = "people"


@pytest.fixture(scope="module")
def tollgate(cluster, site):
    only_on_the_tests_own("the tests make a database only on a node of their own")
    database = postgres.start(cluster)
    cluster.apply(installation.secret("database", database), NAMESPACE)
    site.helm("install", ledger={"store": "postgresql", "replicas": 2, "postgresql": {"secret": "database"}})
    cluster.kubectl("create", "namespace", PEOPLE)
    apply(cluster, NAMESPACE, open_team("many"))
    make_key(cluster, PEOPLE, "agent", "many")
    agents.start(cluster, PEOPLE, "agent", **agents.with_secret("agent"))
    yield site
    site.uninstall()


@pytest.fixture(scope="module")
def price(cluster, tollgate):
    """What one request costs: all of the tests' are alike."""
    (answer,) = agents.messages(cluster, PEOPLE, "agent")
    assert answer.status == 200, answer
    thing = cluster.watch("virtualkeys", "agent", lambda it: spend(it) > 0, "the spend shows", PEOPLE)
    return spend(thing)


def test_every_answer_is_charged_once_whichever_ledger_held_it(cluster, tollgate, price):
    before = tollgate.provider.count()
    answers = agents.messages(cluster, PEOPLE, "agent", "--count=200", "--parallel=8")
    assert {answer.status for answer in answers} == {200}
    assert tollgate.provider.count() == before + 200
    cluster.watch("virtualkeys", "agent", lambda it: spend(it) == before * price + 200 * price, "all are charged", PEOPLE)


def test_a_killed_ledger_of_two_costs_no_request(cluster, tollgate, price):
    assert len(tollgate.pods("ledger")) == 2
    before = tollgate.provider.count()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        load = pool.submit(agents.messages, cluster, PEOPLE, "agent", "--for=15s", "--parallel=4")
        wait_until(lambda: tollgate.provider.count() >= before + 20, "there is load", 20)
        cluster.kubectl("delete", "pod", tollgate.pods("ledger")[0]["metadata"]["name"], f"--namespace={NAMESPACE}", "--grace-period=0", "--force")
        answers = load.result()
    assert [answer for answer in answers if answer.status != 200] == []
    assert tollgate.provider.count() == before + len(answers)
    cluster.watch("virtualkeys", "agent", lambda it: spend(it) == (before + len(answers)) * price, "all are charged", PEOPLE)


def test_a_killed_database_loses_nothing_and_lets_nothing_pass(cluster, tollgate, price):
    before = tollgate.provider.count()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        load = pool.submit(agents.messages, cluster, PEOPLE, "agent", "--for=20s", "--parallel=4")
        wait_until(lambda: tollgate.provider.count() >= before + 20, "there is load", 20)
        # Not by force: that forgets the pod while its server still writes, and the next one must be alone with the books. It asks its
        # clients to leave, waits in vain, and is killed.
        cluster.kubectl("delete", "pod", postgres.NAME, f"--namespace={postgres.NAMESPACE}", "--grace-period=1")
        cluster.apply(postgres.pod(), postgres.NAMESPACE)
        answers = load.result()
    assert {answer.status for answer in answers} <= {200, 503}
    assert answers[-1].status == 200, "it serves again"
    served = sum(answer.status == 200 for answer in answers)
    # What the provider answered was paid for, whoever heard of it.
    assert tollgate.provider.count() == before + served
    cluster.watch("virtualkeys", "agent", lambda it: spend(it) == (before + served) * price, "all are charged", PEOPLE)
