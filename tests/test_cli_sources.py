"""Which files the commands take, of folders and patterns and through pipes, and what they say of others."""

import io
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from locations import GOLDEN
from PIL import Image
from sdc_command import names, sdc
from small_runs import DECODING, ENCODING, SETTINGS, InlineEngine, files_of, picture

import pillow_sdc
from pillow_sdc.cli.messages import Failures
from pillow_sdc.cli.sources import InputFile, find
from pillow_sdc.jobs import skipped
from pillow_sdc.jobs.pictures import plugins
from pillow_sdc.jobs.pictures.opening import format_of, is_picture, is_sdc
from pillow_sdc.jobs.runner import run
from pillow_sdc.jobs.storage.stores import Store
from pillow_sdc.jobs.tasks import Packing, Task
from pillow_sdc.jobs.worker import Worker

HEIF_SUFFIXES = (".heic", ".heics", ".heif", ".heifs", ".hif")
NOT_INSTALLED = "install pillow-heif"


@pytest.fixture(autouse=True)
def embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the embedded model used, and batches done in this process."""
    monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")
    monkeypatch.setattr("pillow_sdc.jobs.executors.processes.LocalEngine", lambda workers: InlineEngine())


@pytest.fixture
def fresh_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Pillow as it is before a plugin for HEIF is registered."""
    Image.init()
    monkeypatch.setattr(Image, "ID", [one for one in Image.ID if one != "HEIF"])
    for registry in (Image.OPEN, Image.SAVE, Image.SAVE_ALL, Image.MIME):
        monkeypatch.delitem(registry, "HEIF", raising=False)
    for suffix in HEIF_SUFFIXES:
        monkeypatch.delitem(Image.EXTENSION, suffix, raising=False)
    monkeypatch.setattr(plugins, "_register", plugins._register.__wrapped__)


@pytest.fixture
def no_plugin(fresh_pillow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no plugin for HEIF installed."""
    for name in ("pillow_heif", "pi_heif"):
        monkeypatch.setitem(sys.modules, name, None)


def heic() -> bytes:
    """Return a HEIC file, which is made without registering a plugin."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif comes with the extra 'report'")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.open(io.BytesIO(picture())).convert("RGB")).save(buffer)
    return buffer.getvalue()


def make(folder: Path, *paths: str) -> Path:
    """Make a picture of each path below a folder whose suffix is that of one, and a text of each other."""
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(picture(number) if path.endswith(".png") else b"text")
    return folder


def found(*arguments: Path, wanted: Callable[[Path], bool] = is_picture) -> list[str]:
    """Return what is meant, below the folder that the first argument is in."""
    failures = Failures()
    sources = find([str(one) for one in arguments], wanted, failures, quiet=True)
    assert failures.count == 0
    return [str(source.path) for source in sources]


