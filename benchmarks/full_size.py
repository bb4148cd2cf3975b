"""Time and memory of saving and opening a 512×512 picture with a model of Stable Diffusion v1.4's size, by stage.

The weights are random (benchmarks/full_size_pipeline.py makes them, once): time and memory are v1.4's, the pictures
mean nothing. A fresh process imports what the package uses, then saves and opens two pictures through Pillow, with the
default codec and four denoising steps; the second shows what remains once everything is loaded. No disk is measured,
for the weights are read once beforehand, and no kept encoding of the empty prompt is found.

For each stage the table shows wall time, the time of all cores together, which on a busy machine says more, and memory
before the stage, at its peak and after it. Resident memory includes the pages of files mapped into the process, e.g. of
weights, which the system can take back; private memory does not. With --device cuda the table also shows what torch has
allocated on the GPU.

python benchmarks/full_size.py [--dtype float16] [--device cuda] [--one-file] [--loading-only]

With --one-file the same weights are read from one checkpoint in Stable Diffusion's original layout, and not from a
directory in diffusers' layout. With --loading-only the networks are loaded, and no picture goes through them.
"""

import argparse
import functools
import inspect
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]
from full_size_pipeline import DTYPES, SIDE, is_complete, made_up_picture
from PIL import Image
from rich.console import Console
from rich.table import Table

DENOISE_STEPS = 4
SAMPLING_SECONDS = 0.005
OUTPUT_WIDTH = 160  # of output that is not a terminal
MIB = 2**20


class Memory(NamedTuple):
    """Bytes held at one moment, or the most of each.

    Attributes:
        resident: Resident memory of the process.
        private: The part of it that is backed by no file.
        gpu: What torch has allocated on the GPU.
    """

    resident: int
    private: int
    gpu: int

    def or_more(self, other: "Memory") -> "Memory":
        """Return the greater of each."""
        return Memory(*map(max, self, other))


@dataclass
class Stage:
    """A part of the work, possibly done several times, and the parts that it consists of."""

    name: str
    before: Memory
    peak: Memory
    after: Memory
    calls: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    parts: "list[Stage]" = field(default_factory=list)


class Recorder:
    """Measures stages, which may lie within each other; memory at their borders and, by a thread, in between."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._changing = threading.Lock()
        now = self._memory()
        self._whole = Stage("process", now, now, now)
        self._open = [self._whole]
        threading.Thread(target=self._sample, daemon=True).start()

    @property
    def stages(self) -> list[Stage]:
        """The stages that lie within no other, in the order of their beginning."""
        return self._whole.parts

    @property
    def peak(self) -> Memory:
        """The most memory that was seen."""
        return self._whole.peak

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record the block; if a stage of this name was the last within the present one, as one more call of it."""
        with self._changing:
            now = self._pass_border()
            siblings = self._open[-1].parts
            if not siblings or siblings[-1].name != name:
                siblings.append(Stage(name, now, now, now))
            stage = siblings[-1]
            self._open.append(stage)
        start, cpu_start = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            _synchronise()
            stage.seconds += time.perf_counter() - start
            stage.cpu_seconds += time.process_time() - cpu_start
            stage.calls += 1
            with self._changing:
                stage.after = self._pass_border()
                self._open.remove(stage)

    def watch(self, owner: Any, function: str, name: str) -> None:
        """Make every call of a module's or a class's function a stage."""
        original: Callable[..., Any] = getattr(owner, function)

        @functools.wraps(original)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return original(*args, **kwargs)

        bound = isinstance(inspect.getattr_static(owner, function), classmethod | staticmethod)
        setattr(owner, function, staticmethod(recorded) if bound else recorded)

    def _sample(self) -> None:
        while True:
            with self._changing:
                self._note(self._memory())
            time.sleep(SAMPLING_SECONDS)

    def _pass_border(self) -> Memory:
        """Return the memory held now; what the GPU's peak was up to here belongs to the stages open up to here."""
        _synchronise()
        now = self._memory()
        torch = _torch_on_gpu()
        self._note(now._replace(gpu=torch.cuda.max_memory_allocated()) if torch else now)
        if torch:
            torch.cuda.reset_peak_memory_stats()
        return now

    def _note(self, memory: Memory) -> None:
        for stage in self._open:
            stage.peak = stage.peak.or_more(memory)

    def _memory(self) -> Memory:
        info = self._process.memory_info()
        torch = _torch_on_gpu()
        # "shared", the pages of mapped files and of shared memory, is reported by Linux only.
        private = info.rss - getattr(info, "shared", 0)
        return Memory(info.rss, private, torch.cuda.memory_allocated() if torch else 0)


