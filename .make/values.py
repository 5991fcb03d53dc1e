"""Writes docs/kubernetes/values.md from k8s/chart/values.yaml. Run by `make generate`.

Every value there has a comment of its own above it; one without is an error.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VALUES = ROOT / "k8s" / "chart" / "values.yaml"
PAGE = ROOT / "docs" / "kubernetes" / "values.md"

HEAD = """\
# Values of the chart

Written by `make generate` from [`k8s/chart/values.yaml`](../../k8s/chart/values.yaml); `values.schema.json` beside it refuses
whatever is not here. The usual ways are in [install.md](install.md).
"""


def values(text: str):
    """(path, default or None for a group, comment) of every key."""
    path, comment = [], []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped:
            comment = []
        elif stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").removeprefix(" "))
        elif match := re.fullmatch(r"( *)([A-Za-z]+):(?: (.+))?", line):
            depth = len(match[1]) // 2
            path[depth:] = [match[2]]
            if match[3] and not comment:
                sys.exit(f"{VALUES}:{number}: {'.'.join(path)} has no comment")
            yield ".".join(path), match[3], comment
            comment = []
        else:
            sys.exit(f"{VALUES}:{number}: not understood: {line}")


def page(text: str) -> str:
    lines = [HEAD]
    for path, default, comment in values(text):
        top = "." not in path
        if default is None:
            lines.append(f"\n## {path}\n" if top else "")
            words = " ".join(comment)
            if not top:
                lines.append(f"**`{path}`** {words}".rstrip() + "\n")
            elif words:
                lines.append(words + "\n")
        else:
            prose, example = split(comment)
            lines.append(f"\n## {path}\n\n{prose} Default: `{default}`.\n" if top else f"- `{path}`, by default `{default}`: {prose}")
            if example:
                lines.append("\n```yaml\n" + "\n".join(example) + "\n```\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def split(comment: list[str]) -> tuple[str, list[str]]:
    """The sentences, and the example that is indented below them."""
    example = [line[2:] for line in comment if line.startswith("  ")]
    return " ".join(line for line in comment if line and not line.startswith("  ")), example


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(VALUES.read_text()))
