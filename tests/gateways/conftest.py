"""The Helm that renders the chart for the gateways here."""

import pytest
import rendering


@pytest.fixture(scope="session")
def helm() -> rendering.Helm:
    return rendering.helm()
