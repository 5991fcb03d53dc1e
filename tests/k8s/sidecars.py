"""Pods and Jobs that ask for a sidecar."""

import agents


def injected(mode: str, key: str, pod: dict) -> dict:
    """The same pod, or pod template, with the wish for a sidecar."""
    metadata = pod.setdefault("metadata", {})
    metadata["labels"] = {**metadata.get("labels", {}), "tollgate.dev/inject": "true"}
    metadata["annotations"] = {"tollgate.dev/key": key, "tollgate.dev/mode": mode}
    return pod


def job(mode: str, key: str) -> dict:
    """It makes one request, which tells of its mode, and fails with it."""
    said = agents.message_arguments("--strict", metadata={"user_id": f"job-{mode}"})
    template = injected(mode, key, {"spec": {"containers": [agents.container(*said)], "restartPolicy": "Never"}})
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {"backoffLimit": 0, "template": template}}
