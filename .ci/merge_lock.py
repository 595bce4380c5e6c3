"""Writes the versions of one list of packages into a lock, and keeps the lock's comments.

Comments stay where they are, a marker (after ';') stays with its package, a package that is
gone is removed and a new one is put into its place in the alphabet.

Run as: python .ci/merge_lock.py [--only-known] LOCK FREEZE
With --only-known the lock keeps its list of packages, and takes their versions alone.
"""

import pathlib
import re
import sys

# In every environment; a lock that needs one of them names it.
OF_ENVIRONMENTS = {"pip", "setuptools", "wheel"}


def key(line):
    """Returns the normalized name of the package of a line."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=; ]", line)[0]).lower()


def merged(lock, freeze, only_known=False):
    """Returns the lines of the lock with the versions of the frozen list."""
    pins = [line for line in freeze if "==" in line and not line.startswith("#")]
    # A build of one processor or accelerator is not what everyone can install.
    versions = {
        key(pin): re.sub(r"\+[\w.]+$", "", pin.split(";")[0].strip()) for pin in pins
    }
    lines, known = [], set()
    for line in lock:
        if line.startswith("#") or not line.strip():
            lines.append(line)
        elif key(line) in versions:
            known.add(key(line))
            name, version = line.split("==")[0], versions[key(line)].split("==")[1]
            marker = line.partition(";")[2]
            lines.append(f"{name}=={version}" + (f";{marker}" if marker else ""))
        elif only_known:
            raise KeyError(f"{line} is not in the list of new versions")
    if not only_known:
        for name in sorted(versions.keys() - known - OF_ENVIRONMENTS):
            later = (
                n
                for n, line in enumerate(lines)
                if not line.startswith("#") and key(line) > name
            )
            lines.insert(next(later, len(lines)), versions[name])
    return lines


def main(arguments):
    """Rewrites the lock, and prints what changed."""
    only_known = "--only-known" in arguments
    lock, freeze = (pathlib.Path(a) for a in arguments if not a.startswith("--"))
    old = lock.read_text(encoding="utf-8").splitlines()
    new = merged(old, freeze.read_text(encoding="utf-8").splitlines(), only_known)
    lock.write_text("\n".join(new) + "\n", encoding="utf-8")
    for line in sorted(set(old) - set(new), key=str.lower):
        print(f"- {line}")
    for line in sorted(set(new) - set(old), key=str.lower):
        print(f"+ {line}")
    print(f"{lock}: {sum('==' in line for line in new)} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
