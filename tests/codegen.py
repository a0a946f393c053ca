"""Regenerates the code under */pb from proto/, or (`--check`) fails when what is committed differs from it."""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent.parent


def generate(out: Path) -> list[Path]:
    """Writes Python, stubs and gRPC code for every .proto below proto/ into `out`; returns the paths, relative."""
    protos = sorted((ROOT / "proto").rglob("*.proto"))
    args = ["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    if protoc.main([*args, *map(str, protos)]) != 0:
        raise SystemExit("protoc failed; its message stands above")
    return sorted(p.relative_to(out) for p in out.rglob("*_pb2*"))


def main(argv: list[str]) -> int:
    if argv == []:
        generate(ROOT)
        return 0
    if argv != ["--check"]:
        raise SystemExit(f"usage: codegen.py [--check] (got {argv})")
    with tempfile.TemporaryDirectory() as tmp:
        stale = [
            path
            for path in generate(Path(tmp))
            if not (ROOT / path).is_file() or (ROOT / path).read_bytes() != (Path(tmp) / path).read_bytes()
        ]
    for path in stale:
        sys.stderr.write(f"{path} differs from its .proto; mend it with: make proto\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
