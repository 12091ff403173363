"""Run every test but the long ones and the GPU's, and close with a line that counts them all.

What needs no Ray goes first and on every core. The rest follows in one process: Ray changes how a process sees signals
and its children's ends, and its clusters share the machine's cores already.
"""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

PYTEST = Path(sys.executable).with_name("pytest")
RAY = "(ray or engine or train)"
HERE = "not long and not gpu"
RUNS = (["-n", "auto", "--dist", "worksteal", "-m", f"not {RAY} and {HERE}"], ["-m", f"{RAY} and {HERE}"])


def counts(report: Path) -> Counter[str]:
    """How many tests ended in which way, in pytest's words and order."""
    suite = ElementTree.parse(report).getroot()[0].attrib
    failed, skipped, errors = (int(suite[name]) for name in ("failures", "skipped", "errors"))
    passed = int(suite["tests"]) - failed - skipped - errors
    return Counter({"failed": failed, "passed": passed, "skipped": skipped, "errors": errors})


def main() -> int:
    """The first exit code that is not 0."""
    begun, codes, total = time.monotonic(), list[int](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number, options in enumerate(RUNS):
            report = Path(folder) / f"{number}.xml"
            codes.append(subprocess.run([PYTEST, *options, f"--junit-xml={report}"]).returncode)
            if report.exists():  # Not where pytest itself broke down, which its exit code says.
                total.update(counts(report))
    said = ", ".join(f"{number} {how}" for how, number in total.items() if number)
    print(f" {said} in {time.monotonic() - begun:.0f}s ".center(80, "="), flush=True)
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main())
