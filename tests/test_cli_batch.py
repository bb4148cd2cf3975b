"""``sdc batch``: what it takes, what it says, and how it ends."""

import os
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from sdc_process import command, on_a_terminal
from small_runs import InlineEngine, files_of, make_pictures, make_tar, members_of, picture, rows_of
from typer.testing import CliRunner, Result

import pillow_sdc
from pillow_sdc.cli import app
from pillow_sdc.jobs.executors.processes import LocalEngine

SUMMARY = r"(.*): ([\d,]+) bytes in, ([\d,]+) bytes out( \([\d.]+%\))?, [\d.]+ s, [\d.]+ pictures/s\n"


@pytest.fixture(autouse=True)
def _serial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the embedded model used, and the work done in this process."""
    monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")
    monkeypatch.setattr("pillow_sdc.jobs.executors.processes.LocalEngine", lambda workers: InlineEngine())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "in", 2)


def sdc_batch(*arguments: str | os.PathLike[str]) -> Result:
    return CliRunner().invoke(app, ["batch", *map(os.fspath, arguments)])


def test_the_help_shows_what_there_is_in_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = sdc_batch("--help")
    assert result.exit_code == 0
    for word in ("--decode", "--to", "--shard-size", "--column", "--engine", "--workers", "--quality", "_manifest"):
        assert word in result.output
    for panel in ("Source and target", "Workers", "Model", "Examples"):
        assert panel in result.output


def test_a_folder_is_encoded_and_summed_up(pictures: Path, tmp_path: Path) -> None:
    result = sdc_batch(pictures, tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout == ""
    match = re.fullmatch(SUMMARY, result.stderr)
    assert match is not None
    assert match[1] == "2 pictures"
    sizes = [sum(path.stat().st_size for path in folder.glob("0*")) for folder in (pictures, tmp_path / "out")]
    assert [int(size.replace(",", "")) for size in match.groups()[1:3]] == sizes
    assert files_of(tmp_path / "out") == ["00.sdc", "01.sdc"]


def test_pictures_with_a_remark_are_counted_and_no_failures(pictures: Path, tmp_path: Path) -> None:
    with Image.open(pictures / "00.png") as image:
        image.save(pictures / "moving.gif", save_all=True, append_images=[image.convert("L")])
    result = sdc_batch(pictures, tmp_path / "out")
    assert result.exit_code == 0
    assert result.stderr.startswith("3 pictures, 1 with a remark in the manifest: ")


def test_nothing_to_do_is_summed_up_too(pictures: Path, tmp_path: Path) -> None:
    sdc_batch(pictures, tmp_path / "out")
    result = sdc_batch(pictures, tmp_path / "out")
    assert result.exit_code == 0
    assert result.stderr.startswith("0 pictures, 2 were there already: 0 bytes in, 0 bytes out, ")


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_what_is_there_but_was_made_with_other_options_is_said_and_ends_with_code_1(
    pictures: Path, tmp_path: Path, quiet: tuple[str, ...]
) -> None:
    sdc_batch(pictures, tmp_path / "out", "--quality", "20")
    before = (tmp_path / "out" / "00.sdc").read_bytes()
    result = sdc_batch(pictures, tmp_path / "out", "--strip", *quiet)
    assert result.exit_code == 1
    *summary, line = result.stderr.splitlines()
    assert len(summary) == (not quiet)
    assert line == (
        "sdc: pictures that were there already were made with other options than now (--model compact --strip): 2 with"
        " --model compact --quality 20; they are kept. To make them anew, add --force; to have both, choose another"
        " target"
    )
    assert (tmp_path / "out" / "00.sdc").read_bytes() == before
    assert sdc_batch(pictures, tmp_path / "out", "--strip", "--force").exit_code == 0
    assert sdc_batch(pictures, tmp_path / "out", "--strip").exit_code == 0


def test_what_is_there_but_packed_otherwise_is_said_too(pictures: Path, tmp_path: Path) -> None:
    sdc_batch(pictures, tmp_path / "out")
    result = sdc_batch(pictures, tmp_path / "out", "--to", "tar", "--quiet")
    assert result.exit_code == 1
    assert " than now (--model compact --to tar): 2 with --model compact --to files; they are kept." in result.stderr


def test_each_error_is_a_line_and_ends_with_code_1(pictures: Path, tmp_path: Path) -> None:
    (pictures / "bad.png").write_bytes(b"nonsense")
    (pictures / "gone.png").symlink_to("nowhere")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00.sdc").write_bytes(pillow_sdc.encode(Image.open(pictures / "00.png")))
    result = sdc_batch(pictures, tmp_path / "out")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[:2] == [
        f"sdc: {pictures}/bad.png: not a picture that Pillow can read",
        f"sdc: {pictures}/gone.png: No such file or directory",
    ]
    assert lines[2].startswith("1 picture, 1 were there already, 2 failed: ")
    assert len(lines) == 3


@pytest.mark.parametrize("options", [(), ("--to", "files"), ("--quality", "20")])
def test_what_failed_is_tried_again_and_said_again_until_it_does_not(tmp_path: Path, options: tuple[str, ...]) -> None:
    members = [("0.png", picture(0)), ("1.png", b"nonsense"), ("2.png", b"nonsense"), ("2.txt", b"x")]
    make_tar(tmp_path / "in" / "a.tar", members)
    for _ in range(2):
        result = sdc_batch(tmp_path / "in", tmp_path / "out", *options)
        assert result.exit_code == 1
        *errors, summary = result.stderr.splitlines()
        message = "not a picture that Pillow can read"
        assert errors == [f"sdc: {tmp_path}/in/a.tar::{number}.png: {message}" for number in (1, 2)]
        assert ", 2 failed: " in summary
    make_tar(
        tmp_path / "in" / "a.tar", [(name, picture(5) if name.endswith("png") else data) for name, data in members]
    )
    result = sdc_batch(tmp_path / "in", tmp_path / "out", *options)
    assert (result.exit_code, "failed" in result.stderr) == (0, False)
    assert sdc_batch(tmp_path / "in", tmp_path / "out", *options).stderr.startswith("0 pictures, 3 were there")


def test_columns_say_which_pictures_of_a_shard_are_converted(tmp_path: Path) -> None:
    make_tar(tmp_path / "in" / "a.tar", [(f"0.{name}.png", picture()) for name in ("left", "right", "mask")])
    result = sdc_batch(tmp_path / "in", tmp_path / "out")
    assert result.exit_code == 1
    assert "'0' has several pictures, left.png, right.png, mask.png, and" in result.stderr.splitlines()[0]
    assert result.stderr.splitlines()[0].endswith("name what to convert with --column")
    assert ", 1 failed: " in result.stderr
    columns = ("--column", "left", "--column", "right.png")
    assert sdc_batch(tmp_path / "in", tmp_path / "out", *columns).exit_code == 0
    names = ["0.left.sdc", "0.mask.png", "0.right.sdc"]
    assert sorted(members_of((tmp_path / "out" / "a.tar").read_bytes())) == names


def test_columns_without_shards_are_refused(pictures: Path, tmp_path: Path) -> None:
    result = sdc_batch(pictures, tmp_path / "out", "--column", "image")
    assert result.exit_code == 1
    assert result.stderr == f"sdc: --column names pictures of shards, and in {pictures} there are none\n"


def test_quietly_only_errors_are_said(pictures: Path, tmp_path: Path) -> None:
    assert sdc_batch(pictures, tmp_path / "out", "--quiet").output == ""
    (pictures / "bad.png").write_bytes(b"nonsense")
    result = sdc_batch(pictures, tmp_path / "out", "-q")
    assert (result.exit_code, result.output) == (1, f"sdc: {pictures}/bad.png: not a picture that Pillow can read\n")


def test_files_are_packed_and_unpacked(pictures: Path, tmp_path: Path) -> None:
    assert sdc_batch(pictures, tmp_path / "out", "--to", "tar", "--shard-size", "1").exit_code == 0
    assert files_of(tmp_path / "out") == ["000000.tar", "000001.tar"]
    arguments = ("--decode", "--to", "files", "--format", "JPG")
    assert sdc_batch(tmp_path / "out", tmp_path / "back", *arguments).exit_code == 0
    assert files_of(tmp_path / "back") == ["000000/00.jpg", "000001/01.jpg"]


def test_options_of_the_codec_and_of_metadata_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (24, 16)).save(tmp_path / "in" / "a.png", dpi=(300, 300))
    assert sdc_batch(tmp_path / "in", tmp_path / "out", "--quality", "20").exit_code == 0
    with Image.open(tmp_path / "out" / "a.sdc") as image:
        assert image.info["sdc"]["codec"] == "context"
        assert "dpi" in image.info
    assert sdc_batch(tmp_path / "in", tmp_path / "out", "--strip", "-f").exit_code == 0
    with Image.open(tmp_path / "out" / "a.sdc") as image:
        assert image.info["sdc"]["codec"] == "palette"
        assert "dpi" not in image.info


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "png"], "--format is that of decoded pictures, for --decode"),
        (["--decode", "--quality", "40"], "codecs and their options are for encoding, not for --decode"),
        (["--decode", "--codec", "uint8"], "codecs and their options are for encoding, not for --decode"),
        (["--decode", "--format", "frob"], "'frob' is no format that Pillow writes; png, jpg, webp and tiff are some"),
        (["--decode", "--format", "sdc"], "'sdc' is no format that Pillow writes; png, jpg, webp and tiff are some"),
        (["--max-workers", "2"], "--max-workers and --gpus-per-worker are for --engine ray"),
        (["--gpus-per-worker", "0.5"], "--max-workers and --gpus-per-worker are for --engine ray"),
        (["--quality", "40", "--target-size", "2k"], "--quality and --target-size exclude each other"),
        (["--codec", "uint8", "--palette-size", "4"], "--palette-size is an option of the codec palette, not of uint8"),
    ],
)
def test_what_makes_no_sense_is_said_and_ends_with_code_2(
    pictures: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = sdc_batch(pictures, tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"sdc: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [[], ["in"], ["in", "out", "--workers", "0"], ["in", "out", "--to", "zip"], ["in", "out", "--shard-size", "0"]],
)
def test_wrong_usage_ends_with_code_2(arguments: list[str]) -> None:
    assert sdc_batch(*arguments).exit_code == 2


def test_what_ends_a_whole_run_is_a_line_and_code_1(pictures: Path, tmp_path: Path) -> None:
    make_tar(tmp_path / "tars" / "a.tar", [("1.png", picture())])
    for source, target, arguments, message in (
        (
            tmp_path / "missing",
            tmp_path / "out",
            [],
            f"{tmp_path}/missing: no such file or folder, or nothing is in it",
        ),
        (tmp_path / "*.png", tmp_path / "out", [], f"nothing matches {tmp_path}/*.png"),
        (pictures, tmp_path / "out", ["--decode"], f"nothing in {pictures} is an SDC file or a shard, by its name"),
        (pictures, pictures / "00.png", [], f"{pictures}/00.png/_manifest: Not a directory"),
        (pictures, pictures, [], f"all of {pictures} is in {pictures}; source and target must be apart"),
        (pictures, "frob://x", [], "Protocol not known: frob"),
        (tmp_path / "tars", tmp_path / "out", ["--to", "parquet"], "tar shards become tar shards or files"),
    ):
        result = sdc_batch(source, target, *arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"sdc: {message}")
        assert len(result.stderr.splitlines()) == 1


def test_a_model_that_cannot_be_had_ends_the_run_before_it_begins(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillow_sdc.jobs.executors.processes.LocalEngine", LocalEngine)
    result = sdc_batch(pictures, tmp_path / "out", "--model", tmp_path / "missing")
    assert result.exit_code == 1
    assert str(tmp_path / "missing") in result.stderr
    assert files_of(tmp_path / "out") == []
    assert rows_of(tmp_path / "out") == []


def test_debugging_shows_the_traceback_of_what_ends_a_run(tmp_path: Path) -> None:
    result = sdc_batch(tmp_path / "missing", tmp_path / "out", "--debug")
    assert isinstance(result.exception, FileNotFoundError)


@pytest.mark.parametrize(("engine", "extra"), [("local", "batch"), ("ray", "ray")])
def test_what_is_not_installed_is_named(
    pictures: Path, tmp_path: Path, engine: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    result = sdc_batch(pictures, tmp_path / "out", "--engine", engine)
    assert result.exit_code == 2
    assert result.stderr == f"sdc: fsspec is not installed; try: pip install 'pillow-sdc[{extra}]'\n"


def test_an_interrupt_ends_with_code_130_after_a_summary(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(InlineEngine, "__call__", interrupt)
    result = sdc_batch(pictures, tmp_path / "out")
    assert result.exit_code == 130
    summary, message = result.stderr.splitlines()
    assert summary.startswith("0 pictures: ")
    assert message == "sdc: interrupted; what is done is done, and the same command goes on from here"


def test_a_terminal_gets_a_progress_bar_and_errors_above_it(tmp_path: Path) -> None:
    members = [*[(f"{number}.png", picture(number)) for number in range(3)], ("bad.png", b"nonsense"), ("a.txt", b"a")]
    make_tar(tmp_path / "in" / "a.tar", members)
    code, output = on_a_terminal(command("batch", tmp_path / "in", tmp_path / "out", "--workers", "1"))
    assert code == 1
    assert "3 pictures, 1 failed: " in output
    assert re.search(r"3 pictures, [\d.]+/s, [\d,]+ bytes saved", output)
    assert "━" in output
    assert f"sdc: {tmp_path}/in/a.tar::bad.png: not a picture that Pillow can read\r\n" in output
    assert "Traceback" not in output
    assert list(members_of((tmp_path / "out" / "a.tar").read_bytes())) == ["0.sdc", "1.sdc", "2.sdc", "a.txt"]
