"""The page that shows files in a browser, as ``make viewer`` has built it."""

import base64
import io
import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from locations import GOLDEN, ROOT
from PIL import Image

import pillow_sdc

SITE = ROOT / "out" / "viewer"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
DAMAGED = GOLDEN / "damaged"

pytestmark = [
    pytest.mark.skipif(not (SITE / "index.html").exists(), reason="make viewer has not built the page"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page is, with a picture beside it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(SITE, folder, dirs_exist_ok=True)
    shutil.copy(GOLDEN / "palette-rgb-200x150.sdc", folder / "picture <b>.sdc")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page; it may ask nothing of anybody else, and nothing may go wrong in it."""
    with browser.new_context() as context:
        page = context.new_page()
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        yield page
        assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
        assert wrong == []


def choose(page: Any, data: bytes, name: str = "picture.sdc") -> str:
    """Choose a file, wait for the picture or for what is wrong with it, and return what the page says."""
    page.set_input_files("#file", [])
    page.locator("#status").evaluate("status => status.classList.remove('error')")  # what the last file has left
    page.locator("#save").evaluate("save => { save.disabled = true; }")
    page.set_input_files("#file", {"name": name, "mimeType": "image/x-sdc", "buffer": data})
    page.wait_for_selector("#save:not([disabled]), #status.error", timeout=120_000)
    return str(page.inner_text("#status"))


def picture_on(page: Any) -> Image.Image:
    url = page.locator("#picture").evaluate("canvas => canvas.toDataURL('image/png')")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


@pytest.mark.parametrize(
    "name", ["context-rgb-200x150", "palette-l-200x150", "context-rgba-disc", "uint8-rgb-64x48", "palette-la-rectangle"]
)
def test_the_picture_is_that_of_the_package(page: Any, name: str) -> None:
    data = (GOLDEN / f"{name}.sdc").read_bytes()
    said = choose(page, data)
    assert said.startswith("picture.sdc, decoded in ")
    with pillow_sdc.configure(model="compact"):
        expected = pillow_sdc.decode(data).convert("RGBA")
    found = picture_on(page).convert("RGBA")
    assert found.size == expected.size
    difference = np.asarray(found, float) - np.asarray(expected, float)
    np.testing.assert_array_equal(difference[..., 3], 0)
    visible = difference[..., :3] * (np.asarray(expected)[..., 3:] / 255)  # for a canvas keeps colours times alpha
    assert np.square(visible).mean() < 255**2 / 10**4  # 40 dB
    assert page.locator("#channels figure").count() == 4
    header = pillow_sdc.info(data)
    assert f"{header.width}×{header.height}, {header.mode}" in page.inner_text("#facts")


def test_large_pictures_have_tiles_without_seams(page: Any) -> None:
    gradient = Image.linear_gradient("L").resize((1000, 300))
    with pillow_sdc.configure(model="compact"):
        data = pillow_sdc.encode(gradient, codec="uint8")
        expected = np.asarray(pillow_sdc.decode(data), float)
    choose(page, data)
    found = np.asarray(picture_on(page).convert("L"), float)
    assert np.square(found - expected).mean() < 255**2 / 10**4


def test_what_is_damaged_is_refused_in_a_sentence(page: Any) -> None:
    expectations = json.loads((DAMAGED / "expected.json").read_text("utf-8"))
    for name in expectations:
        said = choose(page, (DAMAGED / f"{name}.sdc").read_bytes(), f"{name}.sdc")
        assert said.startswith(f"{name}.sdc: "), said
        assert "\n" not in said
        assert page.locator("#result").is_hidden()
    assert choose(page, (GOLDEN / "uint8-rgb-1x1.sdc").read_bytes()).startswith("picture.sdc, decoded in ")


def largest() -> bytes:
    """Return a file of a few bytes that says it is as large as can be."""
    data = bytearray((GOLDEN / "context-rgb-1x1.sdc").read_bytes())
    data[11:15] = b"\xff" * 4
    data[15:19] = zlib.crc32(data[:15]).to_bytes(4, "little")
    return bytes(data)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "not an SDC file"), (png(), "not an SDC file"), (largest(), "65535×65535 pixels is larger than the limit")],
    ids=["empty", "png", "largest"],
)
def test_what_is_no_picture_is_refused_in_a_sentence(page: Any, data: bytes, reason: str) -> None:
    assert reason in choose(page, data)


def test_what_a_file_is_called_is_text(page: Any) -> None:
    said = choose(page, b"", "<img src=x onerror=alert(1)>.sdc")
    assert said == "<img src=x onerror=alert(1)>.sdc: not an SDC file"
    assert page.locator("#status *").count() == 0


def test_a_file_of_the_site_is_opened_by_its_address(page: Any, address: str) -> None:
    page.goto(f"{address}?src=picture%20%3Cb%3E.sdc")
    page.wait_for_selector("#save:not([disabled])", timeout=120_000)
    assert page.inner_text("#status").startswith("picture <b>.sdc, decoded in ")
    assert picture_on(page).size == (200, 150)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("https://example.org/a.sdc", "a.sdc is of another site"),
        ("absent.sdc", "absent.sdc cannot be loaded (status 404)"),
    ],
)
def test_what_is_not_of_the_site_is_refused(page: Any, address: str, source: str, reason: str) -> None:
    page.goto(f"{address}?src={source}")
    page.wait_for_selector("#status.error")
    assert reason in page.inner_text("#status")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(browser: Any, address: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 800}, bypass_csp=True) as context:
        page = context.new_page()
        page.goto(address)
        page.keyboard.press("Tab")
        assert page.locator("#file").evaluate("input => input === document.activeElement")
        choose(page, (GOLDEN / "context-rgb-200x150.sdc").read_bytes())
        results = axe.Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_is_small() -> None:
    engine = {path for path in SITE.rglob("*") if path.suffix == ".wasm"}
    model = {SITE / "decoder.onnx", SITE / "context.npz"}
    files = [path for path in SITE.rglob("*") if path.is_file() and path not in engine | model]
    assert sum(len(zlib.compress(path.read_bytes(), 9)) for path in files) <= 150_000
    assert not any("http://" in path.read_text("utf-8") for path in files if path.suffix == ".html")
