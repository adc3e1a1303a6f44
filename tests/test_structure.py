"""The shape of the code: imports point down, one reader of the environment, one keeper of keys, no globals."""

import ast
import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from app.settings import Settings

ROOT = Path(__file__).parent.parent
APP = ROOT / "app"
README = (ROOT / "README.md").read_text()
MODULES = {path.relative_to(APP).as_posix(): path for path in APP.rglob("*.py") if path.name != "__init__.py"}
# The lists below name files as the README's map does; whatever else is in app/ is subject to every rule.
# The settings only have a URL read by the client that will use it, and the doctor tells its errors apart.
SPEAKS_TO_REDIS = {"checkstore.py", "store.py", "bus.py", "context.py", "embedded.py", "settings.py"}


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading of the README."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows[2:]]


LAYERS = [name.strip("`") for name, _ in table("Where things are")]
modules = pytest.mark.parametrize("module", sorted(MODULES))


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports_of(module: str) -> set[str]:
    """The modules of app/ that a module imports, as files."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    files = {f"{name.removeprefix('app.').replace('.', '/')}.py" for name in names if name.startswith("app.")}
    return files & set(MODULES)


def strings_of(module: str) -> list[str]:
    """The literal texts of a module, those inside f-strings included; texts that stand alone document something."""
    nodes = list(ast.walk(tree_of(module)))
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    literals = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in alone]
    return [node.value for node in literals if isinstance(node.value, str)]


def test_the_readmes_map_names_every_module_once() -> None:
    assert sorted(LAYERS) == sorted(MODULES)


def test_the_map_says_of_each_module_what_the_module_says_of_itself() -> None:
    said = {name: (ast.get_docstring(tree_of(name)) or "").splitlines()[0] for name in LAYERS}
    assert {name.strip("`"): text for name, text in table("Where things are")} == said


@modules
def test_imports_point_down(module: str) -> None:
    level = {name: number for number, name in enumerate(LAYERS)}
    above = {each for each in imports_of(module) if level.get(each, -1) <= level.get(module, -1)}
    assert not above, f"{module} imports {above}, which the README's map does not show below it"


@modules
def test_no_import_is_relative(module: str) -> None:
    assert not [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.ImportFrom) and node.level]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"settings.py"}))
def test_only_the_settings_read_the_environment(module: str) -> None:
    names = {node.attr for node in ast.walk(tree_of(module)) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree_of(module)) if isinstance(node, ast.Name)}
    names |= {
        alias.name for node in ast.walk(tree_of(module)) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert not names & {"environ", "environb", "getenv", "getenvb", "putenv"}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"store.py"}))
def test_only_the_store_knows_a_key(module: str) -> None:
    nouns = (
        "user|book|peer|requests?|denied|online|interest|version|activity|invites|browsers|secrets"
        "|books|wait|uid|link|session|code|process|stop|limit|doctor"
    )
    keys = {text for text in strings_of(module) if re.match(rf"({nouns}):(\{{|$)", text)}
    assert keys <= ({"process:"} if module == "bus.py" else set())  # the bus's channels have the names of the leases


@pytest.mark.parametrize("module", sorted(set(MODULES) - SPEAKS_TO_REDIS))
def test_only_the_store_and_the_bus_speak_to_redis(module: str) -> None:
    tree = tree_of(module)
    named = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in named if name.split(".")[0] == "redis"]


@pytest.mark.parametrize("script", sorted(path.name for path in (APP / "scripts").glob("*.lua")))
def test_a_script_makes_its_keys_from_one_uid(script: str) -> None:
    text = re.sub(r"--.*", "", (APP / "scripts" / script).read_text())
    for call in re.findall(r"redis\.call\('(?!TIME)\w+',\s*([^,)]+)", text):
        assert re.match(r"key\(|KEYS\[1\]|source$", call), f"{script}: {call} is made in another way"
    if script == "common.lua":
        assert text.count("':{' .. uid .. '}") == 2
    else:
        assert "'{" not in text
        assert ":{" not in text


@modules
def test_nothing_looks_up_the_app_behind_its_back(module: str) -> None:
    assert not [
        node for node in ast.walk(tree_of(module)) if isinstance(node, ast.Attribute) and node.attr == "get_app"
    ]


@modules
def test_module_globals_are_constants(module: str) -> None:
    """A global is a constant, a logger, a type, a codec without state, or a set of routes."""
    for node in tree_of(module).body:
        assert not isinstance(node, ast.AugAssign | ast.For | ast.While | ast.With)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            value = node.value
            assert not isinstance(value, ast.List | ast.Set | ast.ListComp | ast.SetComp | ast.DictComp), ast.unparse(
                node
            )
            if isinstance(value, ast.Dict):
                assert not _is_changed(tree_of(module), node), ast.unparse(node)
            if isinstance(value, ast.Call):
                made = ast.unparse(value.func)
                assert made not in {"list", "set", "dict", "defaultdict", "deque", "WeakSet", "WeakValueDictionary"}
    assert not [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.Global)]


def _is_changed(tree: ast.Module, assignment: ast.Assign | ast.AnnAssign) -> bool:
    """Whether anything stores into the dict that the assignment names, or calls a method that would."""
    targets = assignment.targets if isinstance(assignment, ast.Assign) else [assignment.target]
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    changing = {"update", "pop", "popitem", "clear", "setdefault", "__setitem__"}
    for node in ast.walk(tree):
        stores = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)
        calls = isinstance(node, ast.Attribute) and node.attr in changing
        if stores or calls:
            assert isinstance(node, ast.Subscript | ast.Attribute)
            if isinstance(node.value, ast.Name) and node.value.id in names:
                return True
    return False


def test_the_readme_shows_the_settings_as_the_code_has_them() -> None:
    fields = dataclasses.fields(Settings)
    assert table("Settings") == [
        [f"`{field.name.upper()}`", field.metadata["shown"], field.metadata["help"]] for field in fields
    ]


@pytest.mark.parametrize("floor", ["sanic>=25.12.1", "jinja2>=3.1.6", "redis[hiredis]>=8.1"])
def test_known_holes_and_traps_stay_below_the_floor(floor: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert floor in project["dependencies"]


def test_every_direct_dependency_is_locked_with_its_hash() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = (ROOT / "requirements.txt").read_text().replace("\\\n", " ").splitlines()
    locked = {line.split("==")[0].split("[")[0].lower(): line for line in lines if "==" in line}
    for each in project["project"]["dependencies"]:
        name = re.match(r"[A-Za-z0-9_-]+", each)
        assert name
        assert "--hash=sha256:" in locked[name[0].lower()]


def test_every_test_that_the_security_page_names_is_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`((?:browser/)?test_\w+\.py)(?:::(test_\w+))?`", page)
    assert len(named) > 40
    for file, test in named:
        text = (ROOT / "tests" / file).read_text()
        assert f"def {test}(" in text if test else "def test_" in text, f"{file}::{test}"
