"""The libraries that models compute with: what is said where one is missing or broken."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from locations import ROOT

from pillow_sdc.errors import ModelUnavailableError
from pillow_sdc.runtime import libraries
from pillow_sdc.runtime.libraries import imported, summary

BROKEN = """
import ctypes
ctypes.CDLL("libnowhere.so.7")
"""

USES = """
import io, json, logging, sys, tempfile
import pillow_sdc
from PIL import Image
from pillow_sdc import models
from pillow_sdc.models import devices

model = sys.argv[1] or tempfile.mkdtemp()
picture = Image.linear_gradient("L").resize((16, 16))
uses = {
    "save": lambda: picture.save(io.BytesIO(), "SDC", model=model),
    "load": lambda: pillow_sdc.decode(sys.argv[2]),
    "encode_latents": lambda: pillow_sdc.encode_latents(picture),
    "encode_batch": lambda: pillow_sdc.encode_batch([picture]),
    "decode_batch": lambda: pillow_sdc.decode_batch([sys.argv[2]]),
}
said = {}
pillow_sdc.configure(model=model)
for name, use in uses.items():
    try:
        use()
    except pillow_sdc.BatchError as error:
        said[name] = [type(error.errors[0]).__name__, str(error.errors[0])]
    except Exception as error:
        said[name] = [type(error).__name__, str(error)]
devices.may_be_there = lambda: True
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
if model != "compact":
    pillow_sdc.configure(model="auto")
    for _ in range(2):
        assert pillow_sdc.decode(sys.argv[2]).info["sdc"]["model"] == "compact"
        models.clear_cache()
print(json.dumps(said))
"""


def used(folder: Path, model: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return what is logged and what is said of each use in a process that finds packages in a folder first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PILLOW_SDC_")}
    environment |= {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    file = ROOT / "tests" / "golden" / "palette-l-1x1.sdc"
    command = [sys.executable, "-c", USES, model, str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *logged, said = done.stdout.splitlines()
    return logged, json.loads(said)


@pytest.mark.parametrize(("library", "model"), [("torch", ""), ("diffusers", ""), ("onnxruntime", "compact")])
def test_a_broken_library_is_one_sentence_wherever_it_is_used(library: str, model: str, tmp_path: Path) -> None:
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text(BROKEN)
    logged, said = used(tmp_path, model)
    assert len(said) == 5
    for kind, message in said.values():
        assert kind == "ModelUnavailableError"
        assert message.startswith(f"{library} is installed, but importing it fails (OSError: libnowhere.so.7: ")
        assert message.endswith(f"; install it again with pip install --force-reinstall {library}")
        assert "\n" not in message
    if library == "torch":  # without which "auto" cannot know of CUDA, and does without; said once
        (warning,) = logged
        assert warning.startswith("WARNING using compact on cpu in int8, because torch is installed, but importing it")
    else:
        assert not any("importing it" in line for line in logged)


def test_the_reason_is_that_of_the_library_that_failed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_first_reasons", {})

    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> object:
            try:
                raise OSError("libnowhere.so.7: cannot open shared object file")
            except OSError as error:
                raise RuntimeError("Failed to import diffusers.models (look up to see its traceback):") from error

    monkeypatch.setitem(sys.modules, "diffusers", Lazy("diffusers"))
    with pytest.raises(ModelUnavailableError, match=r"importing it fails \(OSError: libnowhere\.so\.7: cannot open"):
        imported("diffusers")


def test_the_reason_is_still_the_first_when_it_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fragile.py").write_text(
        "import sys\n"
        "again, sys.fragile_was_tried = hasattr(sys, 'fragile_was_tried'), True\n"
        "raise RuntimeError('it has a docstring already' if again else 'a symbol is undefined\\nand much more')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(libraries._USED, "fragile", ())
    monkeypatch.setattr(sys, "fragile_was_tried", None, raising=False)
    monkeypatch.delattr(sys, "fragile_was_tried")
    for _ in range(2):
        with pytest.raises(ModelUnavailableError, match=r"fails \(RuntimeError: a symbol is undefined\); install"):
            imported("fragile")


def test_a_library_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ModelUnavailableError, match=r"^huggingface-hub is not installed; .* pip install huggingface-hub$"
    ):
        imported("huggingface_hub")


@pytest.mark.parametrize("message", ["", "  ", "\n"])
def test_an_error_without_a_message_is_summed_up_by_its_kind(message: str) -> None:
    assert summary(ValueError(message)) == "ValueError"


def test_the_list_of_all_that_torch_could_have_run_is_cut() -> None:
    import torch

    with pytest.raises(NotImplementedError) as caught:
        torch.empty(0, device="xla")
    assert len(str(caught.value).splitlines()) > 20
    assert summary(caught.value).endswith("with arguments from the 'XLA' backend")
