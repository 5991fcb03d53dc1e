#!/usr/bin/env python3
"""Sums what `make test` ran: cargo's output and pytest's JUnit files, in the folder given.

Closes with `N passed, N failed` and, where there were any, `, N skipped`. A skip fails the run unless its reason
begins with `machine:`, which says that the machine leaves no choice. `soak:` marks the long forms, which are no skips.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

FORCED = "machine:"
OTHER_FORM = "soak:"


def cargo(text):
    """(passed, failed, reasons of skips) of `cargo test`."""
    results = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed;", text, re.MULTILINE)
    ignored = re.findall(r"^test (.+) \.\.\. ignored(?:, (.*))?$", text, re.MULTILINE)
    reasons = [f"{reason or 'no reason'} ({name})" for name, reason in ignored]
    passed, failed = (sum(int(result[place]) for result in results) for place in (0, 1))
    return passed, failed if results else failed + 1, reasons


def pytest(text):
    """(passed, failed, reasons of skips) of a JUnit file."""
    cases = list(ElementTree.fromstring(text).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skips = [(case, case.find("skipped")) for case in cases if case.find("skipped") is not None]
    reasons = [f"{skip.get('message', 'no reason')} ({case.get('name')})" for case, skip in skips]
    return len(cases) - len(failed) - len(skips), len(failed) if cases else 1, reasons


def main():
    folder = Path(sys.argv[1])
    passed, failed, reasons = 0, 0, []
    for name, read in (("cargo.txt", cargo), ("pytest.xml", pytest), ("k8s.xml", pytest)):
        report = folder / name
        counts = read(report.read_text(encoding="utf-8")) if report.exists() else (0, 1, [])
        print(f"{name}: {counts[0]} passed, {counts[1]} failed, {len(counts[2])} skipped" + (
            "" if report.exists() else " (it did not run)"))
        passed, failed, reasons = passed + counts[0], failed + counts[1], reasons + counts[2]
    reasons = [reason for reason in reasons if not reason.startswith(OTHER_FORM)]
    unforced = [reason for reason in reasons if not reason.startswith(FORCED)]
    for reason in reasons:
        print(f"skipped, {'not ' if reason in unforced else ''}forced by the machine: {reason}")
    print(f"{passed} passed, {failed} failed" + (f", {len(reasons)} skipped" if reasons else ""))
    sys.exit(1 if failed or unforced else 0)


if __name__ == "__main__":
    main()
