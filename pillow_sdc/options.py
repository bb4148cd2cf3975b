"""Settings: which model decodes, on which device, with how many denoising steps.

They come, the later over the earlier, from the defaults, from environment variables, from :func:`configure`, and
from the options of a single call such as ``save``.
"""

import itertools
import os
import threading
from contextvars import ContextVar
from numbers import Integral
from types import TracebackType
from typing import Any, NamedTuple, TypedDict, Unpack

from .errors import OptionError
from .fork_safety import ForkSafeLock

DTYPES = ("auto", "float32", "float16", "bfloat16")
MAX_DENOISE_STEPS = 1000

_ENVIRONMENT = {
    "model": "PILLOW_SDC_MODEL",
    "device": "PILLOW_SDC_DEVICE",
    "dtype": "PILLOW_SDC_DTYPE",
    "denoise_steps": "PILLOW_SDC_DENOISE_STEPS",
    "compile": "PILLOW_SDC_COMPILE",
}
_TRUTH_VALUES = {"0": False, "false": False, "1": True, "true": True}


class Settings(NamedTuple):
    """What decides how pictures become latents and latents pictures.

    Attributes:
        model: ``"auto"`` (Stable Diffusion v1.4 where there is CUDA or where it is in the local cache, if it works;
            else ``"compact"``), ``"compact"`` (the embedded model), a directory in diffusers' layout, whose ``~`` is
            expanded, or the id of a repository on the Hugging Face hub.
        device: ``"auto"`` (CUDA where there is one, else the CPU) or the name of a torch device; the embedded model
            computes on CUDA only with onnxruntime-gpu, and else on the CPU.
        dtype: ``"auto"`` (float16 on CUDA, float32 elsewhere), ``"float32"``, ``"float16"`` or ``"bfloat16"``; the
            embedded model always computes in 8 bits.
        denoise_steps: Evaluations of the denoiser for one picture, 0 (no denoising) to 1,000.
        compile: Whether torch compiles the networks, for shapes of batches that recur; the embedded ones need none.
    """

    model: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    denoise_steps: int = 4
    compile: bool = False


class Changes(TypedDict, total=False):
    """Some of the fields of :class:`Settings`."""

    model: str | os.PathLike[str]
    device: str
    dtype: str
    denoise_steps: int
    compile: bool


class configure:  # noqa: N801 - reads as the verb that it is, with or without ``with``
    """Change settings from now on, or, in a ``with`` statement, until its end.

    A plain call holds for the whole process, threads started later and earlier included. Within a ``with`` block the
    changes belong to the block's own thread or task and do not disturb others; a plain call made inside such a block
    ends with it.

    >>> configure(device="cpu")  # doctest: +SKIP
    >>> with configure(denoise_steps=8):  # doctest: +SKIP
    ...     image.load()

    Args:
        **changes: Fields of :class:`Settings`.

    Raises:
        OptionError: A value is outside its range (also a ``ValueError``).
        TypeError: A name is not a setting.
        RuntimeError: A ``with`` statement enters a call that it did not make itself.
    """

    def __init__(self, **changes: Unpack[Changes]) -> None:
        unknown = changes.keys() - set(Settings._fields)
        if unknown:
            raise TypeError(f"unknown setting {min(unknown)!r}; the settings are {', '.join(Settings._fields)}")
        override(Settings(), changes)  # validates, so that a wrong value fails here and not at the next picture
        self._changes = changes
        self._outer = _block_settings.get()
        self._inner = None if self._outer is None else override(self._outer, changes)
        if self._outer is None:
            _process.change(changes)
        else:
            _block_settings.set(self._inner)

    def __enter__(self) -> Settings:
        if _block_settings.get() is not self._inner or (self._outer is None and not _process.withdraw(self._changes)):
            raise RuntimeError("configure(...) can be entered only by the with statement that calls it, and once")
        if self._inner is None:
            self._inner = override(_process.settings(), self._changes)
            _block_settings.set(self._inner)
        return self._inner

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _block_settings.set(self._outer)


def settings() -> Settings:
    """Return the settings that hold here and now."""
    within_block = _block_settings.get()
    return within_block if within_block is not None else _process.settings()


def override(base: Settings, changes: Changes) -> Settings:
    """Return ``base`` with some fields changed.

    Raises:
        OptionError: A value is outside its range.
    """
    fields: dict[str, Any] = {**changes}
    if isinstance(fields.get("model"), os.PathLike):
        fields["model"] = os.fspath(fields["model"])
    changed = base._replace(**fields)
    for name in ("model", "device", "dtype"):
        value = getattr(changed, name)
        if not isinstance(value, str) or not value:
            raise OptionError(f"{name} is {value!r}; it must be a name")
    if changed.dtype not in DTYPES:
        raise OptionError(f"dtype is {changed.dtype!r}; it must be one of {', '.join(DTYPES)}")
    steps: object = changed.denoise_steps
    if isinstance(steps, bool) or not isinstance(steps, Integral) or not 0 <= int(steps) <= MAX_DENOISE_STEPS:
        raise OptionError(f"denoise_steps is {steps!r}; it must be a whole number from 0 to {MAX_DENOISE_STEPS}")
    if not isinstance(changed.compile, bool):
        raise OptionError(f"compile is {changed.compile!r}; it must be True or False")
    return changed._replace(denoise_steps=int(steps))


class _ProcessSettings:
    """What plain calls of :class:`configure` have set for the whole process, the later over the earlier.

    A call cannot know whether a ``with`` statement follows. So its changes stay *pending*, in force but revocable,
    until the same thread calls again; ``__enter__`` withdraws them and makes them the block's own.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._calls = itertools.count()
        self._kept: dict[str, tuple[int, Any]] = {}  # by field: the number of the call, and the value
        self._pending: dict[int, tuple[int, Changes]] = {}  # by thread

    def change(self, changes: Changes) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._kept = self._in_force(thread)
            self._pending[thread] = next(self._calls), changes

    def withdraw(self, changes: Changes) -> bool:
        """Take back this thread's last call; tell whether that is the one that made ``changes``."""
        thread = threading.get_ident()
        with self._lock:
            _, last = self._pending.get(thread, (0, None))
            if last is not changes:
                return False
            del self._pending[thread]
            return True

    def settings(self) -> Settings:
        with self._lock:
            in_force = self._in_force(*self._pending)
        changes: Any = {field: value for field, (_, value) in in_force.items()}
        return override(_from_environment(), changes)

    def _in_force(self, *threads: int) -> dict[str, tuple[int, Any]]:
        """Return what is kept together with what is pending of some threads."""
        in_force = dict(self._kept)
        for number, changes in (self._pending[thread] for thread in threads if thread in self._pending):
            for field, value in changes.items():
                if field not in in_force or in_force[field][0] < number:
                    in_force[field] = number, value
        return in_force


def _from_environment() -> Settings:
    values: dict[str, str | int] = {}
    for field, variable in _ENVIRONMENT.items():
        text = os.environ.get(variable)
        if text and field == "denoise_steps":
            try:
                values[field] = int(text)
            except ValueError:
                raise OptionError(f"{variable} is {text!r}; it must be a whole number") from None
        elif text and field == "compile":
            if text.lower() not in _TRUTH_VALUES:
                raise OptionError(f"{variable} is {text!r}; it must be one of {', '.join(_TRUTH_VALUES)}")
            values[field] = _TRUTH_VALUES[text.lower()]
        elif text:
            values[field] = text
    return override(Settings(), values)  # type: ignore[arg-type]


_block_settings: ContextVar[Settings | None] = ContextVar("pillow_sdc_settings", default=None)
_process = _ProcessSettings()
