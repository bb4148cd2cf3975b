"""The number format that networks are trained in: bfloat16 where the device multiplies it, else float32."""

from contextlib import AbstractContextManager

import torch

FAST = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
"""Whether it is the processor's faster one; processors that only emulate it take ten times as long."""


def mixed_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which convolutions compute in the device's faster format."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or FAST)
