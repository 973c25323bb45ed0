"""What the tests share: the project's root, and its command line, if it was built."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def binary() -> Path:
    """The command line."""
    names = [os.environ.get("POLLUX_BIN"), ROOT / "target/debug/pollux", ROOT / "target/release/pollux"]
    found = [Path(name) for name in names if name and Path(name).is_file()]
    if not found:
        pytest.skip("the command line is not built: cargo build, or name it with POLLUX_BIN")

    return found[0]


@pytest.fixture(scope="session")
def command_line(binary: Path) -> Callable[..., Any]:
    """Runs ``pollux`` with --json, and gives its document."""

    def run(*words: str, cwd: Path = ROOT) -> Any:
        output = subprocess.run([binary, *words, "--json"], cwd=cwd, capture_output=True, check=False)
        assert output.returncode == 0, output.stdout + output.stderr
        return json.loads(output.stdout)

    return run
