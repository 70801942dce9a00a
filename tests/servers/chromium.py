"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

VARIABLE: Final = "MUNIMENT_TEST_CHROMIUM"
PATIENCE: Final = 30_000
"""Milliseconds within which whatever is expected of a page has happened."""


def find_chromium() -> str:
    """The program that `MUNIMENT_TEST_CHROMIUM` names, else the one on PATH, else a failure."""
    named = os.environ.get(VARIABLE)
    found = shutil.which(named or "chromium")
    if found is None:
        wanted = f"{VARIABLE}={named} is no program" if named else "no Chromium for the tests"
        pytest.fail(f"{wanted}: apt-get install chromium, or name it in {VARIABLE}", pytrace=False)
    return found


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A running Chromium. While it is there, no event loop can run in this thread."""
    if os.geteuid() == 0:  # its sandbox refuses root
        arguments = (*arguments, "--no-sandbox")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--disable-dev-shm-usage", *arguments]
        )
        try:
            yield browser
        finally:
            browser.close()
