"""Compares the pinned packages with published vulnerabilities, by pip-audit.

Exits with 1 if a pinned version has a known vulnerability, and with 0 if there is none or
the vulnerability service cannot be reached. The last line says which.

Run as: python .ci/audit.py [LOCK ...]
"""

import json
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parent
LIMIT_S = 300


def report_of(lock):
    """Returns what pip-audit found for each package of a lock, or None if it failed."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(lock), "--format=json"]
    # Every version is pinned, so that nothing has to be resolved or downloaded.
    command += ["--no-deps", "--disable-pip", "--progress-spinner=off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        return json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"{lock.name}: no answer within {LIMIT_S} s")
    except ValueError:
        reason = done.stderr.strip().splitlines() or ["no output"]
        print(f"{lock.name}: pip-audit failed: {reason[-1]}")
    return None


def main(locks):
    """Prints the vulnerabilities found in the locks; returns the exit status."""
    asked, answered, found = 0, 0, set()
    for lock in locks:
        for package in report_of(lock) or []:
            asked += 1
            # A package that the service does not know has a reason instead.
            answered += "vulns" in package
            for vulnerability in package.get("vulns", []):
                versions = ", ".join(vulnerability["fix_versions"]) or "none yet"
                name = f"{package['name']} {package['version']}"
                found.add(f"{name}: {vulnerability['id']}, mended in: {versions}")
    for line in sorted(found):
        print(line)
    if not answered:
        print("Not audited: the vulnerability service could not be reached.")
        return 0
    print(
        f"{answered} of {asked} pinned packages audited, {len(found)} vulnerabilities."
    )
    return 1 if found else 0


if __name__ == "__main__":
    given = [pathlib.Path(path) for path in sys.argv[1:]]
    sys.exit(main(given or sorted(FOLDER.glob("requirements*.lock"))))
