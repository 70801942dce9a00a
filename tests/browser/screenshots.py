"""Takes the pictures of the viewer in docs/images: `make screenshots`.

The made-up day is recorded as it happened, with a clock and a chance that are its own, so that the
pictures change only if the pages do.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Page, expect

from muniment import AuditLog
from muniment.demo import DAY, day
from muniment.http.access import Scope
from muniment.http.auth.tokens import create_token
from tests.browser.site import Site, query
from tests.browser.trail import KEY
from tests.browser.visiting import Visits
from tests.servers.chromium import chromium

_ROOT: Final = Path(__file__).parents[2]
_IMAGES: Final = _ROOT / "docs" / "images"
_MOST_BYTES: Final = 150_000
# So that the same page is the same picture, byte for byte.
_PLAINLY: Final = (
    "--hide-scrollbars",
    "--disable-lcd-text",
    "--disable-partial-raster",
    "--disable-skia-runtime-opts",
)
_SIZE: Final = {"width": 1280, "height": 720}
_TAKEN_AT: Final = DAY + timedelta(hours=9, minutes=18)
# The newest refusal by then: an agent, for somebody who may not do that either.
_EVENT: Final = [e for e in day() if e.outcome == "denied" and e.occurred_at < _TAKEN_AT][-1]
_SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


async def _record(database: Path) -> str:
    """Record the day, each event when it happened, up to the moment of the pictures; a token."""
    now = DAY
    chance = random.Random(6)  # noqa: S311 - salts of a made-up day, no secret
    async with AuditLog.open(
        f"sqlite:///{database}",
        signing_keys=[KEY],
        sequence_interval=0.02,
        clock=lambda: now,
        entropy=chance.randbytes,
    ) as log:
        issued = await create_token(log, name="pictures", scopes=list(Scope), tenant_id=None)
        for event in day():
            now = event.occurred_at + timedelta(milliseconds=40)
            if now <= _TAKEN_AT:
                receipt = await log.record_many([event])
        await log.await_published(receipt[0])
    return issued.secret


def _trail(page: Page) -> None:
    # On a busy machine what is counted one by one may take longer than a page may.
    for _ in range(20):
        page.goto("/" + query(until="2025-03-04T09:18:00Z"))
        if "at least" not in page.locator(".overview h2").inner_text():
            return


def _event(page: Page) -> None:
    page.goto(f"/events/{_EVENT.event_id}")
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("[data-verdict]")).to_have_attribute("data-result", "holds")


def _live(page: Page) -> None:
    page.goto("/live")
    expect(page.locator("[data-state='open']")).to_be_visible()


_PAGES: Final = {"trail": _trail, "event": _event, "live": _live}


def main() -> None:
    """Take all of them, and print their names."""
    _IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / "audit.db"
        token = asyncio.run(_record(database))
        with (
            Site(database, token, MUNIMENT_HTTP_RECORD_READING="false") as site,
            chromium(*_PLAINLY) as browser,
        ):
            visits = Visits(browser)
            cookie = site.cookie()
            for scheme in _SCHEMES:
                for name, open_page in _PAGES.items():
                    page = visits.page(site.url, cookie=cookie, color_scheme=scheme, viewport=_SIZE)
                    page.clock.set_fixed_time(_TAKEN_AT)
                    open_page(page)
                    path = _IMAGES / f"{name}-{scheme}.png"
                    page.screenshot(path=path, animations="disabled", caret="hide")
                    print(path.relative_to(_ROOT), path.stat().st_size)  # noqa: T201
            visits.close()
            faults = visits.faults()
    faults += [str(p) for p in _IMAGES.glob("*.png") if p.stat().st_size > _MOST_BYTES]
    if faults:
        raise SystemExit(f"not as it should be: {faults}")


if __name__ == "__main__":
    main()
