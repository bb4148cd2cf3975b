"""The report's page in a browser: Playwright drives the Chromium of PILLOW_SDC_TEST_BROWSER, or the one in the path."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jinja2", reason="the extra report is not installed")
pytest.importorskip("playwright", reason="the group browser is not installed")

from pillow_sdc.report import html
from pillow_sdc.report.evaluation import CurvePoint, Evaluation, PictureResults, Result, Scores
from pillow_sdc.report.metrics import Samples

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

WIDTH, HEIGHT = 240, 200
HOSTILE = "<img src=https://example.com/x.png onerror=alert(1)>'\"</style></script>"

Page = Any


def samples(blur: int) -> Samples:
    grain = Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    return np.asarray(grain.resize((WIDTH // blur, HEIGHT // blur)).resize((WIDTH, HEIGHT)))


def evaluation() -> Evaluation:
    figures = {"float": (65536, 30.0), "palette": (4900, 22.5), "context": (4890, 24.0), "jpeg": (4700, 22.0)}
    figures |= {"webp": (6000, 26.5), "avif": (4800, 28.0)}
    results = tuple(
        Result(
            key=key,
            label=key.upper(),
            note="as made",
            file_bytes=size,
            bits_per_pixel=8 * size / (WIDTH * HEIGHT),
            scores=Scores(psnr=psnr, ssim=psnr / 40, texture_distance=psnr / 10, laplacian_ratio=psnr / 30),
            competes=key != "float",
            within_budget=size <= 4900,
            shown=samples(blur),
        )
        for blur, (key, (size, psnr)) in enumerate(figures.items(), start=1)
    )
    pictures = tuple(PictureResults(name, WIDTH, HEIGHT, 4900, samples(1), results) for name in ("first.png", HOSTILE))
    curve = tuple(
        CurvePoint(key, key.upper(), quality, quality / 100 * rate, Scores(psnr=20 + quality / 10))
        for key, rate in (("context", 1.0), ("avif", 1.1))
        for quality in (10, 50, 90)
    )
    return Evaluation("compact", "cpu", 4, "All take 4,900 bytes.", pictures, results, curve, ("A note.",))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = os.environ.get("PILLOW_SDC_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip(f"there is no browser: neither PILLOW_SDC_TEST_BROWSER nor {', '.join(BROWSERS)} in the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(html.render(evaluation()), "utf-8")
    return path


@pytest.fixture(scope="module")
def full_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "index.html"
    path.write_text(html.render(with_all_metrics(evaluation())), "utf-8")
    return path


def with_all_metrics(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation whose tables have all columns and the longest label."""

    def full(result: Result) -> Result:
        psnr = result.scores.psnr or 0
        label = "AVIF at half size" if result.key == "webp" else result.label
        scores = replace(result.scores, ms_ssim=psnr / 35, ssimulacra2=-psnr, texture_fine=psnr / 9)
        return replace(result, label=label, scores=scores)

    pictures = tuple(replace(each, results=tuple(map(full, each.results))) for each in evaluation.pictures)
    return replace(evaluation, pictures=pictures, means=tuple(map(full, evaluation.means)))


@pytest.fixture
def open_page(browser: Any, report: Path) -> Iterator[Callable[..., Page]]:
    """A function that opens the report; at the end nothing may have gone wrong or out to the network."""
    troubles: list[str] = []
    contexts = []

    def open_report(report: Path = report, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: troubles.append(request.url) if is_foreign(request.url) else None)
        page.goto(report.as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert troubles == []


def is_foreign(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


def first_viewer(page: Page) -> Any:
    return page.locator(".viewer").first


def divider(page: Page) -> float:
    return float(page.locator(".divider").first.evaluate("element => element.value"))


def shown_in_details(page: Page) -> list[list[float]]:
    """Return, for each detail of the first picture, the part of the picture that it shows, in its pixels."""
    script = """columns => columns.map(column => {
        const [image, detail] = [column.querySelector("img"), column.querySelector(".detail")];
        const [a, b] = [image.getBoundingClientRect(), detail.getBoundingClientRect()];
        const scale = a.width / image.naturalWidth;
        return [(b.left - a.left) / scale, (b.top - a.top) / scale, b.width / scale].map(v => Math.round(v * 10) / 10);
    })"""
    shown: list[list[float]] = first_viewer(page).locator(".column").evaluate_all(script)
    return shown


def bytes_in_table(page: Page) -> list[int]:
    cells = page.locator("table").first.locator("tbody tr td:nth-of-type(1)").all_inner_texts()
    return [int(cell.replace(",", "")) for cell in cells]


def test_the_pointer_moves_the_line(open_page: Callable[..., Page]) -> None:
    page = open_page()
    stage = first_viewer(page).locator(".stage")
    for _ in range(4):
        first_viewer(page).get_by_role("button", name="Zoom in").click()  # so that the frame is out of the way
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 9)
    assert divider(page) == pytest.approx(25, abs=1)
    page.mouse.move(box["x"] - 50, box["y"] + 9)
    page.mouse.up()
    assert divider(page) == 0
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 9)
    assert divider(page) == 0
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 5)
    assert divider(page) == pytest.approx(75, abs=1)
    assert "inset(0" in stage.locator(".right").evaluate("image => getComputedStyle(image).clipPath")


