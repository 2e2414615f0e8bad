"""Tests that run commands in real boxes: left out where there is no bubblewrap, which in CI is a failure."""

import os
import shutil

import pytest


def needed() -> None:
    if shutil.which("bwrap") is None:
        message = "no bubblewrap here (Debian: apt-get install bubblewrap)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
