"""`rp2pd-hivemind`: puts rp2pd in the place of the daemon inside the package hivemind, and back.

The file that is replaced must be one that a release of Hivemind has shipped; it is kept beside
rp2pd, and checked again before it is put back.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ._find import find_rp2pd_bin

# What Hivemind's releases ship as hivemind_cli/p2pd: SHA-256, and the daemon's version.
KNOWN = {
    "42f8f48e62583b97cdba3c31439c08029fb2b9fc506b5bdd82c46b7cc1d279d8": "v0.5.0.hivemind1",
}

KEPT = "p2pd.hivemind"


class Refused(Exception):
    """Nothing was changed, and why."""


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def is_rp2pd(path: Path) -> bool:
    """Whether the program says that it is rp2pd."""
    try:
        said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0 and said.stdout.startswith("rp2pd ")


def place(argument: "str | None") -> Path:
    """The daemon of the installed package; the package itself is not imported."""
    if argument is not None:
        path = Path(argument)
    else:
        spec = importlib.util.find_spec("hivemind")
        if spec is None or not spec.submodule_search_locations:
            raise Refused("no package hivemind in this environment: name its p2pd with --p2pd")
        path = Path(next(iter(spec.submodule_search_locations))) / "hivemind_cli" / "p2pd"
    if path.is_symlink():
        raise Refused(f"{path} is a link: name the file itself with --p2pd")
    if not path.is_file():
        raise Refused(f"{path} does not exist")
    return path


def replace(path: Path, source: Path) -> None:
    """At once: a program that starts meanwhile finds the one or the other."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".p2pd-")
    os.close(handle)
    try:
        shutil.copyfile(source, name)
        os.chmod(name, 0o755)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def install(path: Path, force: bool) -> str:
    binary = Path(find_rp2pd_bin())
    kept = path.with_name(KEPT)
    if is_rp2pd(path):
        if digest(path) == digest(binary):
            return f"{path} is this rp2pd already"
        replace(path, binary)
        return f"{path} was an rp2pd, and is this one now"
    found = digest(path)
    if found not in KNOWN and not force:
        raise Refused(
            f"{path} is no daemon that a release of Hivemind ships (sha256 {found}); "
            "--force replaces it all the same, and keeps it"
        )
    if kept.exists() and digest(kept) != found:
        raise Refused(f"{kept} is in the way, and differs from {path}: move it away first")
    replace(kept, path)
    replace(path, binary)
    if not is_rp2pd(path):
        replace(path, kept)
        raise Refused(f"{binary} does not run here: {path} is as it was")
    return f"{path} is rp2pd now; Hivemind's {KNOWN.get(found, 'daemon')} is kept as {kept}"


def restore(path: Path, force: bool) -> str:
    kept = path.with_name(KEPT)
    if not kept.is_file():
        raise Refused(f"there is no {kept}: pip install --force-reinstall --no-deps hivemind")
    if not is_rp2pd(path) and not force:
        raise Refused(f"{path} is no rp2pd: it is left alone")
    found = digest(kept)
    if found not in KNOWN and not force:
        raise Refused(f"{kept} is no daemon that a release of Hivemind ships (sha256 {found})")
    replace(path, kept)
    kept.unlink()
    return f"{path} is Hivemind's {KNOWN.get(found, 'daemon')} again"


def status(path: Path, _force: bool) -> str:
    if is_rp2pd(path):
        return f"{path} is rp2pd"
    known = KNOWN.get(digest(path))
    return f"{path} is {'Hivemind’s ' + known if known else 'something else'}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="rp2pd-hivemind", description=__doc__)
    commands = {"install": install, "restore": restore, "status": status}
    parser.add_argument("command", choices=commands)
    parser.add_argument("--p2pd", help="the file, instead of the one in the package hivemind")
    parser.add_argument("--force", action="store_true", help="also what no release has shipped")
    given = parser.parse_args()
    try:
        print(commands[given.command](place(given.p2pd), given.force))
    except (Refused, OSError) as error:
        sys.exit(f"rp2pd-hivemind: {error}")
