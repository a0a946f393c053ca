"""Where compiled functions are kept between processes."""

import os
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp


def cache_folder(*packages: Path) -> Path:
    """Outside the tree, and one for each state of the sources in `packages`.

    Numba looks at the file of a function alone: it would go on using machine code with a constant of another file that
    has changed since. Where nothing can be kept, a folder of this process alone serves. $NUMBA_CACHE_DIR overrules.
    """
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given)
    sources = b"".join(path.read_bytes() for package in packages for path in sorted(package.rglob("*.py")))
    kept = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = kept / "slicewise" / "numba" / sha256(sources).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(mkdtemp(prefix="slicewise-"))
    return folder if os.access(folder, os.W_OK) else Path(mkdtemp(prefix="slicewise-"))


def is_filled(folder: Path) -> bool:
    """Whether an earlier process has left its machine code: without it the first use takes some 20 s."""
    return any(folder.rglob("*.nbc"))
