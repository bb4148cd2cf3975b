"""Where the repository is, its golden files, and the models and photographs that tests of quality need."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
SHARED = Path(os.environ.get("PILLOW_SDC_TEST_DATA", ROOT.parent / "shared"))
