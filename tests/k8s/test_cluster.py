"""The cluster is a real one. What the other tests stand on is seen here to hold, so that their failures are the product's."""

import agents
import httpx
import images
import pytest
from cluster import Refused

ENVOY = """
static_resources:
  listeners:
  - address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /}
                direct_response: {status: 200, body: {inline_string: "hello from envoy"}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"""


def envoy(name: str, **pod) -> dict:
    """A container that answers on port 8080."""
    return {
        "name": name,
        "image": images.ENVOY,
        "args": ["--config-yaml", ENVOY, "--concurrency", "1", "--log-level", "warning"],
        "securityContext": agents.RESTRICTED,
        "ports": [{"name": "http", "containerPort": 8080}],
        **pod,
    }


def test_a_pod_reaches_another_by_the_name_of_its_service_and_the_test_does_too(cluster, namespace):
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [envoy("web", readinessProbe=probe)]}}
    web = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    cluster.apply(
        [
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": web},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
            },
            agents.pod("agent"),
        ],
        namespace,
    )
    cluster.rollout("deployment/web", namespace)
    cluster.wait("pod/agent", "condition=Ready", namespace)
    for url in ("http://web/", f"http://web.{namespace}.svc.cluster.local/"):
        (answer,) = agents.request(cluster, namespace, "agent", url)
        assert (answer.status, answer.body) == (200, "hello from envoy"), answer
    answers = agents.request(cluster, namespace, "agent", "http://web/", arguments=("--count=20", "--parallel=4"))
    assert [answer.status for answer in answers] == [200] * 20
    with cluster.forward("service/web", 80, namespace) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).text == "hello from envoy"


def test_what_is_outside_cannot_be_reached(cluster, namespace):
    agents.start(cluster, namespace, "agent")
    (answer,) = agents.request(cluster, namespace, "agent", "http://example.com/", arguments=("--timeout=10s",))
    assert answer.status == 0 and answer.error, answer


def test_a_secret_becomes_the_environment(cluster, namespace):
    cluster.kubectl("create", "secret", "generic", "key", "--from-literal=WHERE=nowhere.invalid", "-n", namespace)
    agents.start(cluster, namespace, "agent", **agents.with_secret("key"))
    (answer,) = agents.request(cluster, namespace, "agent", "http://$WHERE/")
    assert "nowhere.invalid" in answer.error


def test_a_job_ends_with_its_container_although_a_sidecar_still_runs(cluster, namespace):
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    pod = agents.pod("job", "request", "--strict", "http://127.0.0.1:8080/")
    pod["spec"]["initContainers"] = [envoy("sidecar", restartPolicy="Always", startupProbe=probe)]
    pod["spec"]["restartPolicy"] = "Never"
    job = {"backoffLimit": 0, "template": {"spec": pod["spec"]}}
    cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": job}, namespace)
    cluster.wait("job/job", "condition=Complete", namespace)
    assert "hello from envoy" in cluster.logs("job/job", namespace, "agent")


def test_a_volume_keeps_what_a_pod_wrote_that_is_not_root(cluster, namespace):
    claim = {
        "storageClassName": cluster.volume(namespace),
        "accessModes": ["ReadWriteOncePod"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim}, namespace)
    for name, arguments in (("writer", ["write", "/data/word", "kept"]), ("reader", ["read", "/data/word"])):
        pod = agents.pod(name, *arguments, volumeMounts=[{"name": "data", "mountPath": "/data"}])
        pod["spec"] |= {
            "restartPolicy": "Never",
            "securityContext": {"fsGroup": 65532},
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        }
        cluster.apply(pod, namespace)
        cluster.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded", namespace)
    assert cluster.logs("reader", namespace).endswith(" kept")


def test_a_command_that_fails_says_why(cluster, namespace):
    with pytest.raises(Refused, match="not found"):
        cluster.get("pod", "absent", namespace)
