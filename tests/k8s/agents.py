"""Pods that hold nothing but a client, and what they get for an answer."""

import dataclasses
import json

import images
from cluster import Cluster


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str
    # Whether the body came to its end.
    complete: bool
    error: str
    seconds: float

    def json(self) -> dict:
        return json.loads(self.body)


# What every pod of the tests may be: so that a namespace of the strictest kind takes them, too.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(*arguments: str, **more) -> dict:
    """A container with the client. It carries out `arguments`, or waits."""
    return {
        "name": "agent",
        "image": images.CLIENT,
        "args": list(arguments or ["wait"]),
        "imagePullPolicy": "IfNotPresent",
        "securityContext": RESTRICTED,
        **more,
    }


def pod(name: str, *arguments: str, labels: dict | None = None, annotations: dict | None = None, **more) -> dict:
    """A pod of such a container, which `more` describes further."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **(labels or {})}, "annotations": annotations or {}},
        "spec": {"containers": [container(*arguments, **more)], "terminationGracePeriodSeconds": 5},
    }


def start(cluster: Cluster, namespace: str, name: str, **more) -> None:
    cluster.apply(pod(name, **more), namespace)
    cluster.wait(f"pod/{name}", "condition=Ready", namespace)


def with_secret(secret: str) -> dict:
    """All that an agent is given: the variables in a Secret."""
    return {"envFrom": [{"secretRef": {"name": secret}}]}


def request_arguments(url: str | list[str], headers: dict | None, body: dict | None, arguments: tuple[str, ...]) -> list[str]:
    """What the client is told."""
    command = ["request", *arguments]
    command += [f"--header={name}: {value}" for name, value in (headers or {}).items()]
    command += [f"--data={json.dumps(body)}"] if body is not None else []
    return [*command, *([url] if isinstance(url, str) else url)]


def request(
    cluster: Cluster,
    namespace: str,
    pod: str,
    url: str | list[str],
    headers: dict | None = None,
    body: dict | None = None,
    arguments: tuple[str, ...] = (),
    container: str = "agent",
) -> list[Answer]:
    """Requests from within a pod, as many as `arguments` say, else one to each URL. URLs and headers may name the pod's variables."""
    command = ["/client", *request_arguments(url, headers, body, arguments)]
    said = cluster.exec(pod, *command, namespace=namespace, container=container)
    return [Answer(**json.loads(line)) for line in said.splitlines()]


MESSAGE = {"model": "claude-sonnet-4-20250514", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
CHAT = {"model": "gpt-4.1-mini", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}


MESSAGES_URL = "$ANTHROPIC_BASE_URL/v1/messages"
MESSAGES_HEADERS = {"x-api-key": "$ANTHROPIC_API_KEY", "anthropic-version": "2023-06-01", "content-type": "application/json"}


def messages(cluster: Cluster, namespace: str, pod: str, *arguments: str, **changes) -> list[Answer]:
    """What Anthropic's clients ask, with what the environment says."""
    return request(cluster, namespace, pod, MESSAGES_URL, MESSAGES_HEADERS, {**MESSAGE, **changes}, arguments)


def message_arguments(*arguments: str, **changes) -> list[str]:
    """The same, for a container that does nothing else."""
    return request_arguments(MESSAGES_URL, MESSAGES_HEADERS, {**MESSAGE, **changes}, arguments)


def chat(cluster: Cluster, namespace: str, pod: str, *arguments: str, **changes) -> list[Answer]:
    """What OpenAI's clients ask, with what the environment says."""
    headers = {"authorization": "Bearer $OPENAI_API_KEY", "content-type": "application/json"}
    url = "$OPENAI_BASE_URL/chat/completions"
    return request(cluster, namespace, pod, url, headers, {**CHAT, **changes}, arguments)
