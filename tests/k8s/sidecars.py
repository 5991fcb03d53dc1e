"""Pods and Jobs that ask for a sidecar."""

import json

import agents


def injected(mode: str, key: str, pod: dict) -> dict:
    """The same pod, or pod template, with the wish for a sidecar."""
    metadata = pod.setdefault("metadata", {})
    metadata["labels"] = {**metadata.get("labels", {}), "tollgate.dev/inject": "true"}
    metadata["annotations"] = {"tollgate.dev/key": key, "tollgate.dev/mode": mode}
    return pod


def job(mode: str, key: str) -> dict:
    """It makes one request, which tells of its mode, and fails with it."""
    headers = {"x-api-key": "$ANTHROPIC_API_KEY", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    body = {**agents.MESSAGE, "metadata": {"user_id": f"job-{mode}"}}
    said = ["request", "--strict", *(f"--header={name}: {value}" for name, value in headers.items())]
    said += [f"--data={json.dumps(body)}", "$ANTHROPIC_BASE_URL/v1/messages"]
    template = injected(mode, key, {"spec": {"containers": [agents.container(*said)], "restartPolicy": "Never"}})
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {"backoffLimit": 0, "template": template}}
