"""The file tree as an architecture: a module imports only from layers below it, and nothing heavy before its time."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from layers import LAYERS, layer_of
from locations import GOLDEN, ROOT

PACKAGE = ROOT / "pillow_sdc"

SIDE_BY_SIDE = {
    ("plugin", "originals"),
    ("plugin", "registration"),
    ("plugin", "saving"),
    ("saving", "colour_profiles"),
    ("saving", "registration"),
    ("__main__", "cli"),
    ("cli", "report"),
}
"""Imports within a layer; ``registration`` imports the plugin by its name, when Pillow first calls it."""

HEAVY = {"diffusers", "faiss", "huggingface_hub", "onnxruntime", "safetensors", "torch", "transformers"}

ALLOWED_PACKAGES = {
    "errors": set(),
    "progress": set(),
    "ranges": set(),
    "runtime": {"numpy", "threadpoolctl", "torch", "faiss"},
    "format": {"numpy", "faiss"},
    "options": set(),
    "models": {"numpy", *HEAVY - {"faiss"}},
    "pipeline": {"numpy"},
    "colour_profiles": {"PIL"},
    "originals": {"PIL"},
    "plugin": {"PIL"},
    "saving": {"PIL", "numpy"},
    "registration": {"PIL"},
    "api": {"PIL", "numpy"},
    "__init__": set(),
}
"""What each may import besides the standard library, lazily or not; the layers above ``__init__`` may import all."""


HEAVY_MODULES = {"datasets"}
"""Modules that import something heavy themselves, for their own classes or types, and are imported inside functions."""


class Import(NamedTuple):
    module: str
    """Absolute name, e.g. ``torch.nn`` or ``pillow_sdc.format.container``."""
    at_import: bool
    """Whether importing the module runs it: not inside a function, nor for type checkers alone."""
    line: int


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imports(path: Path) -> list[Import]:
    return list(imports_within(ast.parse(path.read_text("utf-8")), path, True))


def imports_within(node: ast.AST, path: Path, at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, at_import, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(name, at_import, child.lineno) for name in names_of(child, path))
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports_within(child, path, False)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                yield from imports_within(ast.Module([statement], []), path, False)
            for statement in child.orelse:
                yield from imports_within(ast.Module([statement], []), path, at_import)
        else:
            yield from imports_within(child, path, at_import)


def names_of(node: ast.ImportFrom, path: Path) -> list[str]:
    """Return the modules that ``from … import …`` reaches; a name that is no module stands for its parent."""
    if node.level:
        package = ["pillow_sdc", *path.relative_to(PACKAGE).parts[:-1]]
        package = package[: len(package) - node.level + 1]
        base = ".".join([*package, *filter(None, [node.module])])
    else:
        base = node.module or ""
    if base.split(".")[0] != "pillow_sdc":
        return [base]
    known = {f"pillow_sdc.{name}" for name in modules()}
    return [full if (full := f"{base}.{alias.name}") in known else base for alias in node.names]


def unit_of(module: str) -> str:
    """Return the entry of :data:`LAYERS` that a module name, with or without ``pillow_sdc.``, belongs to."""
    parts = module.split(".")
    if parts[0] == "pillow_sdc":
        parts = parts[1:]
    return parts[0] if parts else "__init__"


every_module = pytest.mark.parametrize("module", modules())


@every_module
def test_module_has_a_layer(module: str) -> None:
    assert any(unit_of(module) in units for units in LAYERS), f"give {module} its place in LAYERS"


@every_module
def test_module_imports_only_from_layers_below(module: str) -> None:
    unit = unit_of(module)
    for imported in imports(modules()[module]):
        if imported.module.split(".")[0] != "pillow_sdc":
            continue
        other = unit_of(imported.module)
        below = layer_of(other) < layer_of(unit)
        allowed = below or other == unit or (unit, other) in SIDE_BY_SIDE
        assert allowed, f"{module}, line {imported.line}, imports {imported.module}"


@every_module
def test_module_imports_only_the_packages_of_its_layer(module: str) -> None:
    allowed = ALLOWED_PACKAGES.get(unit_of(module))
    if allowed is None:
        return
    for imported in imports(modules()[module]):
        package = imported.module.split(".")[0]
        if package != "pillow_sdc" and package not in sys.stdlib_module_names:
            assert package in allowed, f"{module}, line {imported.line}, imports {imported.module}"


def test_the_embedded_model_knows_onnxruntime_alone_and_no_other_module_does() -> None:
    for module, path in modules().items():
        packages = {imported.module.split(".")[0] for imported in imports(path)}
        if module.startswith("models.compact"):
            assert packages & HEAVY <= {"onnxruntime"}, module
        else:
            assert "onnxruntime" not in packages, module
        if module in ("models.arrays", "models.interfaces", "runtime.accelerators"):
            assert not packages & HEAVY, module


@every_module
def test_module_imports_nothing_heavy_when_it_is_imported(module: str) -> None:
    if module in HEAVY_MODULES:
        return
    heavy = HEAVY | {f"pillow_sdc.{name}" for name in HEAVY_MODULES}
    for imported in imports(modules()[module]):
        found = imported.at_import and heavy & {imported.module, imported.module.split(".")[0]}
        assert not found, f"{module}, line {imported.line}, imports {imported.module}"


def test_modules_that_the_package_loads_do_not_import_numpy() -> None:
    loaded, waiting = set(), ["__init__", "api", "plugin"]
    while waiting:
        module = waiting.pop()
        loaded.add(module)
        for imported in imports(modules()[module]):
            if not imported.at_import:
                continue
            assert imported.module.split(".")[0] != "numpy", f"{module}, line {imported.line}"
            if imported.module.startswith("pillow_sdc."):
                name = imported.module.removeprefix("pillow_sdc.")
                waiting.extend({name, name.split(".")[0]} - loaded)
    assert {"errors", "format.container", "options", "registration", "api"} <= loaded


def test_format_and_models_do_not_know_each_other() -> None:
    for module, path in modules().items():
        if unit_of(module) in ("format", "models"):
            others = {unit_of(i.module) for i in imports(path) if i.module.startswith("pillow_sdc")}
            assert len(others & {"format", "models"}) <= 1


def test_the_runtime_knows_nothing_of_the_package_but_its_errors() -> None:
    for module, path in modules().items():
        if unit_of(module) == "runtime":
            others = {unit_of(i.module) for i in imports(path) if i.module.startswith("pillow_sdc")}
            assert others <= {"errors", "runtime"}, module


def loaded_after(statements: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after some statements."""
    code = f"{statements}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PILLOW_SDC_AUTOLOAD": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_neither_numpy_nor_anything_heavy() -> None:
    loaded = loaded_after("import pillow_sdc")
    assert "pillow_sdc" in loaded
    assert not loaded & {"numpy", *HEAVY}


