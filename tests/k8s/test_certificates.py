"""Certificates that are not the operator's: between Tollgate's parts cert-manager's, and for clients a company's own, whose authority is in
no image, neither the agents' nor Envoy's.

What stands in for cert-manager is in `cert_manager.py`; itself it runs in `test_cert_manager.py`, which takes longer.
"""

import agents
import cert_manager
import certificates
import installation
import pytest
import trustme
from certificates import BROUGHT, KEY, MODES, PEOPLE, people
from installation import NAMESPACE, authorities, bundle
from stack import wait_until

INSTALLS = True

CLAIM = "certificates"
AUTHORITIES = "private-authorities"


@pytest.fixture(scope="module")
def company():
    """A private authority: nobody has heard of it."""
    return trustme.CA()


@pytest.fixture(scope="module")
def keeper(cluster):
    with cert_manager.installed(cluster) as keeper:
        yield keeper


@pytest.fixture(scope="module")
def tollgate(cluster, site, company, keeper):
    """Installed by somebody who has never had the operator keep certificates."""
    site.uninstall()
    cluster.kubectl("delete", "secrets", "--all-namespaces", "--selector=tollgate.dev/secret")
    cluster.claim(CLAIM, NAMESPACE)
    cluster.apply([installation.gateway_certificate("private-certificate", company), authorities(AUTHORITIES, company)], NAMESPACE)
    tls = {"secret": "private-certificate", "authorities": {"configMap": AUTHORITIES}}
    issuer = {"name": "platform", "kind": "ClusterIssuer"}
    with keeper.at_work():
        site.helm(
            "install",
            certificates={"certManager": {"enabled": True, "issuerRef": issuer}},
            gateway={**site.values["gateway"], "tls": tls},
            ledger={"persistence": {"existingClaim": CLAIM}},
        )
    yield site
    site.uninstall()


def test_the_operator_makes_no_certificate_and_keeps_no_authority(cluster, tollgate, keeper):
    certificates.assert_none_is_the_operators(cluster, tollgate, keeper.authority)


def test_an_agent_knows_the_gateway_by_what_comes_with_its_key(cluster, tollgate, company):
    assert tollgate.secret(KEY, PEOPLE)["ca.crt"].decode() == bundle(company)
    (answer,) = certificates.ask(cluster)
    assert answer.status == 200, answer
    # Its image does not know that authority.
    (answer,) = agents.messages(cluster, PEOPLE, "agent")
    assert answer.status == 0 and "certificate" in answer.error, answer


@pytest.mark.parametrize("mode", MODES)
def test_a_job_with_a_sidecar_completes(cluster, tollgate, mode):
    certificates.run_job(cluster, mode)


@pytest.fixture(scope="module")
def renewed(cluster, people, keeper, company):
    """Everything is signed anew; and the company announces its next authority. Gives the new bundle."""
    keeper.renew()
    following = trustme.CA()
    cluster.apply(authorities(AUTHORITIES, company, following), NAMESPACE)
    return bundle(company, following)


def test_requests_go_on_while_certificates_are_renewed_and_after_it(cluster, tollgate, renewed):
    new = certificates.in_secret(tollgate, "ledger")
    is_shown = lambda: certificates.shown(cluster) == new
    certificates.assert_requests_go_on_until(cluster, is_shown, "the ledger shows its new certificate")


def test_changed_authorities_come_with_the_keys_without_a_restart(cluster, tollgate, renewed):
    wait_until(lambda: tollgate.secret(KEY, PEOPLE)["ca.crt"].decode() == renewed, "the Secret has both authorities", BROUGHT)
