"""The Helm that the tests on a cluster use."""

import os
import pathlib
import subprocess

import pytest
from rendering import ROOT, Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    program = os.environ.get("TOLLGATE_HELM")
    if not program:
        folder = subprocess.run([ROOT / ".make" / "kubernetes"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        program = f"{folder}/helm"
    return Helm(pathlib.Path(program))
