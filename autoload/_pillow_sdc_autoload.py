"""Has Pillow read and write ``.sdc`` files without anyone importing :mod:`pillow_sdc`.

``pillow_sdc.pth`` and ``pillow_sdc.start``, which are installed beside this module, call :func:`install` when Python
starts. All that this does is to add a finder, which has the import of ``PIL.Image`` end with registering the plugin. It
stays, because a program may reload ``PIL.Image``, or import Pillow again.

Python starts more often than pictures are opened, so this module imports nothing that is not loaded by then: not the
package, which imports Pillow, nor ``typing`` or ``logging``.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_TARGET = "PIL.Image"


def install() -> None:
    """Register the plugin whenever ``PIL.Image`` is imported; calling this again does no harm."""
    if _is_turned_off():
        return
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    if _TARGET in sys.modules:
        _register()


def _is_turned_off() -> bool:
    if sys.flags.ignore_environment:
        return False
    return os.environ.get("PILLOW_SDC_AUTOLOAD", "").strip().lower() in ("0", "false", "no", "off")


class _Finder:
    """Finds ``PIL.Image`` where the finders after it do, and has its loader register the plugin.

    Nothing is imported here: Python holds the lock of all imports while it asks a finder, and other threads that import
    something could wait for this one while it waits for them.
    """

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name != _TARGET:
            return None
        finders = list(sys.meta_path)
        if self not in finders:  # something wraps the finders, and would be asked about itself
            return None
        for finder in finders[finders.index(self) + 1 :]:
            if not hasattr(finder, "find_spec"):  # Python 3.11 still asks such a finder in another way
                return None
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                _Execution.put_before(spec.loader)
                return spec
        return None


class _Execution:
    """Stands in for a loader's ``exec_module`` for one call.

    Being an attribute of the loader, it leaves the module the spec and the loader that it has without it. Who asks for
    nothing but the spec gets a loader that is as good as any other, and equal to it.
    """

    def __init__(self, loader: "Any"):
        self.loader = loader

    @classmethod
    def put_before(cls, loader: object) -> None:
        attributes = getattr(loader, "__dict__", None)
        # Loaders of files are made for one module, and know its name. Others may be shared, or be classes.
        if type(attributes) is dict and attributes.get("name") == _TARGET and hasattr(type(loader), "exec_module"):
            attributes.setdefault("exec_module", cls(loader))

    def __call__(self, module: "ModuleType") -> None:
        if vars(self.loader).get("exec_module") is self:
            del vars(self.loader)["exec_module"]
        type(self.loader).exec_module(self.loader, module)
        # Threads that wait for the module wait for this too, so whoever gets it can open files of the format.
        if sys.modules.get(_TARGET) is module:
            _register()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Execution)

    def __hash__(self) -> int:
        return hash(_Execution)


_FINDER = _Finder()


def _register() -> None:
    try:
        import pillow_sdc

        pillow_sdc.register()  # importing it again would not
    except Exception as error:
        _log(error)


def _log(error: Exception) -> None:
    try:
        import logging

        logger = logging.getLogger("pillow_sdc")
        details = logger.isEnabledFor(logging.DEBUG)
        logger.warning("Pillow cannot use .sdc files: import pillow_sdc raised %r", error, exc_info=details)
    except Exception:  # noqa: S110  (the program may have a module of its own that is called logging)
        pass
