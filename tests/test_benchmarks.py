"""How benchmarks take time: in one way, which programs in processes of their own can take, too."""

import ast
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from locations import ROOT

BENCHMARKS = ROOT / "benchmarks"
OWN_CLOCK = {"timing.py", "full_size.py"}
"""``full_size.py`` records stages that lie within each other, and their memory."""


@pytest.fixture(scope="module")
def timing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("timing", BENCHMARKS / "timing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.name)
def test_a_benchmark_has_no_timer_of_its_own(path: Path) -> None:
    calls = [
        ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
    ]
    clocks = [call for call in calls if call in ("time.perf_counter", "time.process_time", "time.thread_time")]
    assert (path.name in OWN_CLOCK) or not clocks
    source = path.read_text("utf-8")
    assert path.name == "timing.py" or "VmHWM" not in source


def test_the_median_leaves_out_calls_that_warm_up(timing: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = iter([9.0, 1.0, 3.0, 2.0])
    now = 0.0

    def act() -> None:
        nonlocal now
        now += next(spans)

    monkeypatch.setattr(timing.seconds, "__defaults__", (lambda: now,))
    assert timing.milliseconds(act, 3) == 2000.0


def test_measurements_take_turns_in_both_orders(timing: ModuleType) -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    results = timing.in_turn({"a": lambda: measure("a"), "b": lambda: measure("b")}, 3)
    assert "".join(order) == "abbaab"
    assert results == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read as Linux has it")
def test_a_program_in_a_process_of_its_own_has_the_timer_too(timing: ModuleType) -> None:
    program = f"{inspect.getsource(timing)}\nprint(seconds(lambda: time.sleep(0.01)), peak_memory())"
    finished = timing.run([sys.executable, "-c", program])
    span, peak = map(float, finished.output.split())
    assert 0.01 <= span < finished.seconds
    assert 1 < peak < 1000


def test_a_program_that_fails_ends_the_benchmark(timing: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"code 1:\n(?s:.*)ValueError: no picture"):
        timing.run([sys.executable, "-c", "raise ValueError('no picture')"])


def run_gpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1"}  # compiling takes a minute
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


def test_what_is_to_run_on_cuda_runs_at_small_size(tmp_path: Path) -> None:
    file = tmp_path / "figures" / "gpu.json"
    small = "--tiny", "--device", "cpu", "--side", "256", "--dtypes", "float32"
    done = run_gpu(*small, "--pictures", "2", "--batches", "1", "2", "--json", str(file))
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text("utf-8"))
    works = [(row["work"], row["dtype"], row["compiled"], [*row["batches"]]) for row in found["rows"]]
    latents = "pixels to latents", "latents to pixels, 4 steps"
    files = "pictures to files", "files to pictures, 4 steps"
    plain = [(work, "float32", False, ["1", "2"]) for work in (*latents, *files)]
    assert works == plain + [(work, "float32", True, ["1", "2"]) for work in latents[::-1]]
    assert all(row["plain"] > 0 and row["operations"] > 0 for row in found["rows"])
    assert all(rate > 0 for row in found["rows"] for rate in row["batches"].values())
    assert found["halving"] == {"batch": 2, "sizes": [2, 1], "largest difference": 0}
    assert found["embedded"]["device"] == "cpu"
    assert "files to pictures, 4 steps" in done.stdout


def test_where_there_is_no_cuda_that_is_said_in_a_sentence() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is CUDA")
    done = run_gpu("--tests")
    assert done.returncode == 1
    said = f"torch {torch.__version__} finds no CUDA here; --tiny --device cpu tries the benchmark out\n"
    assert (done.stdout, done.stderr) == ("", said)
