"""The number format that networks are trained in: bfloat16 where the processor multiplies it, else float32."""

from contextlib import AbstractContextManager

import torch

FAST = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
"""Whether bfloat16 is the faster one; processors that only emulate it take ten times as long."""


def mixed_precision() -> AbstractContextManager[None]:
    """Return a context in which convolutions compute in the faster format."""
    return torch.autocast("cpu", torch.bfloat16, enabled=FAST)
