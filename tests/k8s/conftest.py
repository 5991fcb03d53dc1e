"""One cluster for all tests here, with the images that they need, and a namespace for each that asks for one."""

import os
import pathlib
import secrets

import cluster as clusters
import images
import installation
import pytest
import trustme

# The first test of each file that failed.
FAILED = pytest.StashKey[dict[pathlib.Path, str]]()


@pytest.fixture(scope="session")
def authority():
    """Whom the agents trust, as they would trust their company."""
    return trustme.CA()


@pytest.fixture(scope="session")
def client() -> pathlib.Path:
    assert os.environ.get("TOLLGATE_TEST_CLIENT"), "TOLLGATE_TEST_CLIENT names no client: run make test-k8s"
    return pathlib.Path(os.environ["TOLLGATE_TEST_CLIENT"])


@pytest.fixture(scope="session")
def bare_cluster(request, tmp_path_factory):
    """The cluster, with no image of ours."""
    if reason := clusters.obstacle():
        pytest.skip(f"machine: no Kubernetes cluster can be started, and TOLLGATE_TEST_KUBECONFIG names none: {reason}")
    pause = images.pause(request.getfixturevalue("client")).write(tmp_path_factory.mktemp("pause"))
    with clusters.start(pause) as cluster:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"on {cluster.description}")
        yield cluster


@pytest.fixture(scope="session")
def cluster(bare_cluster, client, authority):
    images.load(bare_cluster, client, pathlib.Path(os.environ["TOLLGATE_ENVOY"]), authority)
    return bare_cluster


@pytest.fixture(scope="session")
def site(cluster, authority):
    """All that Tollgate needs where it is installed, and nothing of it."""
    installation.load_images(cluster)
    with installation.provider(cluster) as provider:
        yield installation.Installation(cluster, provider, installation.prepare(cluster, authority))


@pytest.fixture(scope="session")
def tollgate(site):
    """Today's chart as it is, installed once for all."""
    site.notes = site.helm("install")
    return site


def pytest_collection_modifyitems(items):
    """First what needs the cluster alone, then what needs an installation, then what installs by itself."""
    items.sort(key=lambda item: ("tollgate" in item.fixturenames) + 2 * getattr(item.module, "INSTALLS", False))


@pytest.fixture
def namespace(cluster):
    """A namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    # Its end takes seconds, for which nobody has to wait.
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails says how the cluster stands."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("bare_cluster")
    if report.failed:
        item.session.stash.setdefault(FAILED, {}).setdefault(item.path, item.name)
        if cluster:
            report.sections.append(("the cluster", cluster.describe()))
    return report


@pytest.fixture(autouse=True)
def in_order(request):
    """In a file whose tests stand on each other (`IN_ORDER`), those after a failed one say so, instead of failing on their own."""
    failed = request.session.stash.get(FAILED, {}).get(request.path)
    if failed and getattr(request.module, "IN_ORDER", False):
        pytest.fail(f"not reached, because this failed: {failed}", pytrace=False)