def test_opening_a_file_imports_neither_numpy_nor_anything_heavy() -> None:
    loaded = loaded_after(
        f"import pillow_sdc; from PIL import Image; Image.open({str(GOLDEN / 'palette-l-1x1.sdc')!r})"
    )
    assert not loaded & {"numpy", *HEAVY}


@pytest.mark.parametrize("name", ["palette-rgb-metadata", "uint8-rgb-64x48", "context-rgb-metadata"])
def test_verifying_a_file_imports_nothing_heavy(name: str) -> None:
    path = str(GOLDEN / f"{name}.sdc")
    loaded = loaded_after(f"import pillow_sdc; from PIL import Image; Image.open({path!r}).verify()")
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_reading_latents_and_saving_again_import_no_models() -> None:
    path = str(GOLDEN / "context-rgb-metadata.sdc")
    code = f"""
import io, sys
import pillow_sdc
from PIL import Image
pillow_sdc.read_latents({path!r})
pillow_sdc.read_preview({path!r})
pillow_sdc.encode({path!r})
pillow_sdc.encode(Image.open({path!r}), quality=20)
Image.open({path!r}).verify()
assert not {{name for name in sys.modules if name.startswith("pillow_sdc.models")}}
"""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


DIFFUSERS_AND_ALL = {"torch", "diffusers", "transformers", "huggingface_hub", "safetensors"}
"""What decoding by the embedded model does without."""


@pytest.mark.parametrize("model", ["auto", "compact"])
@pytest.mark.parametrize("name", ["palette-rgb-200x150", "uint8-rgb-64x48", "context-rgb-metadata"])
def test_loading_a_file_imports_no_torch(name: str, model: str, tmp_path: Path) -> None:
    home = f"os.environ.update(HF_HOME={str(tmp_path)!r}, PILLOW_SDC_MODEL={model!r}, CUDA_VISIBLE_DEVICES='')"
    path = str(GOLDEN / f"{name}.sdc")
    loaded = loaded_after(f"import os; {home}; import pillow_sdc; from PIL import Image; Image.open({path!r}).load()")
    assert "onnxruntime" in loaded
    assert not loaded & DIFFUSERS_AND_ALL


def test_saving_and_batches_import_no_torch(tmp_path: Path) -> None:
    loaded = loaded_after(f"""
import os
os.environ.update(HF_HOME={str(tmp_path)!r}, PILLOW_SDC_MODEL="compact", CUDA_VISIBLE_DEVICES="")
import pillow_sdc
from PIL import Image
picture = Image.linear_gradient("L").resize((40, 30)).convert("RGBA")
files = [pillow_sdc.encode(picture, codec=codec) for codec in ("context", "palette", "uint8")]
files += pillow_sdc.encode_batch([picture, picture])
assert len(list(pillow_sdc.decode_batch(files))) == 5
""")
    assert "onnxruntime" in loaded
    assert not loaded & DIFFUSERS_AND_ALL


@pytest.mark.parametrize("content", ["latents", "pixels"])
def test_datasets_import_torch_alone_and_for_pixels_what_decodes(content: str, tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="the extra batch is not installed")
    loaded = loaded_after(f"""
import os
os.environ.update(HF_HOME={str(tmp_path)!r}, PILLOW_SDC_MODEL="compact", CUDA_VISIBLE_DEVICES="")
from pillow_sdc.datasets import SdcFiles
assert SdcFiles([{str(GOLDEN / "palette-rgb-200x150.sdc")!r}], content={content!r})[0][{content!r}].ndim == 3
""")
    assert "torch" in loaded
    assert ("onnxruntime" in loaded) is (content == "pixels")
    assert not loaded & DIFFUSERS_AND_ALL - {"torch"}


def test_every_public_name_is_there_and_listed() -> None:
    import pillow_sdc

    for name in pillow_sdc.__all__:
        assert getattr(pillow_sdc, name) is not None
        assert name in dir(pillow_sdc)
    with pytest.raises(AttributeError, match="no attribute 'encod'"):
        pillow_sdc.encod  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_leaves_the_format_itself_unread() -> None:
    script = """
import sys
import pillow_sdc
assert not {"pillow_sdc.format.container", "PIL.ImageFile"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


TESTS = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_what_tests_share_is_in_a_module_of_its_own(path: Path) -> None:
    """None imports from a module of tests, whose tests would be collected twice, or from ``conftest``."""
    for imported in imports(path):
        names = imported.module.split(".")
        assert not [name for name in names if name == "conftest" or name.startswith("test_")], f"line {imported.line}"
