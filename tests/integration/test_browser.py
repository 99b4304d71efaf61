"""The page of a benchmark in a real browser."""

from pathlib import Path

import pytest

from bench_results import nano_summary
from marsrl.report.page import write_page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_page(nano_summary(), tmp_path_factory.mktemp("page"))


@pytest.fixture
def open_page(browser, path):
    """Opens the page with settings of a context; checks afterwards what it asked and said."""
    pages, requests, complaints = [], [], []

    def open_page(**settings):
        page = browser.new_context(**settings).new_page()
        pages.append(page)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert set(requests) == {path.as_uri()}
    assert complaints == []


def column(page, table, number):
    """The texts of a column, from the first row down."""
    cells = page.locator(f"table:has(#{table}) tbody tr > :nth-child({number})")
    return cells.all_inner_texts()


def test_every_figure_is_to_be_seen(open_page):
    page = open_page()
    boxes = [figure.bounding_box() for figure in page.locator("figure svg").all()]
    assert len(boxes) > 30
    assert all(box["width"] > 30 and box["height"] > 10 for box in boxes)


def test_sorting_by_click(open_page):
    page = open_page()
    head = page.get_by_role("columnheader", name="score")
    assert head.get_attribute("aria-sort") is None
    before = column(page, "t-tasks", 7)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rising = column(page, "t-tasks", 7)
    assert rising != before
    assert rising[-1] == "missing"
    values = [float(text.replace("\u2212", "-")) for text in rising[:-1]]
    assert values == sorted(values)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    falling = column(page, "t-tasks", 7)
    assert falling == [*rising[-2::-1], "missing"]


def test_sorting_by_keyboard(open_page):
    page = open_page()
    button = page.locator("table:has(#t-tasks)").get_by_role("button", name="objective")
    button.focus()
    page.keyboard.press("Enter")
    names = column(page, "t-tasks", 2)
    assert names == sorted(names)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    heads = page.locator("table:has(#t-tasks) th[aria-sort]")
    assert heads.all_inner_texts() == ["seeds"]
    assert column(page, "t-tasks", 3)[0] == "none (0 of 3)"


def test_a_phone_scrolls_down_only(open_page):
    page = open_page(viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    box = page.locator(".scroll:has(#t-tasks)")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())


def test_dark_differs_from_light(open_page):
    colors = {}
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        colors[scheme] = page.evaluate(
            """() => [
                getComputedStyle(document.body).backgroundColor,
                getComputedStyle(document.body).color,
                getComputedStyle(document.querySelector(".panels svg text")).fill,
            ]"""
        )
    assert all(light != dark for light, dark in zip(*colors.values(), strict=True))
    background, ink, of_figures = colors["dark"]
    assert background != ink == of_figures


def test_it_prints(open_page):
    page = open_page(color_scheme="dark")
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()


def test_it_is_read_out(open_page):
    page = open_page()
    assert page.title().startswith("nano <b>bold</b>: a benchmark of mappo,")
    for name in ("Verdict", "Learning curves"):
        assert page.get_by_role("region", name=name, exact=True).count() == 1
    figure = page.get_by_role("img", name="Evaluation return on rware/tiny-2ag")
    assert "mars 2" in figure.get_attribute("aria-label")