def _torch_on_gpu() -> Any:
    """Return torch if it has been imported and uses a GPU."""
    torch = sys.modules.get("torch")
    return torch if torch and hasattr(torch, "cuda") and torch.cuda.is_initialized() else None


def _synchronise() -> None:
    torch = _torch_on_gpu()
    if torch:
        torch.cuda.synchronize()


def measure(model: Path, device: str, names: Sequence[str]) -> None:
    """Load the networks, save and open pictures of those names in this process, and print the table."""
    recorder = Recorder()
    pictures = {name: Image.fromarray(made_up_picture(seed)) for seed, name in enumerate(names)}
    with recorder.stage("import pillow_sdc"):
        import pillow_sdc
    with recorder.stage("import torch, diffusers, transformers, faiss"):
        _import_libraries()
    from pillow_sdc.models import get_models

    _watch_package(recorder)
    console = Console() if sys.stdout.isatty() else Console(width=OUTPUT_WIDTH)
    results = []
    with pillow_sdc.configure(model=model, device=device, dtype="auto", denoise_steps=DENOISE_STEPS):
        if not pictures:
            models = get_models(pillow_sdc.settings())
            with recorder.stage("loading"):
                _ = models.autoencoder, models.denoiser
        for name, picture in pictures.items():
            file = io.BytesIO()
            with recorder.stage(f"{name} picture: Image.save"):
                picture.save(file, "SDC")
            with recorder.stage(f"{name} picture: Image.open and load"), Image.open(file) as opened:
                opened.load()
            report = opened.info["sdc"]
            if report["denoise_steps"] != DENOISE_STEPS or not np.asarray(opened).any():
                raise ValueError(f"the {name} picture was not denoised or is black: {report}")
            results.append(f"{len(file.getvalue()):,} bytes, noise variance {report['noise_variance']:.4f}")

    console.print(_table(recorder.stages, with_gpu=device.startswith("cuda")))
    if results:
        console.print(f"pictures: {SIDE}×{SIDE}; {'; '.join(results)}", highlight=False)
    console.print(f"peak resident memory: {_peak_resident(recorder)}", highlight=False)
    console.print(f"machine: {_machine(device)}", highlight=False)


def _import_libraries() -> None:
    """Import what the package imports at the first picture; diffusers and transformers import class by class."""
    import faiss  # noqa: F401
    import torch  # noqa: F401
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    import pillow_sdc.pipeline.encoding  # noqa: F401


def _watch_package(recorder: Recorder) -> None:
    from transformers import CLIPTextModel, CLIPTokenizer

    from pillow_sdc.format.codecs import CODECS
    from pillow_sdc.models import kinds
    from pillow_sdc.models.diffusion import diffusers_models, empty_prompt

    recorder.watch(kinds, "load_autoencoder", "VAE load")
    recorder.watch(diffusers_models.DiffusersAutoencoder, "encode", "VAE encode")
    for codec in CODECS:
        recorder.watch(codec, "encode", "latent codec encode")
        recorder.watch(codec, "decode", "latent codec decode")
    recorder.watch(kinds, "encode_empty_prompt", "encode the empty prompt")
    recorder.watch(CLIPTokenizer, "from_pretrained", "tokenizer load")
    recorder.watch(empty_prompt, "fill", "text encoder load")
    recorder.watch(CLIPTextModel, "forward", "text encoder run")
    recorder.watch(kinds, "load_denoiser", "U-Net load")
    recorder.watch(diffusers_models.DiffusersDenoiser, "predict_noise", "U-Net evaluation")
    recorder.watch(diffusers_models.DiffusersAutoencoder, "decode", "VAE decode")


