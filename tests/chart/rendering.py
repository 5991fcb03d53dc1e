"""The chart, rendered by Helm."""

import functools
import os
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "k8s" / "chart"


def helm() -> "Helm":
    """The one that TOLLGATE_HELM names, or that of the tests on a cluster."""
    program = os.environ.get("TOLLGATE_HELM")
    if not program:
        folder = subprocess.run([ROOT / ".make" / "kubernetes"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        program = f"{folder}/helm"
    return Helm(pathlib.Path(program))


class Helm:
    def __init__(self, program: pathlib.Path):
        self.program = program

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.program, *arguments], capture_output=True, text=True, timeout=60)

    def template(self, *arguments: str, release: str = "tollgate", namespace: str = "tollgate") -> list[dict]:
        """The objects of a release. Nobody changes them: they are the same for every test."""
        return self._templates(release, namespace, arguments)

    @functools.cache
    def _templates(self, release: str, namespace: str, arguments: tuple[str, ...]) -> list[dict]:
        result = self.run("template", release, str(CHART), f"--namespace={namespace}", *arguments)
        assert result.returncode == 0, result.stderr
        return [document for document in yaml.safe_load_all(result.stdout) if document]

    def refusal(self, *arguments: str) -> str:
        result = self.run("template", "tollgate", str(CHART), "--namespace=tollgate", *arguments)
        assert result.returncode != 0, "it was taken"
        return result.stderr
