"""Torch in a forked child, where the workers of its thread pools no longer exist and would be waited for in vain."""

import sys

from .fork_safety import in_forked_children

_torch_is_inherited = False
_threads_are_lost = False


def prepare_torch() -> None:
    """Make torch safe to compute with in this process; to be called before every computation.

    In a child forked after torch was imported, torch computes with one thread from now on: a parallel region would
    wait for the parent's workers.
    """
    global _threads_are_lost
    if _threads_are_lost:
        import torch

        torch.set_num_threads(1)
        _threads_are_lost = False


def compiler_is_lost() -> bool:
    """Tell whether ``torch.compile`` would wait for the parent's workers: in a child forked after torch was imported.

    What the parent has compiled is of no use either, for its number of threads is compiled into it.
    """
    return _torch_is_inherited


def _note_lost_threads() -> None:
    global _torch_is_inherited, _threads_are_lost
    _torch_is_inherited = _threads_are_lost = "torch" in sys.modules


in_forked_children(_note_lost_threads)