def test_the_keyboard_moves_the_line_and_says_what_is_uncovered(open_page: Callable[..., Page]) -> None:
    page = open_page()
    line = first_viewer(page).get_by_role("slider")
    line.focus()
    page.keyboard.press("ArrowRight")
    assert divider(page) == 51
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert line.get_attribute("aria-valuetext") == "Original 1 %, CONTEXT 99 %"
    page.keyboard.press("End")
    assert divider(page) == 100


def test_any_two_columns_can_be_compared(open_page: Callable[..., Page]) -> None:
    page = open_page()
    viewer = first_viewer(page)
    viewer.get_by_role("combobox", name="Left").select_option(label="AVIF")
    viewer.get_by_role("radio", name="JPEG").click()
    for side, key in (("left", "avif"), ("right", "jpeg")):
        shown = viewer.locator(f".stage .{side}").get_attribute("src")
        assert shown == viewer.locator(f".column[data-key={key}] img").get_attribute("src")
    assert viewer.get_by_role("combobox", name="Right").input_value() == "jpeg"


def test_arrows_change_the_column_and_only_the_chosen_one_is_a_tab_stop(open_page: Callable[..., Page]) -> None:
    page = open_page()
    viewer = first_viewer(page)
    viewer.locator(".column[data-key=context]").focus()
    for key, chosen in [("ArrowRight", "jpeg"), ("ArrowLeft", "context"), ("End", "avif"), ("ArrowRight", "original")]:
        page.keyboard.press(key)
        assert viewer.locator("[role=radio][aria-checked=true]").get_attribute("data-key") == chosen
        assert page.evaluate("document.activeElement.dataset.key") == chosen
        assert viewer.locator(".column[tabindex='0']").count() == 1
        assert viewer.get_by_role("combobox", name="Right").input_value() == chosen


def test_tab_goes_through_a_picture_from_top_to_bottom(open_page: Callable[..., Page]) -> None:
    page = open_page()
    first_viewer(page).get_by_role("combobox", name="Left").focus()
    script = "(document.activeElement.className || document.activeElement.tagName).split(' ')[0]"
    order = []
    for _ in range(30):
        order.append(page.evaluate(script))
        if order[-1] == "column":
            break
        page.keyboard.press("Tab")
    landmarks = [name for name in order if name in ("left", "right", "divider", "scroller", "out", "in", "column")]
    assert landmarks == ["left", "right", "divider", "scroller", "out", "in", "column"]


def test_details_zoom_and_move_in_step(open_page: Callable[..., Page]) -> None:
    page = open_page()
    viewer = first_viewer(page)
    viewer.locator(".column[data-key=context]").focus()
    before = shown_in_details(page)
    page.keyboard.press("+")
    page.keyboard.press("+")
    zoomed = shown_in_details(page)
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    moved = shown_in_details(page)
    for shown in (before, zoomed, moved):
        assert len(shown) == 7
        assert all(each == shown[0] for each in shown)
    assert viewer.locator("output").inner_text() == "4×"
    assert zoomed[0][2] == pytest.approx(before[0][2] / 2, abs=0.2)
    assert moved[0][0] < zoomed[0][0]
    assert moved[0][1] < zoomed[0][1]
    page.keyboard.press("-")
    assert viewer.locator("output").inner_text() == "3×"
    assert shown_in_details(page)[0][2] == pytest.approx(before[0][2] * 2 / 3, abs=0.2)


def test_dragging_a_detail_moves_all_and_chooses_none(open_page: Callable[..., Page]) -> None:
    page = open_page()
    viewer = first_viewer(page)
    for _ in range(2):
        viewer.get_by_role("button", name="Zoom in").click()
    before = shown_in_details(page)
    detail = viewer.locator(".column[data-key=jpeg] .detail")
    detail.scroll_into_view_if_needed()
    box = detail.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 8, y + 4)
    page.mouse.up()
    after = shown_in_details(page)
    assert all(each == after[0] for each in after)
    assert after[0][0] == pytest.approx(before[0][0] - 2, abs=0.2)
    assert after[0][1] == pytest.approx(before[0][1] - 1, abs=0.2)
    assert viewer.locator("[role=radio][aria-checked=true]").get_attribute("data-key") == "context"


