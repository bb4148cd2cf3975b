"""Where the wheel is installed, Pillow knows ``.sdc`` with nothing imported for it, and nothing else is different."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from environments import SITE_PACKAGES, Environment, distributions_needed_by
from locations import GOLDEN, ROOT
from packaging.requirements import Requirement
from PIL import Image

PICTURE = str(GOLDEN / "palette-rgb-metadata.sdc")
MODULE, PTH, START = "_pillow_sdc_autoload.py", "pillow_sdc.pth", "pillow_sdc.start"
PYTHONS = [sys.executable, *os.environ.get("PILLOW_SDC_TEST_PYTHONS", "").split()]
"""Interpreters that the package is tried with where torch is missing; for others than this, packages are downloaded."""

WITHOUT = {"torch", "diffusers", "transformers"}

VERIFY = f"from PIL import Image; Image.open({PICTURE!r}).verify(); print('fine')"
IS_REGISTERED = "from PIL import Image; print('SDC' in Image.OPEN)"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment with the wheel; tests leave it as it is."""
    environment = Environment.create(tmp_path_factory.mktemp("installed"))
    environment.pip("install", "--no-deps", "--no-index", str(wheel))
    return environment


@pytest.fixture(scope="session", params=PYTHONS, ids=lambda python: Path(python).name)
def without_torch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment with the wheel and what it needs, but for torch, diffusers and transformers."""
    environment = Environment.create(tmp_path_factory.mktemp("without_torch"), False, request.param)
    environment.pip("install", "--no-deps", "--no-index", str(wheel))
    (ours,) = metadata.distributions(name="pillow-sdc", path=[str(environment.packages)])
    if request.param == sys.executable:
        environment.share(distributions_needed_by(ours.requires or (), WITHOUT))
        return environment
    needed = [Requirement(text) for text in ours.requires or ()]
    direct = {requirement.name for requirement in needed if not requirement.marker} - WITHOUT
    environment.pip("install", "--constraint", str(ROOT / "constraints.txt"), *sorted(direct - {"accelerate"}))
    environment.pip("install", "--constraint", str(ROOT / "constraints.txt"), "--no-deps", "accelerate")  # needs torch
    return environment


@pytest.fixture
def alone(tmp_path: Path) -> Environment:
    """An environment with the start-up files and without Pillow or the package; the test's own."""
    environment = Environment.create(tmp_path / "alone", shared=False)
    for name in (MODULE, PTH, START):
        (environment.packages / name).write_bytes((ROOT / "autoload" / name).read_bytes())
    return environment


def test_wheel_has_the_start_up_files_at_its_root_and_in_its_record(installed: Environment) -> None:
    (record,) = installed.packages.glob("pillow_sdc-*.dist-info/RECORD")
    recorded = {line.split(",")[0] for line in record.read_text("utf-8").splitlines()}
    assert {MODULE, PTH, START} <= recorded
    for name in (MODULE, PTH, START):
        assert (installed.packages / name).read_bytes() == (ROOT / "autoload" / name).read_bytes()


def test_uninstalling_leaves_no_file_behind(tmp_path: Path, wheel: Path) -> None:
    environment = Environment.create(tmp_path / "environment")
    before = environment.files()
    environment.pip("install", "--no-deps", "--no-index", str(wheel))
    assert environment.run("-c", IS_REGISTERED) == "True\n"
    environment.pip("uninstall", "--yes", "pillow-sdc")
    assert environment.files() == before


def test_editable_installs_need_no_import_either() -> None:
    installed_from = metadata.distribution("pillow-sdc").read_text("direct_url.json") or "{}"
    if not json.loads(installed_from).get("dir_info", {}).get("editable"):
        pytest.skip("the package that the tests import is not an editable install")
    done = subprocess.run([sys.executable, "-I", "-c", VERIFY], capture_output=True, text=True)
    assert done.stdout == "fine\n"


