"""What ``mimetypes``, and so servers and frameworks, say of ``.sdc``, which systems give to StarOffice Calc."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS, OTHERS = "image/x-sdc", "application/vnd.stardivision.calc"
IMPORTED = "import pillow_sdc"
INITIALISED = READ_ANEW = "import mimetypes; mimetypes.init()"


@pytest.fixture
def system(tmp_path: Path) -> str:
    """What has Python read a file of types that a system may have, and no other."""
    file = tmp_path / "mime.types"
    file.write_text(f"{OTHERS} sdc\ntext/x-our-own own\n")
    return f"import mimetypes; mimetypes.knownfiles[:] = [{str(file)!r}]"


def printed(*statements: str) -> list[str]:
    """Return the words that a fresh interpreter prints."""
    code = "\n".join(statements)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PILLOW_SDC_AUTOLOAD": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def answers(*statements: str) -> list[str]:
    """Return what a fresh interpreter prints, and last what type it says files of the format have."""
    return printed(*statements, "print(mimetypes.guess_type('a.SDC')[0])")


def test_without_the_package_the_systems_answer_holds(system: str) -> None:
    assert answers(system) == [OTHERS]


@pytest.mark.parametrize(
    "statements",
    [
        [IMPORTED],
        [INITIALISED, IMPORTED],
        [IMPORTED, INITIALISED],
        [INITIALISED, IMPORTED, READ_ANEW],
        [IMPORTED, READ_ANEW, READ_ANEW],
    ],
    ids=["not initialised", "initialised before", "initialised after", "initialised before and after", "twice after"],
)
def test_mimetypes_know_the_format_whenever_they_are_initialised(system: str, statements: list[str]) -> None:
    assert answers(system, *statements) == [OURS]


def test_the_other_way_round_the_type_has_the_suffix(system: str) -> None:
    code = "print(mimetypes.guess_all_extensions('image/x-sdc'))"
    assert answers(system, INITIALISED, IMPORTED, code) == ["['.sdc']", OURS]
    assert answers(system, IMPORTED, code) == ["['.sdc']", OURS]


def test_other_types_stay_what_they_are(system: str) -> None:
    code = "print(*(mimetypes.guess_type(name)[0] for name in ('a.own', 'a.png', 'a.ods')))"
    assert answers(system, IMPORTED, code)[:2] == answers(system, code)[:2] == ["text/x-our-own", "image/png"]


def test_registering_again_adds_nothing(system: str) -> None:
    again = "import pillow_sdc; pillow_sdc.register(); pillow_sdc.register(); print(len(mimetypes.knownfiles))"
    assert answers(system, again) == ["2", OURS]


@pytest.mark.parametrize("module", ["None", "type(sys)('mimetypes')"], ids=["left out", "another module"])
def test_pillow_knows_the_format_where_there_is_no_such_module(module: str) -> None:
    code = "from PIL import Image; print(Image.MIME['SDC'], Image.EXTENSION['.sdc'])"
    assert printed(f"import sys; sys.modules['mimetypes'] = {module}", IMPORTED, code) == [OURS, "SDC"]
