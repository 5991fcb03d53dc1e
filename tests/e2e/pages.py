"""What pages of the documentation say, for tests that do it."""

import pathlib
import re


def section(page: pathlib.Path, title: str) -> str:
    """A section of the second level, its subsections included."""
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {title}"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    """What stands in fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
