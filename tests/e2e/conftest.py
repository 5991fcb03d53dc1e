"""One running whole for the tests that leave it as they found it; its own for those that break something."""

import pytest
from stack import Mock, Stack


@pytest.fixture(scope="session")
def shared_mock():
    mock = Mock()
    yield mock
    mock.stop()


@pytest.fixture(scope="session")
def shared_stack(shared_mock):
    stack = Stack(shared_mock)
    yield stack
    stack.close()


@pytest.fixture
def mock(shared_mock):
    shared_mock.reset()
    return shared_mock


@pytest.fixture
def stack(shared_stack, mock):
    """The shared whole. A test makes its own teams and keys, and kills nothing."""
    return shared_stack


@pytest.fixture
def own_mock():
    mock = Mock()
    yield mock
    mock.stop()


@pytest.fixture
def make_stack():
    """Makes wholes of the test's own, with settings of its own."""
    stacks = []

    def make(*arguments, **options):
        stacks.append(Stack(*arguments, **options))
        return stacks[-1]

    yield make
    for stack in stacks:
        stack.close()
