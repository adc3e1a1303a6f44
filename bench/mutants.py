"""Whether the tests mind: `python -m bench.mutants [module ...]` changes the rules one by one and runs their tests.

Each module has the tests that are about it; they run in a copy of the project. A change that no test minds survives,
and is listed with what it changes.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.pages import show

ROOT = Path(__file__).parent.parent
TARGET = 0.9
TESTS = {
    "identity": ["test_identity", "test_claims"],
    "sessions": ["test_sessions", "test_codes"],
    "books": [
        "test_book",
        "test_books",
        "test_proofs_regressions",
        "test_rekey",
        "test_sessions",
        "test_proof_demanded",
    ],
    "signaling": [
        "test_signaling",
        "test_forged_offers",
        "test_rekey",
        "test_outcomes",
        "test_throttle",
        "test_proofs",
        "test_iceservers",
    ],
}
_COPIED = ["app", "tests", "bench", "docs", "README.md", "pyproject.toml", "Makefile"]
_CONFIG = """
[tool.mutmut]
source_paths = ["app/{module}.py"]
also_copy = {copied}
pytest_add_cli_args = ["--timeout=20"]
pytest_add_cli_args_test_selection = {tests}
"""


def run(module: str, folder: Path) -> tuple[int, list[str]]:
    """Try every change of one module; how many there were, and those that survived."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    tests = [f"tests/{name}.py" for name in TESTS[module] if (ROOT / "tests" / f"{name}.py").exists()]
    with (folder / "pyproject.toml").open("a") as config:
        config.write(_CONFIG.format(module=module, copied=_COPIED, tests=tests))
    mutmut = str(Path(sys.executable).parent / "mutmut")
    environment = os.environ | {"HYPOTHESIS_PROFILE": "mutants"}
    subprocess.run([mutmut, "run"], cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False)
    results = _output(folder, mutmut, "results", "--all", "true")
    outcomes = dict(re.findall(r"(app\.\S+): (.+)", results))
    if not outcomes or "not checked" in outcomes.values():
        raise SystemExit(f"mutmut did not get through {module}:\n{results[-2000:]}")
    survivors = [name for name, outcome in outcomes.items() if outcome not in ("killed", "timeout")]
    return len(outcomes), [_change(_output(folder, mutmut, "show", name), name) for name in survivors]


def _output(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def _change(diff: str, name: str) -> str:
    """The lines that were changed, in one."""
    lines = [line.strip() for line in diff.splitlines() if re.match(r"[-+](?![-+])", line)]
    return f"{name.rpartition('.')[2]}\n    " + "\n    ".join(re.sub(r"^([-+])\s+", r"\1 ", line) for line in lines)


def main(modules: list[str]) -> int:
    """Run them all, or those that are named; 1 where too many survive."""
    rows, weak = [("module", "killed", "target")], False
    for module in modules or TESTS:
        with tempfile.TemporaryDirectory() as folder:
            count, survivors = run(module, Path(folder))
        killed = 1 - len(survivors) / count
        weak |= killed < TARGET
        rows.append((f"app/{module}.py, {count} changes", f"{killed:.1%}", f">= {TARGET:.0%}"))
        print(*survivors, sep="\n", end="\n\n")
    show(rows)
    return int(weak)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
