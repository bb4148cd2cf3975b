"""The number format that networks are trained in: bfloat16 where the device multiplies it, else float32."""

from contextlib import AbstractContextManager

import torch

FAST = bool(torch.cpu.get_capabilities().get("amx_bf16"))
"""Whether bfloat16 is the faster one on this CPU. With AVX-512's instructions for it, a step took half as long again as
in float32; CPUs that only emulate it take ten times as long."""


def mixed_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which convolutions compute in the device's faster format."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or FAST)
