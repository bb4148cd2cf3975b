"""Torch in a forked child, where the workers of its OpenMP pool no longer exist and would be waited for in vain."""

import sys

from ..fork_safety import in_forked_children

_torch_lost_its_threads = False


def prepare_torch() -> None:
    """Make torch safe to compute with in this process; to be called before every computation.

    In a child forked after torch was imported, torch computes with one thread from now on: a parallel region would
    wait for the parent's workers.
    """
    global _torch_lost_its_threads
    if _torch_lost_its_threads:
        import torch

        torch.set_num_threads(1)
        _torch_lost_its_threads = False


def _note_lost_threads() -> None:
    global _torch_lost_its_threads
    _torch_lost_its_threads = "torch" in sys.modules


in_forked_children(_note_lost_threads)
