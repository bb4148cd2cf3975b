"""A training run: steps, learning rate, averaged weights, log, and checkpoints to resume from."""

import argparse
import copy
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Losses = dict[str, Tensor]
NetworkT = TypeVar("NetworkT", bound=nn.Module)


def parser(description: str | None, steps: int) -> argparse.ArgumentParser:
    """Return the command line parser that all trainings share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("teacher", type=Path, help="diffusers directory of an AutoencoderTiny of SD v1's latent space")
    parser.add_argument("run", type=Path, help="folder for checkpoint and log")
    parser.add_argument("--start", type=Path, metavar="SAFETENSORS", help="exported weights to begin with")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=device)
    parser.add_argument("--times", type=int, default=1, help="as many crops in a step, labelled and kept as by default")
    parser.add_argument("--workers", type=int, default=0, help="processes for each part of what precedes a step")
    parser.add_argument("--evaluate-every", type=int, default=500, metavar="STEPS")
    return parser


class Muon(torch.optim.Optimizer):
    """Gradient descent whose steps are matrices with singular values near one (Jordan et al. 2024).

    As ``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``, but in float32: processors that only emulate
    bfloat16 took half as long for its products as for the network.
    """

    COEFFICIENTS = (3.4445, -4.7750, 2.0315)
    ITERATIONS = 5
    MOMENTUM = 0.95

    def __init__(self, matrices: list[nn.Parameter], weight_decay: float) -> None:
        super().__init__(matrices, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step down the gradients."""
        for group in self.param_groups:
            shaped: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            updates: dict[torch.Size, list[Tensor]] = defaultdict(list)  # of equal shapes together, which is faster
            for matrix in group["params"]:
                momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix.grad))
                momentum.lerp_(matrix.grad, 1 - self.MOMENTUM)
                updates[matrix.shape].append(matrix.grad.lerp(momentum, self.MOMENTUM))
                shaped[matrix.shape].append(matrix)
            for shape, matrices in shaped.items():
                steps = orthogonal(torch.stack(updates[shape]), self.COEFFICIENTS, self.ITERATIONS)
                for matrix, update in zip(matrices, steps, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update, alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], iterations: int) -> Tensor:
    """Return matrices ``(…, m, n)`` with singular values brought near one by Newton and Schulz's iteration."""
    a, b, c = coefficients
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Optimizer:
    """Muon for the kernels between hidden layers, seen as matrices, and AdamW for all else that is to be trained."""

    def __init__(self, network: nn.Module) -> None:
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._kernels = [p for p in parameters if p.ndim == 4 and min(p.shape[:2]) >= 16]
        self._matrices = [nn.Parameter(p.data.permute(0, 2, 3, 1).reshape(len(p), -1)) for p in self._kernels]
        for matrix, kernel in zip(self._matrices, self._kernels, strict=True):
            if matrix.data_ptr() != kernel.data_ptr():
                raise ValueError("kernels must be in channels-last memory, so that their matrices share it")
        kernels = set(map(id, self._kernels))
        adamw = torch.optim.AdamW([p for p in parameters if id(p) not in kernels], betas=(0.9, 0.99))
        self._optimizers: dict[str, torch.optim.Optimizer] = {"adamw": adamw}
        if self._matrices:
            self._optimizers["muon"] = Muon(self._matrices, weight_decay=1e-3)

    def step(self, learning_rate: float) -> None:
        """Take a step down the parameters' gradients, and clear them."""
        for matrix, kernel in zip(self._matrices, self._kernels, strict=True):
            gradient = kernel.grad if kernel.grad is not None else torch.zeros_like(kernel)
            matrix.grad = gradient.permute(0, 2, 3, 1).reshape(matrix.shape).contiguous()
            kernel.grad = None
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])


class Run(Generic[NetworkT]):
    """Trains a network at a learning rate that warms up and then falls along a cosine.

    The network to be used is the exponential moving average of the trained one. The folder holds ``log.jsonl`` and
    ``checkpoint.pt``, from which a run that is started again resumes.
    """

    def __init__(self, network: Callable[[], NetworkT], arguments: argparse.Namespace) -> None:
        """Build the network, or load the folder's checkpoint; ``arguments`` are those of :func:`parser`."""
        torch.set_num_threads(arguments.threads)
        # Momentum of kernels that get no gradient any more decays to numbers that processors are slow with.
        torch.set_flush_denormal(True)
        torch.manual_seed(arguments.seed)
        self.folder: Path = arguments.run
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device: torch.device = arguments.device
        self.network = network().to(self.device, memory_format=torch.channels_last)
        if arguments.start:
            self.network.load_state_dict(load_file(arguments.start))
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.steps: int = arguments.steps
        self.learning_rate: float = arguments.learning_rate
        self.optimizer = Optimizer(self.network)
        self.step = 0
        checkpoint = self.folder / "checkpoint.pt"
        if checkpoint.exists():
            state = torch.load(checkpoint, self.device, weights_only=True)
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.step = state["step"]
        self.seed: tuple[int, int] = arguments.seed, self.step
        torch.manual_seed(np.random.SeedSequence(self.seed).generate_state(1).item())
        self._evaluate_every: int = arguments.evaluate_every

    @property
    def progress(self) -> float:
        """The fraction of the steps done."""
        return self.step / self.steps

    def save(self) -> None:
        """Write the checkpoint atomically."""
        state: dict[str, Any] = {name: part.state_dict() for name, part in self._parts().items()}
        partial = self.folder / "checkpoint.partial"
        torch.save({**state, "step": self.step}, partial)
        partial.replace(self.folder / "checkpoint.pt")

    def train(
        self,
        losses_of: Callable[[], Losses],
        evaluate: Callable[[], dict[str, float]],
        *,
        average_over: int = 1000,
    ) -> None:
        """Take the remaining steps, each down the gradient of the sum of the losses."""
        sums: dict[str, Tensor] = {}
        since, started = 0, time.time()
        while self.step < self.steps:
            losses = losses_of()
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step(self.learning_rate * self._schedule())
            self.step += 1
            since += 1
            decay = 1 - 1 / min(average_over, 1 + self.step / 10)
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
            for name, loss in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(loss)) + loss.detach()  # not yet asked for: that waits
            if self.step % self._evaluate_every == 0 or self.step == self.steps:
                entry = {"step": self.step, "seconds_per_step": round((time.time() - started) / since, 3)}
                entry |= {name: round(total.item() / since, 5) for name, total in sums.items()}
                entry |= {name: round(value, 5) for name, value in evaluate().items()}
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(entry) + "\n")
                self.save()
                sums, since, started = {}, 0, time.time()

    def _schedule(self) -> float:
        warm = min(1.0, (self.step + 1) / 200)
        return warm * (0.02 + 0.98 * (1 + math.cos(math.pi * self.progress)) / 2)

    def _parts(self) -> dict[str, nn.Module | Optimizer]:
        return {"network": self.network, "average": self.average, "optimizer": self.optimizer}
