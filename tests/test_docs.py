"""The documentation builds, its links hold, and it knows every name and option of the package."""

import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pyarrow
import pytest
from layers import layer_of
from locations import ROOT
from PIL import Image
from pyarrow import parquet

import pillow_sdc
from pillow_sdc import api, options
from pillow_sdc.format import container
from pillow_sdc.format.codecs import CODECS, TARGET_SIZE

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
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
        pytest.importorskip(module, reason="MkDocs comes with the group 'docs'")
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


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", without_blocks(text))


class Block(NamedTuple):
    """Code of a page, with the number that it has in its section.

    Attributes:
        section: The page's name and the section's title.
    """

    section: tuple[str, str]
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return "-".join((*self.section, str(self.number)))


def blocks_of(path: Path) -> Iterator[Block]:
    for part in re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.M):
        title = part.partition("\n")[0].removeprefix("# ")
        for number, found in enumerate(re.finditer(r"^```(python|sh)\n(.*?)^```", part, re.M | re.S)):
            yield Block((path.stem, title), number, found[1], found[2])


def runnable(block: Block) -> Block:
    """Return what of a block runs anywhere: all of Python or nothing, and of commands some lines."""
    parts = [block.text] if block.language == "python" else block.text.splitlines(keepends=True)
    return block._replace(text="".join(part for part in parts if not any(phrase in part for phrase in NOT_RUN)))


NOT_RUN = {
    'model="CompVis/stable-diffusion-v1-4"': "several gigabytes from the hub, and a GPU",
    'model="madebyollin/taesd"': "a model from the hub",
    "sdc models fetch": "a model from the hub",
    '"s3://bucket/train-*.tar"': "an object store",
    "s3://bucket/in": "an object store, and a GPU",
    "pip install": "a package index",
    "make demo": "installs first; test_examples.py runs what comes then",
    "make test": "installs first, and runs these tests",
}
"""Phrases by which blocks of Python and commands are known that do not run here, and why not."""

BLOCKS = [block for path in (ROOT / "README.md", ROOT / "SECURITY.md", *PAGES) for block in blocks_of(path)]
RUNNABLE = {
    language: [each for each in map(runnable, BLOCKS) if each.language == language and each.text]
    for language in ("python", "sh")
}
SENTENCES = sorted(
    {
        " ".join(code.split())
        for path in MARKDOWN
        for code in re.findall(r"`(sdc [^`]+|python \w+/[^`]+)`", without_blocks(path.read_text(encoding="utf-8")))
    }
)
"""Commands that are named outside of blocks."""


ARCHITECTURE = DOCS / "architecture.md"
NAMED = r"(?<![\w/.])([\w/]+(?:\.py|/))(?![\w/])"
"""Files by their suffix, and folders by the slash at their end."""


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


class TestSite:
    def test_has_every_page(self, site: Path) -> None:
        expected = {path.relative_to(DOCS).with_suffix(".html") for path in PAGES}
        assert expected <= {path.relative_to(site) for path in site.rglob("*.html")}

    def test_loads_nothing_from_elsewhere(self, site: Path) -> None:
        loaded = {address for path in site.glob("**/*.html") for address in Page(path).loaded}
        assert loaded
        assert {address for address in loaded if urlsplit(address).netloc} == set()
        assert [
            path for path in site.glob("**/*.css") if re.search(r"url\([\"']?(https?:)?//", path.read_text("utf-8"))
        ] == []

    def test_leads_to_places_that_exist(self, site: Path) -> None:
        pages = {path: Page(path) for path in site.rglob("*.html") if path.stem != "404"}
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


@pytest.mark.parametrize("page", ["architecture.md", "architecture.svg", "adding_a_model.md"])
def test_files_that_the_architecture_names_are_there(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    codes = (
        re.findall(r"<text[^>]*>([^<]*)</text>", text) if page.endswith(".svg") else re.findall(r"`([^`\n]+)`", text)
    )
    named = {path for code in codes for path in re.findall(NAMED, code)}
    assert len(named) > 5
    assert [
        path for path in sorted(named) if not any((root / path).exists() for root in (ROOT, ROOT / "pillow_sdc"))
    ] == []


def test_the_figure_of_the_architecture_has_the_layers_of_the_import_rule() -> None:
    """From top to bottom; a box may lack what is small, and no row mixes layers."""
    boxes = re.findall(
        r'y="(\d+)"[^>]*monospace">([\w.]+?)(?:\.py|/)</text>', (DOCS / "architecture.svg").read_text("utf-8")
    )
    rows: dict[int, set[int]] = {}
    for y, name in boxes:
        rows.setdefault(int(y), set()).add(layer_of(name))
    layers = [rows[y] for y in sorted(rows, reverse=True)]
    assert all(len(each) == 1 for each in layers)
    assert [min(each) for each in layers] == sorted({min(each) for each in layers})


def test_conventions_of_pillow_name_tests_that_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", ARCHITECTURE.read_text(encoding="utf-8")))
    tests = "".join(
        (ROOT / "tests" / name).read_text("utf-8") for name in ("test_plugin.py", "test_pillow_conventions.py")
    )
    assert len(named) > 10
    assert named - set(re.findall(r"def (test_\w+)", tests)) == set()


def test_every_decision_has_its_page_in_the_usual_form() -> None:
    folder = DOCS / "decisions"
    pages = sorted(path.name for path in folder.glob("*.md") if path.name != "index.md")
    assert sorted(re.findall(r"\]\((\w+\.md)\)", (folder / "index.md").read_text("utf-8"))) == pages
    for name in pages:
        text = (folder / name).read_text(encoding="utf-8")
        assert re.findall(r"^## (.*)$", text, re.M) == ["Context", "Decision", "Consequences"], name
        assert re.search(r"\A# .+\n\n\d{4}-\d\d-\d\d\n", text), name
        assert len(text.splitlines()) <= 50, name


def test_the_glossary_gives_each_word_one_meaning() -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.M)
    words = [word for row in rows if row != "word" for word in row.split(", ")]
    assert len(words) > 40
    assert len(words) == len(set(words))


