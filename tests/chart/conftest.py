"""The Helm that the tests on a cluster use."""

import pytest
import rendering


@pytest.fixture(scope="session")
def helm() -> rendering.Helm:
    return rendering.helm()
