"""The scripts behind the Makefile that decide whether a run is green."""

import subprocess
import sys
from pathlib import Path

import pytest

MAKE = Path(__file__).parents[2] / ".make"

CARGO = """
running 2 tests
test money::rounds_up ... ok
test long ... ignored, soak: 1,000 seeds

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 1 test
test result: {verdict}. 2 passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
"""
SKIP = '<testcase name="c"><skipped type="pytest.skip" message="{}">x</skipped></testcase>'
K8S = '<testsuites><testsuite><testcase name="a"/></testsuite></testsuites>'
PYTEST = '<testsuites><testsuite><testcase name="a"/><testcase name="b"/>{}</testsuite></testsuites>'


def run(script, *arguments):
    done = subprocess.run([sys.executable, MAKE / script, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize(
    ("cargo", "junit", "code", "closing"),
    [
        (CARGO.format(verdict="ok", failed=0), PYTEST.format(""), 0, "6 passed, 0 failed"),
        (CARGO.format(verdict="FAILED", failed=1), PYTEST.format(""), 1, "6 passed, 1 failed"),
        (CARGO.format(verdict="ok", failed=0), None, 1, "4 passed, 1 failed"),
        ("error: could not compile", PYTEST.format(""), 1, "3 passed, 1 failed"),
        (
            CARGO.format(verdict="ok", failed=0),
            PYTEST.format(SKIP.format("machine: no IPv6")),
            0,
            "6 passed, 0 failed, 1 skipped",
        ),
        (CARGO.format(verdict="ok", failed=0), PYTEST.format(SKIP.format("later")), 1, "6 passed, 0 failed, 1 skipped"),
        (
            CARGO.format(verdict="ok", failed=0),
            PYTEST.format('<testcase name="d"><failure message="x"/></testcase>'),
            1,
            "6 passed, 1 failed",
        ),
        (
            CARGO.format(verdict="ok", failed=0).replace(", soak: 1,000 seeds", ""),
            PYTEST.format(""),
            1,
            "6 passed, 0 failed, 1 skipped",
        ),
    ],
)
def test_counts_close_with_the_sum_and_fail_on_an_unforced_skip(tmp_path, cargo, junit, code, closing):
    (tmp_path / "cargo.txt").write_text(cargo, encoding="utf-8")
    (tmp_path / "k8s.xml").write_text(K8S, encoding="utf-8")
    if junit:
        (tmp_path / "pytest.xml").write_text(junit, encoding="utf-8")
    status, lines = run("counts.py", tmp_path)
    assert (status, lines[-1]) == (code, closing)
    (tmp_path / "k8s.xml").unlink()
    assert run("counts.py", tmp_path)[0] == 1


def name(text):
    return bytes([len(text)]) + text.encode()


def module(*imports):
    """A wasm module that imports functions of type 0."""
    body = bytes([len(imports)]) + b"".join(name(space) + name(field) + b"\0\0" for space, field in imports)
    types = b"\x01\x04\x01\x60\x00\x00"
    return b"\0asm\1\0\0\0" + types + b"\x02" + bytes([len(body)]) + body


@pytest.mark.parametrize(
    ("imports", "code", "line"),
    [
        ([], 0, "0 imports, 0 of them not allowed"),
        ([("env", "proxy_log")], 0, "1 imports, 0 of them not allowed"),
        ([("env", "proxy_log"), ("env", "__wbindgen_throw")], 1, "2 imports, 1 of them not allowed"),
        ([("wasi_snapshot_preview1", "proxy_log")], 1, "1 imports, 1 of them not allowed"),
    ],
)
def test_only_listed_imports_pass(tmp_path, imports, code, line):
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("# what may be\n\nenv.proxy_log # logs\n", encoding="utf-8")
    wasm = tmp_path / "filter.wasm"
    wasm.write_bytes(module(*imports))
    status, lines = run("wasm-imports.py", wasm, allowed)
    assert status == code and line in lines
    wasm.write_bytes(b"\0asm\1\0\0\0\x02\x7f")
    assert run("wasm-imports.py", wasm, allowed)[0] == 1