def test_every_public_name_is_in_the_reference() -> None:
    named = re.findall(r"^::: pillow_sdc\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.M)
    assert sorted(named) == sorted(pillow_sdc.__all__)


def test_every_option_of_save_is_documented() -> None:
    by_docstring = re.search(r"save_options: (.*?)\n\n", inspect.getdoc(api.encode) or "", re.S)
    assert by_docstring is not None
    names = {*re.findall(r"``(\w+)``", by_docstring[1]), *CODECS.options, TARGET_SIZE, *container.METADATA, "codec"}
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


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


def test_what_is_not_run_is_there() -> None:
    texts = [block.text for block in BLOCKS]
    assert [phrase for phrase in NOT_RUN if not any(phrase in text for text in texts)] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the documentation names and does not make itself."""
    folder = tmp_path_factory.mktemp("documentation")
    gradient = Image.linear_gradient("L").resize((128, 128)).convert("RGB")
    jpegs = ("photo.jpg", "photos/one.jpg", "photos/two.jpg", "holiday/one.jpg", "holiday/beach/two.jpg")
    for path in (folder / name for name in (*jpegs, "a.png")):
        path.parent.mkdir(exist_ok=True)
        gradient.save(path)
    jpeg = (folder / "photo.jpg").read_bytes()
    sdc = pillow_sdc.encode(gradient, model="compact")
    for name in ("photo.sdc", "photos/one.sdc", "photos/two.sdc"):
        (folder / name).write_bytes(sdc)

    (folder / "shards").mkdir()
    write_tar(folder / "shards" / "0.tar", {"0.sdc": sdc, "0.txt": b"grey", "1.sdc": sdc, "1.txt": b"more grey"})
    write_tar(folder / "pairs.tar", {"0.left.jpg": jpeg, "0.right.jpg": jpeg})
    (folder / "tables").mkdir()
    stored = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    table = pyarrow.table({"image": pyarrow.array([{"bytes": sdc, "path": None}] * 2, stored)})
    features = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
    parquet.write_table(table.replace_schema_metadata({"huggingface": features}), folder / "tables" / "0.parquet")
    parquet.write_table(pyarrow.table({"photo": [jpeg], "caption": ["grey"]}), folder / "data.parquet")
    return folder


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables with which ``sdc`` is this package's, the model the embedded one, and no window opens."""
    programs = {"sdc": f'exec "{sys.executable}" -m pillow_sdc "$@"', "xdg-open": f'cp "$1" "{tmp_path}/shown.png"'}
    (tmp_path / "bin").mkdir()
    for name, line in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PILLOW_SDC_")}
    return kept | {
        "PATH": os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "PILLOW_SDC_MODEL": "compact",
        "HF_HOME": str(tmp_path / "hugging_face"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }


def check_runs(*command: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


with_stand_ins = pytest.mark.skipif(sys.platform == "win32", reason="the programs that stand in are shell scripts")


@with_stand_ins
@pytest.mark.parametrize("section", sorted({block.section for block in RUNNABLE["python"]}), ids="-".join)
def test_python_runs(section: tuple[str, str], files: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """The blocks of a section run one after another, and need nothing from elsewhere."""
    blocks = [block.text for block in RUNNABLE["python"] if block.section == section]
    code = "\n".join(blocks)
    for package in set(re.findall(r"^(?:import|from) (\w+)", code, re.M)):
        pytest.importorskip(package, reason=f"{package} is not installed")
    folder = tmp_path / "folder"
    shutil.copytree(files, folder)
    check_runs(sys.executable, "-c", code, folder=folder, environment=environment)
    if ".show()" in code and sys.platform == "linux":
        assert size_of(tmp_path / "shown.png") == (128, 128)


@with_stand_ins
@pytest.mark.parametrize("block", RUNNABLE["sh"], ids=str)
def test_commands_run(block: Block, files: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """The commands of a block run one after another, and none meets a file that is there already."""
    bash = shutil.which("bash") or pytest.skip("there is no bash")
    for module in ("pyarrow", "fsspec", "pytorch_msssim", "jinja2"):
        pytest.importorskip(module, reason="commands need the extras 'batch' and 'report'")
    folder = tmp_path / "folder"
    shutil.copytree(files, folder, ignore=shutil.ignore_patterns("*.sdc", "shards"))
    check_runs(bash, "-euxo", "pipefail", "-c", block.text, folder=folder, environment=environment)


@pytest.mark.parametrize("code", SENTENCES)
def test_a_command_in_a_sentence_exists(code: str) -> None:
    """It is not run, but its options are the program's."""
    main = pytest.importorskip("typer.main")
    from pillow_sdc.cli import app

    program, *words = code.split()
    options_given = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
    if program == "sdc":
        command = main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not getattr(command, "commands", {}) or words[0] in {"--help", "COMMAND"}
        known = {*chain.from_iterable((*each.opts, *each.secondary_opts) for each in command.params)}
        assert options_given <= known
    else:
        source = (ROOT / words[0]).read_text(encoding="utf-8")
        assert [option for option in options_given if f'"{option}"' not in source] == []