def test_the_frame_and_a_double_click_move_the_details(open_page: Callable[..., Page]) -> None:
    page = open_page()
    viewer = first_viewer(page)
    for _ in range(3):
        viewer.get_by_role("button", name="Zoom in").click()
    box = viewer.locator(".stage").bounding_box()
    page.mouse.dblclick(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    before = shown_in_details(page)[0]
    scale = box["width"] / WIDTH
    page.mouse.click(box["x"] + 2, box["y"] + 2)  # takes the line out of the way
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"] - 20 * scale, box["y"] + 0.5 * box["height"] + 10 * scale)
    page.mouse.up()
    after = shown_in_details(page)[0]
    assert after[0] == pytest.approx(before[0] - 20, abs=1)
    assert after[1] == pytest.approx(before[1] + 10, abs=1)
    assert divider(page) < 5


def test_details_never_leave_the_picture(open_page: Callable[..., Page]) -> None:
    page = open_page()
    viewer = first_viewer(page)
    viewer.locator(".column[data-key=context]").focus()
    for _ in range(4):
        page.keyboard.press("+")
    for _ in range(60):
        page.keyboard.press("Shift+ArrowRight")
    left, top, side = shown_in_details(page)[0]
    assert left + side == pytest.approx(WIDTH, abs=0.3)
    assert top >= 0


def test_heads_of_the_table_sort_it(open_page: Callable[..., Page]) -> None:
    page = open_page()
    table = page.locator("table").first
    head = table.get_by_role("columnheader", name="Bytes")
    head.get_by_role("button").click()
    assert bytes_in_table(page) == sorted(bytes_in_table(page))
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert bytes_in_table(page) == sorted(bytes_in_table(page), reverse=True)
    table.get_by_role("columnheader", name="PSNR").get_by_role("button").click()
    assert table.locator("tbody tr").first.locator("th").inner_text().startswith("FLOAT")
    assert head.get_attribute("aria-sort") is None
    assert table.locator("[aria-sort]").count() == 1


def test_the_best_value_is_marked_for_eyes_and_ears(open_page: Callable[..., Page]) -> None:
    page = open_page()
    best = page.locator("table").first.locator("td.best").all_text_contents()
    assert sorted(best) == ["0.700 (best)", "0.93 (best)", "2.20 (best)", "28.00 (best)"]


def test_the_theme_is_the_systems_until_one_is_chosen(open_page: Callable[..., Page]) -> None:
    script = "getComputedStyle(document.body).backgroundColor"
    light, dark = open_page(color_scheme="light"), open_page(color_scheme="dark")
    light_paper, dark_paper = light.evaluate(script), dark.evaluate(script)
    assert light_paper != dark_paper
    light.get_by_text("Dark", exact=True).click()
    assert light.evaluate(script) == dark_paper
    light.reload()
    assert light.evaluate(script) == dark_paper
    light.get_by_role("radio", name="Dark").press("ArrowRight")
    assert light.evaluate(script) == light_paper


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(open_page: Callable[..., Page], width: int) -> None:
    page = open_page(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [320, 390, 600, 768, 1000, 1280, 1440])
def test_no_table_is_wider_than_its_place(open_page: Callable[..., Page], full_report: Path, width: int) -> None:
    page = open_page(full_report, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    tables = page.evaluate(
        "[...document.querySelectorAll('.scroller')].map(each => [each.scrollWidth, each.clientWidth])"
    )
    assert len(tables) == 4
    for needed, there_is in tables:
        assert needed <= there_is


def test_on_a_narrow_screen_every_figure_has_its_label_and_rows_are_sorted_as_ever(
    open_page: Callable[..., Page], full_report: Path
) -> None:
    page = open_page(full_report, viewport={"width": 390, "height": 800})
    table = page.locator("#figures table")
    label = "element => getComputedStyle(element, '::before').content"
    assert [each.evaluate(label) for each in table.locator("tbody tr").first.locator("td").all()] == [
        *('"Bytes"', '"bpp"', '"PSNR, dB"', '"SSIM"', '"MS-SSIM"', '"SSIMULACRA2"'),
        *('"Texture distance"', '"Fine texture distance"', '"Laplacian ratio"'),
    ]
    table.get_by_role("button", name="Bytes").click()
    assert table.get_by_role("rowheader").first.inner_text().startswith("JPEG")
    assert open_page(full_report).locator("#figures td").first.evaluate(label) == "none"


def test_a_hostile_name_is_shown_and_does_nothing(open_page: Callable[..., Page]) -> None:
    page = open_page()
    assert page.locator("h3").nth(1).text_content() == HOSTILE
    assert page.locator("img[src^='http']").count() == 0


def test_without_javascript_pictures_and_figures_are_there(open_page: Callable[..., Page]) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator(".column img").count() == 14
    assert not page.locator(".stage").first.is_visible()
    assert page.locator("table").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_object_to(open_page: Callable[..., Page], scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(open_page(color_scheme=scheme, bypass_csp=True)).response["violations"]
    assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found] == []
