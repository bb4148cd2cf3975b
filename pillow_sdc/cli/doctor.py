"""``sdc doctor``: what would decode here and why, and whether it does."""

import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ..errors import summary_of
from .arguments import Debug, Device, Dtype, DtypeOption, Model, Vae
from .messages import FAILED

if TYPE_CHECKING:
    from ..models import ModelChoice
    from ..options import Settings

EXAMPLES = """[bold]Examples[/]

[cyan]sdc doctor[/]

[cyan]sdc doctor --model madebyollin/taesd[/]   would it decode with that?

[cyan]PILLOW_SDC_DEVICE=cpu sdc doctor[/]"""

T = TypeVar("T")

_DISTRIBUTIONS = (
    *("pillow-sdc", "pillow", "numpy", "faiss-cpu", "onnxruntime"),
    *("torch", "diffusers", "transformers", "huggingface-hub"),
)
_SIDE = 64
"""Width and height of the picture that is tried, in pixels."""
_QUALITY = 20
"""Quality that it is encoded with: low enough that there is noise for the denoiser."""

_MARKS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "fails": typer.colors.RED}


def doctor(
    model: Model = None, vae: Vae = None, device: Device = None, dtype: DtypeOption = None, debug: Debug = False
) -> None:
    """Tell what would decode a picture here and why, and try it.

    Nothing is downloaded: a model that is not on this machine is not tried. The exit code is 1 if decoding would fail.
    """
    checks = _Checks(debug)
    options = {"model": model, "vae": vae, "device": device, "dtype": dtype and Dtype(dtype).value}
    given: Any = {name: value for name, value in options.items() if value is not None}
    checks.versions()
    checks.registration()
    import pillow_sdc

    with checks.of("settings"), pillow_sdc.configure(**given):
        settings = checks.settings(given.keys())
        checks.embedded_weights()
        checks.kernel()
        with checks.of("decodes"), _without_warnings():
            checks.accelerator()
            checks.model_folders()
            checks.decoding(settings)
    if checks.failed:
        typer.echo(f"\n{typer.style('Decoding would fail here.', fg=typer.colors.RED)}")
        raise typer.Exit(FAILED)


