"""Benchmarks: each is a program that prints a small table and judges nothing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples/python"))  # the Python client, as pytest has it too
