"""How benchmarks take time: in one way, which programs in processes of their own can take, too."""

import ast
import importlib.util
import inspect
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