def _table(stages: list[Stage], with_gpu: bool) -> Table:
    kinds = ("resident", "private", *(["gpu"] if with_gpu else []))
    table = Table("stage")
    memory_headings = [heading for kind in kinds for heading in (f"{kind}\nbefore", "MiB\npeak", "\nafter")]
    for heading in ("wall\nseconds", "CPU\nseconds", *memory_headings):
        table.add_column(heading, justify="right")

    def add(stage: Stage, indent: str) -> None:
        calls = f", {stage.calls} times" if stage.calls > 1 else ""
        moments = (stage.before, stage.peak, stage.after)
        memory = [f"{getattr(moment, kind) / MIB:,.0f}" for kind in kinds for moment in moments]
        table.add_row(f"{indent}{stage.name}{calls}", f"{stage.seconds:,.2f}", f"{stage.cpu_seconds:,.2f}", *memory)
        for part in stage.parts:
            add(part, indent + "  ")

    for stage in stages:
        add(stage, "")
    return table


def _peak_resident(recorder: Recorder) -> str:
    sampled = f"{recorder.peak.resident / MIB:,.0f} MiB as sampled"
    if sys.platform == "win32":
        return sampled
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    reported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f"{sampled}, {reported / MIB:,.0f} MiB as the system reports"


def _machine(device: str) -> str:
    import torch

    memory = psutil.virtual_memory().total / 2**30
    parts = [f"{os.cpu_count()} cores", f"{memory:.0f} GiB", f"torch {torch.__version__}"]
    parts.append(f"{torch.get_num_threads()} threads")
    if device.startswith("cuda"):
        parts.append(torch.cuda.get_device_name(device))
    return ", ".join(parts)


def _read_files(model: Path) -> None:
    """Read a file, or all files in a folder, once, so that the system has them in memory."""
    for path in [model, *model.rglob("*")]:
        if path.is_file():
            with path.open("rb") as file:
                while file.read(16 * MIB):
                    pass


def main() -> None:
    """Build the pipeline where it is missing, and measure it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("checkpoints", "full-size-sd-v1"),
        help="holds the pipelines, one folder for each dtype; made if missing, 4 and 2 GB (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default=DTYPES[0],
        help="of the stored weights; a CPU computes in float32, a GPU in float16 (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="name of a torch device (default: %(default)s)")
    parser.add_argument("--one-file", action="store_true", help="from one checkpoint, made if missing, 4 or 2 GB")
    parser.add_argument("--loading-only", action="store_true", help="no pictures")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    directory = arguments.directory / arguments.dtype
    model = directory.with_suffix(".safetensors") if arguments.one_file else directory
    if arguments.in_this_process:
        measure(model, arguments.device, () if arguments.loading_only else ("first", "second"))
        return
    if not is_complete(directory):
        print(f"building {directory}", flush=True)
        # Not in this process: one that it starts later would inherit its peak of memory.
        builder = Path(__file__).with_name("full_size_pipeline.py")
        subprocess.run([sys.executable, builder, directory, "--dtype", arguments.dtype], check=True)
    if not model.exists():
        print(f"building {model}", flush=True)
        builder = Path(__file__).with_name("original_layout.py")
        subprocess.run([sys.executable, builder, directory, model, "--dtype", arguments.dtype], check=True)
    _read_files(model)
    print(f"weights in {arguments.dtype}{' from one file' * arguments.one_file}, on {arguments.device}", flush=True)
    with tempfile.TemporaryDirectory() as cache:  # where the package keeps the encoding of the empty prompt
        environment = {**os.environ, "HF_HOME": cache, "HF_HUB_OFFLINE": "1"}
        subprocess.run([sys.executable, *sys.argv, "--in-this-process"], check=True, env=environment)


if __name__ == "__main__":
    main()
