"""The simulated runs of the benchmark of these tests are the tests' data too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