@pytest.mark.parametrize("flags", [(), ("-I",), ("-E",), ("-s",), ("-W", "error")], ids=" ".join)
def test_open_and_verify_need_no_import(installed: Environment, flags: tuple[str, ...]) -> None:
    assert installed.run(*flags, "-c", VERIFY) == "fine\n"


def test_load_needs_no_import(installed: Environment) -> None:
    path = str(GOLDEN / "palette-l-1x1.sdc")
    load = f"from PIL import Image; image = Image.open({path!r}); image.load(); print(image.getpixel((0, 0)))"
    assert installed.start("-c", load).stdout.strip().isdecimal()


WITHOUT_TORCH = """
import io
import sys
from importlib.util import find_spec
from PIL import Image

assert not [name for name in ("torch", "diffusers", "transformers") if find_spec(name)]
gradient = Image.linear_gradient("L").resize((120, 90))
for codec in ("context", "palette", "uint8"):
    for mode in ("L", "LA", "RGB", "RGBA"):
        picture, file = gradient.convert(mode), io.BytesIO()
        picture.save(file, "SDC", codec=codec)
        Image.open(file).verify()
        with Image.open(file) as image:
            image.load()
            assert (image.mode, image.size, image.info["sdc"]["model"]) == (mode, (120, 90), "compact")
            differences = zip(image.convert("L").tobytes(), gradient.tobytes())
            assert sum(abs(a - b) for a, b in differences) < 12 * 120 * 90, (codec, mode)
        with Image.open(file) as image:
            image.thumbnail((10, 10))
            assert image.info["sdc"]["model"] == "preview"
        with Image.open(file) as image:
            image.thumbnail((100, 100))
            assert image.size == (100, 75)
try:
    Image.open(file).convert("RGB").save(io.BytesIO(), "SDC", model="someone/model")
except OSError as error:
    print(error)
"""


def test_the_embedded_model_needs_no_torch(without_torch: Environment, tmp_path: Path) -> None:
    printed = without_torch.run("-c", WITHOUT_TORCH, HF_HOME=str(tmp_path))
    assert printed == (
        "model 'someone/model' needs packages that are not installed: pip install torch transformers diffusers;"
        " the model 'compact' needs none of them\n"
    )


def test_commands_need_no_torch(without_torch: Environment, tmp_path: Path) -> None:
    photo, file, decoded = (tmp_path / name for name in ("photo.png", "a.sdc", "a.png"))
    Image.linear_gradient("L").save(photo)
    for arguments in (
        ["encode", str(photo), "-o", str(file), "--quiet"],
        ["decode", str(file), "-o", str(decoded), "--quiet"],
    ):
        without_torch.run("-m", "pillow_sdc", *arguments, HF_HOME=str(tmp_path / "hub"))
    assert decoded.exists()
    report = without_torch.run("-m", "pillow_sdc", "doctor", HF_HOME=str(tmp_path / "hub"))
    assert "not installed, or not under this name: torch, diffusers, transformers" in report
    assert "64×64 with compact" in report