class TestPlugins:
    @pytest.mark.usefixtures("fresh_pillow")
    def test_a_suffix_that_is_met_has_its_plugin_registered(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.png")
        (tmp_path / "in" / "b.HEIC").write_bytes(heic())
        result = sdc("encode", tmp_path / "in", "-o", tmp_path / "out")
        assert (result.exit_code, names(tmp_path / "out")) == (0, ["a.sdc", "b.sdc"])

    @pytest.mark.usefixtures("fresh_pillow")
    def test_a_file_is_known_by_its_content_where_its_name_says_nothing(self) -> None:
        result = sdc("encode", "-", stdin=heic())
        assert result.exit_code == 0
        assert pillow_sdc.info(result.stdout_bytes).width == 24

    @pytest.mark.usefixtures("fresh_pillow")
    def test_workers_register_plugins_themselves(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.heic").write_bytes(heic())
        worker = Worker(Store(tmp_path / "in"), Store(tmp_path / "out"), ENCODING, threads=1)
        (row,) = worker.do(Task(("a.heic",), 1, Packing.FILES, Packing.FILES, targets=("a.sdc",)))
        assert (row.error, row.output) == (None, "a.sdc")

    @pytest.mark.usefixtures("fresh_pillow")
    def test_decoding_writes_their_formats(self, tmp_path: Path) -> None:
        heic()
        (tmp_path / "a.sdc").write_bytes((GOLDEN / "palette-rgb-200x150.sdc").read_bytes())
        assert sdc("decode", tmp_path / "a.sdc", "-o", tmp_path / "a.heic").exit_code == 0
        assert (tmp_path / "a.heic").read_bytes()[4:12] == b"ftypheic"

    @pytest.mark.usefixtures("no_plugin")
    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.png", "in/notes.txt", "in/b.heic", "in/c.heic")
        line = f"sdc: left out 3 files: 2 .heic ({NOT_INSTALLED}), 1 .txt"
        for arguments in (
            ["encode", tmp_path / "in", "-o", tmp_path / "e"],
            ["batch", tmp_path / "in", tmp_path / "b"],
        ):
            result = sdc(*arguments)
            assert result.exit_code == 0
            assert result.stderr.splitlines()[0] == line
        assert names(tmp_path / "e") == ["a.sdc"]
        (tmp_path / "in" / "a.png").unlink()
        assert sdc("batch", tmp_path / "in", tmp_path / "b").stderr == (
            f"sdc: nothing in {tmp_path}/in is a picture or a shard, by its name; {line.removeprefix('sdc: ')}\n"
        )

    def test_a_file_that_needs_one_says_which(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        (tmp_path / "a.heic").write_bytes(heic())
        request.getfixturevalue("no_plugin")
        result = sdc("encode", tmp_path / "a.heic", "-q")
        assert result.exit_code == 1
        assert result.stderr == (
            f"sdc: {tmp_path}/a.heic: a .heic file, which Pillow does not read by itself: {NOT_INSTALLED}\n"
        )
        with pytest.raises(ValueError, match=f"'heic' is no format that Pillow writes; {NOT_INSTALLED}"):
            format_of(".heic")

    @pytest.mark.usefixtures("fresh_pillow")
    def test_one_that_cannot_be_imported_is_told_and_ends_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("pillow_heif", "pi_heif"):
            (tmp_path / f"{name}.py").write_text("raise ImportError('libheif.so.1 is missing')")
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        assert not is_picture(Path("a.heic"))
        assert str(plugins.remedy(".heic")).startswith("install pillow-heif again; importing pi_heif fails: ")
        assert plugins.remedy(".mov") is None

    def test_none_is_imported_before_such_a_file_is_met(self) -> None:
        script = f"""
import sys
from pathlib import Path
import pillow_sdc
from PIL import Image
from pillow_sdc.jobs.pictures.opening import is_picture
Image.open({str(GOLDEN / "palette-l-1x1.sdc")!r})
assert is_picture(Path("a.jpg")) and not is_picture(Path("a.txt"))
assert not {{*sys.modules}} & {{*{[name for plugin in plugins.PLUGINS for name in plugin.modules]!r}}}
"""
        subprocess.run([sys.executable, "-c", script], check=True)

    def test_what_pillow_cannot_decode_by_itself_is_no_picture(self) -> None:
        files = ["a.sdc", "a.mpg", "a.h5", "a.txt", *([] if sys.platform == "win32" else ["a.emf"])]
        assert [name for name in files if is_picture(Path(name))] == []


class TestLeftOut:
    @pytest.mark.parametrize(
        ("counts", "words"),
        [
            ({".txt": 2, ".mov": 9, "other": 1}, "left out 12 files: 9 .mov, 2 .txt, 1 other"),
            ({".txt": 1}, "left out 1 file: 1 .txt"),
            ({"linked folder": 2, ".txt": 1}, "left out 2 linked folders and 1 file: 1 .txt"),
            ({"linked folder": 1}, "left out 1 linked folder"),
            (
                {f".{letter}": 1 for letter in "abcdefghij"},
                "left out 10 files: 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 1 .f, 1 .g, 1 .h, 2 other",
            ),
        ],
    )
    def test_a_line_counts_by_kind(self, counts: dict[str, int], words: str) -> None:
        assert skipped.described(counts) == words

    @pytest.mark.parametrize("name", ["README", "a.long version of it", "a.\x1b[31m", "a.", "a.b-c"])
    def test_what_is_no_usual_suffix_is_not_printed(self, name: str) -> None:
        assert skipped.kind_of(Path(name)) == skipped.OTHER

    @pytest.mark.parametrize("arguments", [["encode", "-o", "out"], ["decode", "-o", "out"], ["info"]])
    def test_it_is_said_by_every_command_that_takes_folders(self, tmp_path: Path, arguments: list[str]) -> None:
        make(tmp_path / "in", "notes.txt", "film.mov", ".DS_Store", "._a.png", ".git/a.png", "_manifest/a.parquet")
        result = sdc(arguments[0], tmp_path / "in", *arguments[1:])
        assert result.exit_code == 1
        assert result.stderr.splitlines()[:2] == [
            f"sdc: {tmp_path}/in: there is nothing of the kind in this folder",
            "sdc: left out 2 files: 1 .mov, 1 .txt",
        ]

    def test_nothing_is_said_where_it_is_to_be_quiet(self, tmp_path: Path) -> None:
        make(tmp_path / "in", "a.png", "notes.txt")
        assert sdc("encode", tmp_path / "in", "-o", tmp_path / "out", "-q").output == ""
        assert sdc("batch", tmp_path / "in", tmp_path / "batch", "-q").output == ""


class TestFolders:
    def test_one_picture_in_a_folder_goes_into_a_folder(self, tmp_path: Path) -> None:
        make(tmp_path / "in", "a.png")
        assert sdc("encode", tmp_path / "in", "-o", tmp_path / "out").exit_code == 0
        assert sdc("decode", tmp_path / "out", "-o", tmp_path / "back").exit_code == 0
        assert sdc("encode", tmp_path / "in" / "*.png", "-o", tmp_path / "pattern").exit_code == 0
        assert names(tmp_path) == ["back/a.png", "in/a.png", "out/a.sdc", "pattern/a.sdc"]

    @pytest.mark.parametrize(("command", "target"), [("encode", "new.sdc"), ("decode", "new.jpg")])
    def test_a_folder_does_not_go_into_a_file(self, tmp_path: Path, command: str, target: str) -> None:
        make(tmp_path / "in", "a.png")
        (tmp_path / "in" / "b.sdc").write_bytes((GOLDEN / "palette-l-1x1.sdc").read_bytes())
        result = sdc(command, tmp_path / "in", "-o", tmp_path / target)
        assert result.exit_code == 2
        assert f"for a folder, write {tmp_path}/{target}/" in result.stderr
        assert names(tmp_path) == ["in/a.png", "in/b.sdc"]

    def test_one_that_cannot_be_read_is_an_error_and_the_others_are_done(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(tmp_path / "in", "a.png", "private/b.png", "z/c.png")
        deny(monkeypatch, "private")
        line = f"sdc: {tmp_path}/in/private: Permission denied"
        for name, source in (("folder", tmp_path / "in"), ("pattern", tmp_path / "in" / "**" / "*.png")):
            result = sdc("encode", source, "-o", tmp_path / name)
            assert result.exit_code == 1
            assert result.stderr.splitlines()[0] == line
            assert result.stderr.splitlines()[1].startswith(f"2 files in {tmp_path / name}/, 1 failed: ")
            assert names(tmp_path / name) == ["a.sdc", "z/c.sdc"]
        for command in ("decode", "info"):
            result = sdc(command, tmp_path / "folder", tmp_path / "in" / "private")
            assert result.exit_code == 1
            assert line in result.stderr.splitlines()

    def test_sdc_files_are_encoded_unless_they_would_become_themselves_or_are_results_of_others(
        self, tmp_path: Path
    ) -> None:
        golden = (GOLDEN / "palette-rgb-200x150.sdc").read_bytes()
        make(tmp_path / "in", "a.png")
        for name in ("a.sdc", "b.sdc"):
            (tmp_path / "in" / name).write_bytes(golden)
        result = sdc("encode", tmp_path / "in", "-o", tmp_path / "out")
        assert (result.exit_code, names(tmp_path / "out")) == (0, ["a.sdc", "b.sdc"])
        assert "left out 1 file: 1 .sdc" in result.stderr
        assert (tmp_path / "out" / "a.sdc").read_bytes() != golden
        assert (tmp_path / "out" / "b.sdc").read_bytes() == golden
        (tmp_path / "in" / "a.sdc").unlink()
        result = sdc("encode", tmp_path / "in")
        assert (result.exit_code, names(tmp_path / "in")) == (0, ["a.png", "a.sdc", "b.sdc"])
        assert "left out 1 file: 1 .sdc" in result.stderr
        assert (tmp_path / "in" / "b.sdc").read_bytes() == golden

    def test_a_batch_with_one_that_cannot_be_read_is_not_begun(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(tmp_path / "in", "a.png", "private/b.png")
        deny(monkeypatch, "private")
        result = sdc("batch", tmp_path / "in", tmp_path / "out")
        assert (result.exit_code, result.stderr) == (1, f"sdc: {tmp_path}/in/private: Permission denied\n")

    def test_links_to_folders_are_not_followed_unless_named_and_that_is_said(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.png", "elsewhere/b.png")
        (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "in")
        line = "sdc: left out 1 linked folder"
        for source in (tmp_path / "in", tmp_path / "in" / "**" / "*.png"):
            result = sdc("encode", source, "-o", tmp_path / "out", "--force")
            assert (result.exit_code, names(tmp_path / "out")) == (0, ["a.sdc"])
            assert result.stderr.splitlines()[0] == line
        result = sdc("batch", tmp_path / "in", tmp_path / "batch")
        assert (result.exit_code, files_of(tmp_path / "batch")) == (0, ["a.sdc"])
        assert result.stderr.splitlines()[0] == line
        assert found(tmp_path / "in" / "link") == [str(tmp_path / "in" / "link" / "b.png")]

    def test_links_to_files_are_files(self, tmp_path: Path) -> None:
        make(tmp_path / "in", "a.png")
        (tmp_path / "in" / "best").mkdir()
        (tmp_path / "in" / "best" / "b.png").symlink_to(tmp_path / "in" / "a.png")
        assert sdc("encode", tmp_path / "in", tmp_path / "in", "-o", tmp_path / "out").exit_code == 0
        assert sdc("batch", tmp_path / "in", tmp_path / "batch").exit_code == 0
        assert names(tmp_path / "out") == files_of(tmp_path / "batch") == ["a.sdc", "best/b.sdc"]

    def test_a_link_that_leads_nowhere_is_an_error(self, tmp_path: Path) -> None:
        make(tmp_path / "in", "a.png")
        (tmp_path / "in" / "b.png").symlink_to("nowhere")
        result = sdc("encode", tmp_path / "in", "-o", tmp_path / "out")
        assert result.exit_code == 1
        assert f"sdc: {tmp_path}/in/b.png: No such file or directory" in result.stderr

    def test_pipes_in_folders_are_not_waited_for(self, tmp_path: Path) -> None:
        make(tmp_path / "in", "a.png")
        os.mkfifo(tmp_path / "in" / "b.png")
        assert found(tmp_path / "in") == [str(tmp_path / "in" / "a.png")]
        for name, target in (("encode", ["-o", tmp_path / "out"]), ("batch", [tmp_path / "batch"])):
            result = sdc(name, tmp_path / "in", *target)
            assert (result.exit_code, result.stderr.splitlines()[0]) == (0, "sdc: left out 1 file: 1 special")

    def test_deep_trees_are_walked_to_their_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        depth = 1200  # more than calls can be nested by default, and within the longest path
        for _ in range(depth):
            Path("x").mkdir()
            os.chdir("x")
        Path("a.png").touch()
        os.chdir(tmp_path)
        try:
            assert len(found(Path("x"))) == 1
        finally:  # it is too deep for what removes the folders of tests
            os.chdir("/".join("x" * depth))
            Path("a.png").unlink()
            for _ in range(depth):
                os.chdir("..")
                Path("x").rmdir()


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "matches"),
        [
            ("*.png", ["a.png"]),
            ("**/*.png", ["a.png", "b/c.png", "b/d/e.png"]),
            ("**", ["a.png", "b/c.png", "b/d/e.png", "b/d/f.txt"]),
            ("b/**/[ef].*", ["b/d/e.png", "b/d/f.txt"]),
            ("*/d/*", ["b/d/e.png", "b/d/f.txt"]),
            ("?/c.png", ["b/c.png"]),
            ("**/**/c.png", ["b/c.png"]),
            ("b/.*/*", ["b/.g/h.png"]),
            ("b/.[!.]", []),
        ],
    )
    def test_match_as_in_a_shell(self, tmp_path: Path, pattern: str, matches: list[str]) -> None:
        make(tmp_path, "a.png", "b/c.png", "b/d/e.png", "b/d/f.txt", "b/.g/h.png", "b/d/.i.png")
        failures = Failures()
        sources = find([str(tmp_path / pattern)], lambda path: False, failures, quiet=True)
        assert [str(path.path.relative_to(tmp_path)) for path in sources if path.path] == matches
        assert failures.count == (not matches)

    def test_of_nothing_are_an_error(self, tmp_path: Path) -> None:
        result = sdc("encode", tmp_path / "*.png", "-q")
        assert (result.exit_code, result.stderr) == (1, f"sdc: {tmp_path}/*.png: no file matches this pattern\n")
        result = sdc("encode", tmp_path / "gone" / "*.png", "-q")
        assert (result.exit_code, result.stderr) == (1, f"sdc: {tmp_path}/gone: No such file or directory\n")


class TestPipes:
    def test_every_command_reads_them(self, tmp_path: Path) -> None:
        data = (GOLDEN / "palette-rgb-200x150.sdc").read_bytes()
        for arguments, content in (
            (["encode", "-o", tmp_path / "a.sdc"], picture()),
            (["decode", "-o", tmp_path / "a.png"], data),
            (["view", "-o", tmp_path / "a-latents.png"], data),
            (["info"], data),
        ):
            pipe = tmp_path / "pipe"
            os.mkfifo(pipe)
            writing = threading.Thread(target=pipe.write_bytes, args=[content])
            writing.start()
            result = sdc(arguments[0], pipe, *arguments[1:])
            writing.join()
            pipe.unlink()
            assert result.exit_code == 0, result.output
        assert names(tmp_path) == ["a-latents.png", "a.png", "a.sdc"]

    def test_those_without_a_name_go_to_standard_output(self, tmp_path: Path) -> None:
        reading, writing = os.pipe()
        os.write(writing, picture())
        os.close(writing)
        try:
            assert sdc("encode", f"/dev/fd/{reading}", "-o", tmp_path).exit_code == 2
            assert sdc("view", f"/dev/fd/{reading}").exit_code == 2
            result = sdc("encode", f"/dev/fd/{reading}")
        finally:
            os.close(reading)
        assert result.exit_code == 0
        assert pillow_sdc.info(result.stdout_bytes).width == 24

    @pytest.mark.parametrize(
        ("path", "has_name"),
        [
            *((path, False) for path in ("/dev/stdin", "/dev/fd/63", "/proc/self/fd/0", "/proc/12/fd/63")),
            *((path, True) for path in ("/dev/mapper/a.png", "a.png", "fd/a.png")),
        ],
    )
    def test_names_of_descriptors_are_none(self, path: str, has_name: bool) -> None:
        assert InputFile(Path(path), Path(Path(path).name)).has_name == has_name


class TestSheets:
    def test_go_into_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a.sdc").write_bytes((GOLDEN / "palette-l-1x1.sdc").read_bytes())
        (tmp_path / "there").mkdir()
        for folder in (f"{tmp_path}/made/", f"{tmp_path}/there"):
            result = sdc("view", tmp_path / "a.sdc", "-o", folder)
            assert (result.exit_code, result.stdout) == (0, f"{folder.rstrip('/')}/a-latents.png\n")
        assert names(tmp_path) == ["a.sdc", "made/a-latents.png", "there/a-latents.png"]


class TestLargePictures:
    @pytest.fixture(autouse=True)
    def _low_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)

    @pytest.mark.parametrize("limit", ["384", "0.4k", "none"])
    @pytest.mark.parametrize("command", ["encode", "decode", "batch", "batch --decode"])
    def test_are_refused_unless_an_option_says_otherwise(self, tmp_path: Path, command: str, limit: str) -> None:
        decode = "decode" in command
        path = tmp_path / "in" / ("a.sdc" if decode else "a.png")
        path.parent.mkdir()
        data = picture()
        if decode:
            with pillow_sdc.configure(model="compact"):
                Image.MAX_IMAGE_PIXELS = None
                data = pillow_sdc.encode(Image.open(io.BytesIO(data)))
                Image.MAX_IMAGE_PIXELS = 50
        path.write_bytes(data)
        name, *options = command.split()
        target = [tmp_path / "out"] if name == "batch" else ["-o", f"{tmp_path / 'out'}/"]
        refused = sdc(name, path.parent, *target, *options)
        assert refused.exit_code == 1
        assert "(384 pixels) exceeds limit of 100 pixels; --max-pixels" in refused.stderr
        assert sdc(name, path.parent, *target, *options, "--max-pixels", "382").exit_code == 1
        result = sdc(name, path.parent, *target, *options, "--max-pixels", limit)
        assert result.exit_code == 0, result.output
        assert files_of(tmp_path / "out") == ["a.png" if decode else "a.sdc"]
        assert Image.MAX_IMAGE_PIXELS == 50

    @pytest.mark.parametrize("limit", ["0", "-1", "many", "1x1", ""])
    def test_what_is_no_limit_is_refused(self, limit: str) -> None:
        assert sdc("encode", "a.png", f"--max-pixels={limit}").exit_code == 2


def deny(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have folders of a name refuse to be listed, as the system does to all but root."""
    scandir = os.scandir

    def listed(path: os.PathLike[str] | str = ".") -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listed)


def test_a_run_counts_what_it_leaves_out(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", "notes.txt", ".hidden.txt", "b/README")
    progress = run(str(tmp_path / "in"), str(tmp_path / "out"), ENCODING, InlineEngine())
    assert progress.skipped == Counter({".txt": 1, "other": 1})
    assert run(str(tmp_path / "out"), str(tmp_path / "back"), DECODING, InlineEngine()).skipped == Counter()
    assert SETTINGS["model"] == "compact"
    assert found(tmp_path / "out", wanted=is_sdc) == [str(tmp_path / "out" / "a.sdc")]