class _Checks:
    """Each method looks at one thing and prints a line of it."""

    def __init__(self, debug: bool) -> None:
        self.failed = False
        self._debug = debug

    def say(self, mark: str, name: str, text: str) -> None:
        self.failed |= mark == "fails"
        typer.echo(f"{typer.style(f'{mark:<6}', fg=_MARKS[mark])}{name:<14}{text}")

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Say of an error that this fails."""
        try:
            yield
        except typer.Exit:
            raise
        except Exception as error:
            self.say("fails", name, summary_of(error))
            if self._debug:
                traceback.print_exc()

    def versions(self) -> None:
        from importlib.metadata import PackageNotFoundError, version

        found, missing = [f"Python {platform.python_version()}"], []
        for name in _DISTRIBUTIONS:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                missing.append(name)
        self.say("ok", "versions", ", ".join(found))
        if missing:
            self.say("note", "versions", f"not installed, or not under this name: {', '.join(missing)}")

    def registration(self) -> None:
        """Ask a fresh interpreter, in a folder without the package, whether Pillow knows the format by itself."""
        program = "from PIL import Image; print('SDC' in Image.OPEN)"
        command = [sys.executable, "-P", "-c", program]
        with tempfile.TemporaryDirectory() as elsewhere:
            done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)  # noqa: S603 - ourselves
        if done.stdout.strip() == "True":
            self.say("ok", "registration", "Pillow knows .sdc without an import of pillow_sdc")
        elif "PILLOW_SDC_AUTOLOAD" in os.environ:
            state = f"PILLOW_SDC_AUTOLOAD is {os.environ['PILLOW_SDC_AUTOLOAD']!r}"
            self.say("note", "registration", f"Pillow knows .sdc only after import pillow_sdc: {state}")
        else:
            self.say(
                "note", "registration", "Pillow knows .sdc only after import pillow_sdc: no start-up file is installed"
            )

    def settings(self, given: Collection[str]) -> "Settings":
        import pillow_sdc

        settings = pillow_sdc.settings()
        for name, value in settings._asdict().items():
            variable = f"PILLOW_SDC_{name.upper()}"
            origin = "option" if name in given else variable if os.environ.get(variable) else "default"
            self.say("ok", name.replace("_", " "), f"{'not set' if value is None else value} ({origin})")
        return settings

    def embedded_weights(self) -> None:
        from ..format.context import weights as context_weights
        from ..models import compact

        with self.of("weights"):
            compact.check()
            for number in context_weights.CHECKSUMS:
                context_weights.network_arrays(number)
            self.say("ok", "weights", "those that come with the package are the released ones")

    def kernel(self) -> None:
        """Tell whether the compiled kernel runs."""
        from ..format.context import kernel as context_kernel

        kernel, reason = context_kernel.selection()
        self.say("ok" if kernel else "note", "context codec", reason)

    def accelerator(self) -> None:
        """Tell what torch could compute on besides the CPU."""
        from ..errors import ModelUnavailableError
        from ..runtime import accelerators
        from ..runtime.libraries import imported

        if not accelerators.may_be_there():
            self.say("ok", "accelerator", "none: there is no driver, or no torch that was built for one")
            return
        try:
            torch = imported("torch")
        except ModelUnavailableError as error:
            self.say("note", "accelerator", f"only torch knows, and {error}")
            return
        if not torch.accelerator.is_available():
            self.say("ok", "accelerator", "none: torch finds no device that it was built for")
            return
        kind = torch.accelerator.current_accelerator().type
        describe = getattr(torch.get_device_module(kind), "get_device_name", lambda: "")
        self.say("ok", "accelerator", f"{kind} {describe()}".rstrip())

    def model_folders(self) -> None:
        """Tell how many models are in the folders of the environment variable for them."""
        from . import local_models

        if not os.environ.get(local_models.MODEL_PATH):
            return
        folders = local_models.models_in_folders()
        count = len(folders.checkpoints) + len(folders.pipelines)
        plural = "" if count == 1 else "s"
        self.say("ok", "model folders", f"{count} model{plural} that would do; sdc models list shows them")
        for path, reason in (*folders.unreadable.items(), *folders.damaged.items()):
            self.say("note", "model folders", reason if path.is_file() else f"{path}: {reason}")

    def decoding(self, settings: "Settings") -> None:
        """Encode and decode a small picture, with the model of the settings if it is here, and say what decodes."""
        from ..models import compact, get_models

        models = get_models(settings)
        choice = models.choice
        if not self._libraries(choice):
            return
        lack = _lack_of(choice.model) or (choice.vae and _lack_of(choice.vae))
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        if lack and offline and choice.substitute is None:
            self.say("fails", "decodes", f"nothing: {lack}, and HF_HUB_OFFLINE forbids asking the hub")
            return
        self._round_trip(compact.NAME if lack and not offline else settings.model)
        final = models.choice  # "auto" may have turned out to stand for another
        name = f"{final.model} with the autoencoder of {final.vae}" if final.vae else final.model
        what = f"{name} on {final.device} in {final.dtype}"
        if lack and not offline:
            how = f"decoding would download it, as sdc models fetch {choice.model} does beforehand"
            self.say("note", "decodes", f"{what}, once it is here: {lack}, and {how}")
        elif final is not choice:
            self.say("note", "auto", f"{choice.model} does not work here: {final.reason}")
            self.say("note", "decodes", what)
        else:
            because = f": {choice.reason}" if choice.reason else ", as the settings say"
            self.say("note" if choice.is_fault else "ok", "decodes", f"{what}{because}")

    def _libraries(self, choice: "ModelChoice") -> bool:
        """Import what a model needs; tell whether there is something to decode with."""
        from ..errors import ModelUnavailableError
        from ..models.kinds import kind_of

        kind = kind_of(choice.model)
        try:
            kind.check_libraries()
        except ModelUnavailableError as error:
            has_substitute = choice.substitute is not None
            self.say("note" if has_substitute else "fails", "libraries", str(error))
            return has_substitute
        self.say("ok", "libraries", f"can be imported: {', '.join(kind.libraries)}")
        return True

    def _round_trip(self, model: str) -> None:
        """Encode and decode a small picture."""
        import io

        from PIL import Image

        import pillow_sdc

        gradient = Image.linear_gradient("L").resize((_SIDE, _SIDE))
        data, encoding = _timed(lambda: pillow_sdc.encode(gradient, model=model, quality=_QUALITY))
        with pillow_sdc.configure(model=model):
            picture, decoding = _timed(lambda: pillow_sdc.decode(io.BytesIO(data)))
        report = picture.info["sdc"]
        denoiser = f", {report['denoise_steps']} steps of {report['denoiser']}" if report["denoiser"] else ""
        self.say(
            "ok",
            "round trip",
            f"{_SIDE}×{_SIDE} with {report['model']}: encoded in {encoding:.2f} s, decoded in {decoding:.2f} s"
            f"{denoiser}, loading included",
        )


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep warnings of the logger off the screen, where the checks say the same."""
    logger, handler = logging.getLogger("pillow_sdc"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _lack_of(model: str) -> str | None:
    """Return what of a model is not on this machine, in words; ``None`` if nothing, or if it is damaged."""
    from ..models import compact
    from ..models.kinds import path_of
    from . import local_models

    if model == compact.NAME or path_of(model) is not None:
        return None  # nothing would be downloaded; what is wrong will say so itself
    found = local_models.find_model(model)
    if found is None:
        return f"{model} is not here"
    if found.damage or not found.missing:
        return None  # what is damaged will say so itself
    return f"of {model} {' and '.join(found.missing)} {'are' if len(found.missing) > 1 else 'is'} not here"


def _timed(act: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = act()
    return result, time.perf_counter() - start