def test_a_command_names_the_extra_that_it_lacks(without_torch: Environment, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.linear_gradient("L").save(tmp_path / "photos" / "photo.png")
    done = without_torch.start("-m", "pillow_sdc", "batch", str(tmp_path / "photos"), str(tmp_path / "out"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install 'pillow-sdc[batch]'" in done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_need_no_import(installed: Environment, tmp_path: Path, method: str) -> None:
    if method == "forkserver" and os.name == "nt":
        pytest.skip("there is no forkserver on Windows")
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import multiprocessing
import sys

def verify(path):
    from PIL import Image
    Image.open(path).verify()
    return "fine"

if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(*pool.map(verify, [{PICTURE!r}]), "PIL" in sys.modules)
""",
        "utf-8",
    )
    assert installed.run(str(script)) == "fine False\n"


def test_pillow_lists_the_format(installed: Environment) -> None:
    listing = installed.run("-m", "PIL")
    assert "SDC image/x-sdc\nExtensions: .sdc\nFeatures: open, save" in listing


def test_save_needs_no_import(installed: Environment) -> None:
    script = "from PIL import Image; print(Image.registered_extensions()['.sdc'], 'SDC' in Image.SAVE)"
    assert installed.run("-c", script) == "SDC True\n"


def test_web_servers_that_know_pillow_send_the_format_as_a_picture(installed: Environment) -> None:
    script = "import mimetypes; mimetypes.init(); {}; mimetypes.init(); print(mimetypes.guess_type('a.sdc')[0])"
    assert installed.run("-c", script.format("import PIL.Image")) == "image/x-sdc\n"
    without = installed.run("-c", script.format("import PIL.Image"), PILLOW_SDC_AUTOLOAD="0")
    assert without == installed.run("-c", script.format("pass")) != "image/x-sdc\n"


def test_start_up_imports_neither_pillow_nor_the_package(installed: Environment) -> None:
    modules = installed.run("-c", "import sys; print(*sys.modules)").split()
    assert "_pillow_sdc_autoload" in modules
    assert not {"PIL", "pillow_sdc", "logging", "mimetypes"} & set(modules)


def test_hook_imports_nothing_that_python_has_not_loaded_already(alone: Environment) -> None:
    script = f"""
import os, sys
sys.path.append({str(alone.packages)!r})
before = set(sys.modules)
import _pillow_sdc_autoload
_pillow_sdc_autoload.install()
print(*set(sys.modules) - before)
"""
    assert alone.run("-S", "-c", script) == "_pillow_sdc_autoload\n"


def test_package_is_imported_with_pillow_and_not_before(installed: Environment) -> None:
    script = """
import sys
import PIL
import PIL.ExifTags
print("pillow_sdc" in sys.modules)
import PIL.Image
print("pillow_sdc" in sys.modules, "numpy" in sys.modules)
"""
    assert installed.run("-c", script) == "False\nTrue False\n"


def test_hook_stays_where_it_is(installed: Environment) -> None:
    script = "import sys; before = [*sys.meta_path]; import PIL.Image; print(before == sys.meta_path)"
    assert installed.run("-c", script) == "True\n"


FORGET = "for name in [name for name in sys.modules if name.split('.')[0] in {}]: del sys.modules[name]"
PILLOW_AGAIN = {
    "all of it imported anew": FORGET.format(["PIL"]),
    "the package imported anew as well": FORGET.format(["PIL", "pillow_sdc"]),
    "PIL.Image imported anew": "del sys.modules['PIL.Image']; import PIL.Image",
    "PIL.Image reloaded": "importlib.reload(sys.modules['PIL.Image'])",
}


@pytest.mark.parametrize("again", PILLOW_AGAIN.values(), ids=PILLOW_AGAIN.keys())
def test_pillow_may_be_imported_again(installed: Environment, again: str) -> None:
    path = str(GOLDEN / "palette-l-1x1.sdc")
    script = f"""
import importlib, io, sys

def use():
    from PIL import Image
    saved = io.BytesIO()
    Image.open({path!r}).save(saved, "SDC")
    Image.new("L", (1, 1)).save(io.BytesIO(), "SDC")
    again = Image.open(saved)
    again.load()
    return again.format

for _ in range(3):
    print(use())
    {again}
print(use())
import pillow_sdc
from PIL import Image
print(pillow_sdc.encode(Image.open({path!r})) == pillow_sdc.encode(pillow_sdc.decode({path!r})))
"""
    assert installed.start("-c", script).stdout == 4 * "SDC\n" + "True\n"


def test_pillow_that_is_imported_again_has_pictures_of_its_own(installed: Environment) -> None:
    script = f"""
import sys
from PIL import Image as before
before.open({PICTURE!r})
{FORGET.format(["PIL"])}
from PIL import Image as after
for module in (before, after, before):
    print(isinstance(module.open({PICTURE!r}), module.Image))
"""
    assert installed.run("-c", script) == 3 * "True\n"


@pytest.mark.parametrize("value", ["0", "false", "No", " OFF "])
def test_environment_variable_turns_it_off(installed: Environment, value: str) -> None:
    script = f"import sys; print(len(sys.meta_path)); {IS_REGISTERED}"
    without = installed.run("-S", "-c", "import sys; print(len(sys.meta_path))")
    assert installed.run("-c", script, PILLOW_SDC_AUTOLOAD=value) == f"{without}False\n"


@pytest.mark.parametrize("value", ["", "1", "yes"])
def test_other_values_leave_it_on(installed: Environment, value: str) -> None:
    assert installed.run("-c", IS_REGISTERED, PILLOW_SDC_AUTOLOAD=value) == "True\n"


@pytest.mark.parametrize("flag", ["-E", "-I"])
def test_python_that_ignores_the_environment_leaves_it_on(installed: Environment, flag: str) -> None:
    assert installed.run(flag, "-c", IS_REGISTERED, PILLOW_SDC_AUTOLOAD="0") == "True\n"


def test_without_site_nothing_is_registered(installed: Environment) -> None:
    script = f"import sys; sys.path += {[str(installed.packages), *SITE_PACKAGES]!r}; {IS_REGISTERED}"
    assert installed.run("-S", "-c", script) == "False\n"


@pytest.mark.parametrize("first", ["pillow_sdc", "PIL.Image"])
def test_programs_that_import_the_package_register_it_once(installed: Environment, first: str) -> None:
    script = f"import sys, {first}, pillow_sdc; from PIL import Image; print(Image.ID.count('SDC'))"
    assert installed.run("-c", script) == "1\n"


LIKE_SITE = """
import os, pkgutil, re, sys
sys.path += {paths!r}
def run_pth(text):
    for line in text.splitlines():
        if line.startswith("import "):
            exec(line)
def run_start(text):  # as in PEP 829
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[\\w.]+:[\\w.]+", line)
            pkgutil.resolve_name(line)()
with open({file!r}, encoding="utf-8-sig") as file:
    run_{suffix}(file.read())
print(*(type(finder).__name__ for finder in sys.meta_path))
from PIL import Image
Image.open({picture!r}).verify()
print("fine")
"""


@pytest.mark.parametrize("name", [PTH, START])
def test_either_start_up_file_does_the_same(installed: Environment, name: str) -> None:
    script = LIKE_SITE.format(
        paths=[str(installed.packages), *SITE_PACKAGES],
        file=str(installed.packages / name),
        suffix=Path(name).suffix[1:],
        picture=PICTURE,
    )
    assert re.fullmatch(r"_Finder( type)+\nfine\n", installed.run("-S", "-c", script))


def test_start_up_files_may_be_read_again(installed: Environment) -> None:
    again = f"import site; site.addsitedir({str(installed.packages)!r}, set())"
    script = f"{again}; import sys; print(len(sys.meta_path)); {IS_REGISTERED}; {again}; print(len(sys.meta_path))"
    assert installed.run("-c", script) == "4\nTrue\n4\n"


def test_start_up_files_may_be_read_after_pillow_is_imported(installed: Environment) -> None:
    packages = str(installed.packages)
    script = f"import sys; sys.path += {SITE_PACKAGES!r}; import PIL.Image, site; site.addsitedir({packages!r})"
    assert installed.run("-S", "-c", f"{script}; {IS_REGISTERED}") == "True\n"


AFTER_IMPORT = """
import importlib, importlib.util, inspect, json, pickle, sys
import PIL.Image
module, spec = PIL.Image, PIL.Image.__spec__
facts = {
    "spec": [spec.name, spec.origin, spec.cached, spec.has_location, spec.parent, spec.loader_state],
    "loader": [type(spec.loader).__name__, type(spec.loader).__module__, vars(spec.loader)],
    "identities": [spec.loader is module.__loader__, importlib.util.find_spec("PIL.Image") is spec],
    "file": [module.__file__, module.__cached__, module.__name__, type(module).__name__],
    "source": [inspect.getsource(module), inspect.getsourcefile(module), inspect.getsource(module.open)],
    "pickle": [pickle.dumps(module.Transpose.ROTATE_90).hex(), pickle.loads(pickle.dumps(spec)) == spec],
    "keys": sorted(vars(module)),
}
facts["reload"] = [importlib.reload(module) is module, module.__spec__.loader == spec.loader]
facts["formats"] = sorted({*module.ID} - {"SDC"})
print(json.dumps(facts))
"""

AFTER_QUESTION = """
import importlib, importlib.util, json, pickle, sys
spec, again = importlib.util.find_spec("PIL.Image"), importlib.util.find_spec("PIL.Image")
loader = spec.loader
facts = {
    "spec": [spec.name, spec.origin, spec.cached, spec.has_location, spec.parent, spec.loader_state],
    "loader": [type(loader).__name__, type(loader).__module__, loader.name, loader.path],
    "source": [loader.get_source("PIL.Image"), loader.get_code("PIL.Image").co_filename],
    "equality": [spec == again, hash(loader) == hash(again.loader)],
    "pickle": [pickle.loads(pickle.dumps(spec)) == spec],
    "modules": ["PIL.Image" in sys.modules, "pillow_sdc" in sys.modules],
}
module = sys.modules["PIL.Image"] = importlib.util.module_from_spec(spec)
loader.exec_module(module)
facts["loaded"] = [module.__spec__ is spec, module.__loader__ is loader, vars(loader)]
print(json.dumps(facts))
"""


@pytest.mark.parametrize("script", [AFTER_IMPORT, AFTER_QUESTION], ids=["import", "find_spec"])
def test_import_system_is_as_without_it(installed: Environment, script: str) -> None:
    facts = json.loads(installed.run("-c", script))
    without = json.loads(installed.run("-c", script, PILLOW_SDC_AUTOLOAD="0"))
    assert facts == without


def test_asking_for_the_spec_leaves_it_on(installed: Environment) -> None:
    script = f"import importlib.util; importlib.util.find_spec('PIL.Image'); {VERIFY}"
    assert installed.run("-c", script) == "fine\n"


def test_module_that_is_loaded_aside_registers_nothing(alone: Environment, tmp_path: Path) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "Image.py").touch()
    script = """
import importlib.util, sys
spec = importlib.util.find_spec("PIL.Image")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(*(name for name in sys.modules if name in ("PIL.Image", "pillow_sdc")), len(sys.meta_path))
"""
    assert alone.run("-c", script, PYTHONPATH=str(tmp_path)) == "4\n"


def test_lazy_loader_registers_the_plugin_when_it_loads(installed: Environment) -> None:
    script = """
import importlib.util, sys
spec = importlib.util.find_spec("PIL.Image")
spec.loader = importlib.util.LazyLoader(spec.loader)
module = sys.modules["PIL.Image"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print("pillow_sdc" in sys.modules, "SDC" in module.OPEN, "pillow_sdc" in sys.modules)
"""
    assert installed.run("-c", script) == "False True True\n"


def test_running_the_module_is_as_without_it(installed: Environment) -> None:
    done, without = (installed.start("-m", "PIL.Image", PILLOW_SDC_AUTOLOAD=value) for value in "10")
    assert (done.returncode, done.stdout, done.stderr) == (without.returncode, without.stdout, without.stderr)


THREADS = """
import sys, threading
sys.setswitchinterval(1e-5)
statements = {statements!r}
together = threading.Barrier(len(statements))
done = []
def run(statement):
    together.wait()
    exec(statement, {{}})
    done.append(statement)
threads = [threading.Thread(target=run, args=[statement]) for statement in statements]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(done), len(sys.meta_path))
"""


def test_threads_that_import_pillow_at_once_can_all_open_the_format(installed: Environment) -> None:
    open_it = f"from PIL import Image; Image.open({PICTURE!r}, formats=['SDC']).close()"
    assert installed.run("-c", THREADS.format(statements=8 * [open_it])) == "8 4\n"


def test_threads_that_import_pillow_and_the_package_at_once_do_not_wait_forever(installed: Environment) -> None:
    statements = 4 * ["import PIL.Image", "import pillow_sdc", "import PIL.ImageDraw", "import pillow_sdc.plugin"]
    script = THREADS.format(statements=statements) + IS_REGISTERED
    assert installed.run("-c", script) == "16 4\nTrue\n"


BREAKAGES = {
    "raises at import": "raise ValueError('broken')",
    "lacks its modules": "from . import registration",
    "is not Python": "import",
    "uses more than there is": "def f(): f()\nf()",
}


@pytest.mark.parametrize("source", BREAKAGES.values(), ids=BREAKAGES.keys())
def test_broken_package_is_logged_and_left(installed: Environment, tmp_path: Path, source: str) -> None:
    (tmp_path / "pillow_sdc").mkdir()
    (tmp_path / "pillow_sdc" / "__init__.py").write_text(source, "utf-8")
    script = """
import io, sys
from PIL import Image
print("SDC" in Image.OPEN, len(sys.meta_path))
Image.new("L", (1, 1)).save(io.BytesIO(), "PNG")
"""
    done = installed.start("-c", script, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "False 4\n")
    assert re.fullmatch(r"Pillow cannot use \.sdc files: import pillow_sdc raised .*\n", done.stderr)


def test_failure_goes_to_the_logger_of_the_package(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "pillow_sdc.py").write_text("raise ValueError('broken')", "utf-8")
    configure = "import logging; logging.basicConfig(level=logging.DEBUG, format='%(name)s %(levelname)s')"
    done = installed.start("-c", f"{configure}; import PIL.Image", PYTHONPATH=str(tmp_path))
    first, *details = done.stderr.splitlines()
    assert (done.returncode, first, details[-1]) == (0, "pillow_sdc WARNING", "ValueError: broken")


def test_failure_that_cannot_be_logged_is_left_too(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "pillow_sdc.py").write_text("raise ValueError('broken')", "utf-8")
    (tmp_path / "logging.py").write_text("", "utf-8")
    assert installed.run("-c", IS_REGISTERED, PYTHONPATH=str(tmp_path)) == "False\n"


def test_hook_without_the_package_is_silent_until_pillow_is_imported(alone: Environment) -> None:
    assert alone.run("-c", "print('fine')") == "fine\n"


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="there Python itself reads the start file, and complains")
def test_start_up_file_without_the_hook_is_silent(alone: Environment) -> None:
    (alone.packages / MODULE).unlink()
    assert alone.run("-c", "print('fine')") == "fine\n"


IMPORT_ERROR = """
try:
    import PIL.Image
except Exception as error:
    print(type(error).__name__, error)
"""

SHADOWS = {
    "no PIL": {},
    "a module PIL": {"PIL.py": ""},
    "no PIL.Image": {"PIL/__init__.py": ""},
    "PIL.Image raises": {"PIL/__init__.py": "", "PIL/Image.py": "raise ImportError('the library is missing')"},
}


@pytest.mark.parametrize("files", SHADOWS.values(), ids=SHADOWS.keys())
def test_import_that_fails_fails_as_without_it(alone: Environment, tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = tmp_path / "shadow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    shadow = str(tmp_path / "shadow")
    error = alone.run("-c", IMPORT_ERROR, PYTHONPATH=shadow)
    assert error
    assert error == alone.run("-c", IMPORT_ERROR, PYTHONPATH=shadow, PILLOW_SDC_AUTOLOAD="0")


def test_import_that_failed_may_be_tried_again(installed: Environment) -> None:
    script = f"""
import sys
sys.modules["PIL._imaging"] = None
try:
    import PIL.Image
except ImportError:
    del sys.modules["PIL._imaging"]
{VERIFY}
"""
    assert installed.run("-c", script) == "fine\n"


OTHER_HOOKS = {
    "replaced by the usual finders": ("sys.meta_path = sys.meta_path[1:]", False),
    "replaced by one that asks ours": ("sys.meta_path = [Asking(finder) for finder in sys.meta_path]", False),
    "joined by one that asks all": ("sys.meta_path.insert(0, AskingAll())", True),
    "joined by one that wraps the loader": ("sys.meta_path.insert(0, Wrapping())", True),
    "joined by one that wraps the loader behind ours": ("sys.meta_path.insert(1, Wrapping())", True),
    "joined by one whose loader delegates": ("sys.meta_path.insert(1, Wrapping(Delegate))", True),
    "joined by one that changes the loader": ("sys.meta_path.insert(0, Changing())", True),
    "joined by one without find_spec": ("sys.meta_path.insert(1, Old())", False),
}

OTHER_HOOK = """
import importlib.util, sys
class Asking:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, *arguments): return self.finder.find_spec(*arguments)
class AskingAll:
    asking = False
    def find_spec(self, name, path, target=None):
        if self.asking: return None
        self.asking = True
        try: return importlib.util.find_spec(name)
        finally: self.asking = False
class Old:
    def find_module(self, name, path=None): return None
class Loader:
    def __init__(self, loader): self.loader = loader
    def create_module(self, spec): return None
    def exec_module(self, module): self.loader.exec_module(module)
class Delegate:
    def __init__(self, loader): self.loader, self.name = loader, loader.name
    def __getattr__(self, name): return getattr(self.loader, name)
class Wrapping(AskingAll):
    def __init__(self, kind=Loader): self.kind = kind
    def find_spec(self, name, path, target=None):
        spec = super().find_spec(name, path, target)
        if spec is not None and name == "PIL.Image": spec.loader = self.kind(spec.loader)
        return spec
class Changing(AskingAll):
    def find_spec(self, name, path, target=None):
        spec = super().find_spec(name, path, target)
        if spec is not None and name == "PIL.Image":
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: execute(module)
        return spec
"""


@pytest.mark.parametrize(("hook", "registered"), OTHER_HOOKS.values(), ids=OTHER_HOOKS.keys())
def test_import_hooks_of_others_work_on(installed: Environment, hook: str, registered: bool) -> None:
    assert installed.run("-c", f"{OTHER_HOOK}\n{hook}\n{IS_REGISTERED}") == f"{registered}\n"


def test_loader_of_many_modules_is_left_alone(installed: Environment) -> None:
    script = """
import importlib.util, sys
from importlib.machinery import PathFinder
class Finder:
    def __init__(self): self.loaders = {}
    def find_spec(self, name, path, target=None):
        spec = PathFinder.find_spec(name, path)
        if name.startswith("PIL."): self.loaders[name], spec.loader = spec.loader, self
        return spec
    def create_module(self, spec): return self.loaders[spec.name].create_module(spec)
    def exec_module(self, module): self.loaders[module.__name__].exec_module(module)
sys.meta_path.insert(1, finder := Finder())
importlib.util.find_spec("PIL.Image")
print(*vars(finder))
"""
    assert installed.run("-c", f"{script}\n{IS_REGISTERED}") == "loaders\nFalse\n"


@pytest.mark.parametrize("place", [0, 1])
def test_finder_that_forbids_pillow_is_obeyed(installed: Environment, place: int) -> None:
    script = f"""
import sys
class Forbidding:
    count = 0
    def find_spec(self, name, path, target=None):
        if name == "PIL.Image":
            self.count += 1
            raise ImportError("not here")
sys.meta_path.insert({place}, finder := Forbidding())
{IMPORT_ERROR}
print(finder.count)
"""
    assert installed.run("-c", script) == "ImportError not here\n1\n"
