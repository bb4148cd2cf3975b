"""The documentation builds, its links hold, and it knows every name and option of the package."""

import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT
from PIL import Image

import pillow_sdc
from pillow_sdc import container, operations, options, plugin

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
MARKDOWN = sorted([*ROOT.glob("*.md"), *ROOT.glob("training/*.md"), *PAGES])
LOADED_BY = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}


class Page(HTMLParser):
    """What a page of the site loads, and what it links to.

    Attributes:
        loaded: Addresses of style sheets, scripts, pictures and the like.
        links: Addresses that readers can go to.
        anchors: Places of the page that links can lead to.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attributes if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif LOADED_BY.get(tag) in given:
            self.loaded.append(given[LOADED_BY[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(module, reason="MkDocs comes with the extra 'docs'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def words_of(path: Path) -> set[str]:
    """Return what stands in a page as code."""
    return set(re.findall(r"`\"?([\w.]+)\"?`", path.read_text(encoding="utf-8")))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)


class TestSite:
    def test_has_every_page(self, site: Path) -> None:
        assert {path.stem for path in PAGES} <= {path.stem for path in site.glob("*.html")}

    def test_loads_nothing_from_elsewhere(self, site: Path) -> None:
        loaded = {address for path in site.glob("**/*.html") for address in Page(path).loaded}
        assert loaded
        assert {address for address in loaded if urlsplit(address).netloc} == set()
        assert [
            path for path in site.glob("**/*.css") if re.search(r"url\([\"']?(https?:)?//", path.read_text("utf-8"))
        ] == []

    def test_leads_to_places_that_exist(self, site: Path) -> None:
        pages = {path: Page(path) for path in site.glob("*.html") if path.stem != "404"}
        missing = []
        for path, page in pages.items():
            for link in (*page.links, *page.loaded):
                parts = urlsplit(link)
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                if parts.scheme or parts.netloc:
                    continue
                if not target.exists() or (
                    parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
                ):
                    missing.append(f"{path.name}: {link}")
        assert missing == []

    def test_says_something_of_every_public_name(self, site: Path) -> None:
        anchors = Page(site / "api.html").anchors
        assert {f"pillow_sdc.{name}" for name in pillow_sdc.__all__} - anchors == set()

    def test_says_something_of_every_command(self, site: Path) -> None:
        page = (site / "command_line.html").read_text(encoding="utf-8")
        assert "--target-size" in page
        assert "sdc models fetch" in page
        reference = (site / "api.html").read_text(encoding="utf-8")
        assert not re.search(r":(class|func|data|meth|mod):|doctest:|\[bold\]", reference + page)

    def test_includes_what_lies_outside_its_folder(self, site: Path) -> None:
        assert "No code." in (site / "security.html").read_text(encoding="utf-8")
        assert "Teacher" in (site / "model_card.html").read_text(encoding="utf-8")


def test_every_public_name_is_in_the_reference() -> None:
    named = re.findall(r"^::: pillow_sdc\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.M)
    assert sorted(named) == sorted(pillow_sdc.__all__)


def test_every_option_of_save_is_documented() -> None:
    by_docstring = re.search(r"save_options: (.*?)\n\n", inspect.getdoc(operations.encode) or "", re.S)
    assert by_docstring is not None
    names = {*re.findall(r"``(\w+)``", by_docstring[1]), *plugin.CODEC_OF_OPTION, *container.METADATA, "codec"}
    assert names - words_of(DOCS / "options.md") == set()


def test_every_setting_and_environment_variable_is_documented() -> None:
    assert {*options.Settings._fields} - words_of(DOCS / "options.md") == set()
    sources = (
        path.read_text(encoding="utf-8") for name in ("pillow_sdc", "autoload") for path in ROOT.glob(f"{name}/**/*.py")
    )
    variables = {variable for source in sources for variable in re.findall(r"PILLOW_SDC_[A-Z_]+", source)}
    assert variables >= {*options._ENVIRONMENT.values(), "PILLOW_SDC_AUTOLOAD"}
    assert variables - words_of(DOCS / "options.md") == set()


def test_every_command_is_documented() -> None:
    main = pytest.importorskip("typer.main")
    from pillow_sdc.cli import app

    commands = main.get_command(app).commands
    names = {name: getattr(command, "commands", None) for name, command in commands.items()}
    expected = {f"sdc {name}" for name, inner in names.items() if inner is None}
    expected |= {f"sdc {name} {command}" for name, inner in names.items() for command in inner or ()}
    listed = re.findall(r"^\| `(sdc [\w -]+)` \|", (DOCS / "command_line.md").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(expected)


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(path: Path) -> None:
    text = without_code(path.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(<?([^)\s>]+)>?\)", text)
    missing = [
        link
        for link in links
        if not urlsplit(link).scheme
        and urlsplit(link).path
        and not (path.parent / unquote(urlsplit(link).path)).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_python_in_it_compiles(path: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
        compile(block, path.name, "exec")


def test_the_usage_page_runs(tmp_path: Path) -> None:
    gradient = Image.linear_gradient("L").resize((128, 96)).convert("RGB")
    (tmp_path / "photos").mkdir()
    for path in (tmp_path / "photo.jpg", tmp_path / "photos" / "one.jpg"):
        gradient.save(path)
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "usage.md").read_text(encoding="utf-8"), re.M | re.S)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PILLOW_SDC_MODEL": "compact"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "fits.sdc").stat().st_size <= 2000
    assert (tmp_path / "photos" / "one.sdc").exists()
