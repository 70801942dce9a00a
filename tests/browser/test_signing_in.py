from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.site import Site
from tests.browser.visiting import Visits


def test_a_token_opens_the_page_that_was_asked_for(visits: Visits, site: Site) -> None:
    """Who comes without a session gives a token, and is led to where they wanted to go."""
    visits.allow("status of 401")
    page = visits.page(site.url)
    page.goto("/live")
    page.get_by_label("Token").fill(site.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/live")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_wrong_token_is_told(visits: Visits, site: Site) -> None:
    """Another token gets the form again, and says that it did not open the viewer."""
    visits.allow("status of 401")
    page = visits.page(site.url)
    page.goto("/sign-in")
    page.get_by_label("Token").fill("muniment_" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Token")).to_be_visible()


def test_signing_out_ends_the_session(visits: Visits, site: Site) -> None:
    """After it, the same address asks for a token again."""
    visits.allow("status of 401")
    page = visits.page(site.url, cookie=site.cookie())
    page.goto("/live")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in*")
    page.goto("/live")
    expect(page.get_by_label("Token")).to_be_visible()
