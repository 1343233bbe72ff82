"""The house rules that a script can see: layering, sizes, exports, stages, the tree in README; bans:
test_banned.py."""

from __future__ import annotations

import ast
import fnmatch
import re
import sys
import tomllib
from pathlib import Path

import pytest

from bessemer.stages import STAGES
from source_tree import MODULES, ROOT, SOURCE, TESTS, hidden, imports, room, shown, tree

# Top to bottom; a room imports itself and what is below. The leaves may import one another, without a circle.
LAYERS = [
    {"cli"},
    {"turns"},
    {"loop"},
    {"stages"},
    {"apps"},
    {"report"},
    {"rollout"},
    {"tasks"},
    {"training"},
    {"models"},
    {"scenes"},
    {"annotation"},
    {"data"},
    {"algos"},
    {
        "config",
        "run",
        "archives",
        "checkpoint",
        "assets",
        "compiling",
        "distributed",
        "disk",
        "fields",
        "interrupts",
        "kernels",
        "manifest",
        "memory",
        "progress",
    },
    {"errors"},
]
LEAVES = LAYERS[-2]
# Import name -> name in pyproject.toml, where they differ.
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "huggingface_hub": "huggingface-hub",
}


def own_imports(path: Path) -> set[str]:
    """The rooms of ours that a file imports."""
    return {
        name.split(".")[1]
        for name, _ in imports(path)
        if name.startswith("bessemer.") and name != "bessemer.__version__"
    }


def layer(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    raise AssertionError(f"{name} is in no layer: give it its place in LAYERS")


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent != SOURCE or path.stem != "__init__"], ids=shown
)
def test_imports_point_downward(path: Path) -> None:
    here = room(path)
    for other in own_imports(path) - {here}:
        leaves = {here, other} <= LEAVES
        assert layer(other) > layer(here) or leaves, f"{shown(path)} ({here}) imports {other}, which is not below it"


def test_the_leaves_have_no_circle() -> None:
    edges = {path.stem: own_imports(path) & LEAVES for path in SOURCE.glob("*.py")}
    done: set[str] = set()
    while ready := {name for name in edges if name not in done and edges[name] - {name} <= done}:
        done |= ready
    assert set(edges) == done, f"a circle among {sorted(set(edges) - done)}"


def test_algos_import_torch_alone() -> None:
    for path in (SOURCE / "algos").glob("*.py"):
        foreign = {name.split(".")[0] for name, _ in imports(path)} - set(sys.stdlib_module_names)
        assert foreign <= {"torch", "bessemer"}, f"{shown(path)} imports {foreign}"


def test_backends_have_one_importer_each() -> None:
    homes = {"accelerate": "distributed.py", "ray": "rollout/workers.py", "vllm": "rollout/vllm.py"}
    for path in MODULES:
        for name, _ in imports(path):
            home = homes.get(name.split(".")[0])
            assert home is None or path == SOURCE / home, f"{shown(path)} imports {name}; only {home} may"


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=!~ \[]", text)[0] for text in project["dependencies"]}
    for path in MODULES:
        for top in {name.split(".")[0] for name, _ in imports(path)} - set(sys.stdlib_module_names) - {"bessemer"}:
            assert DISTRIBUTIONS.get(top, top) in declared, f"{shown(path)} imports {top}, which is not declared"


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=shown)
def test_sizes(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{shown(path)} has {lines} lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{shown(path)}:{node.lineno}: {node.name} has {length} lines"


def test_no_grab_bags() -> None:
    for path in SOURCE.rglob("*"):
        assert path.stem.lower().strip("_") not in {"util", "utils", "helper", "helpers", "common", "misc"}, shown(path)


def exports(path: Path) -> list[str] | None:
    """The literal `__all__` of a module."""
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return None


def defined(path: Path) -> set[str]:
    """The names that a module has at its top level."""
    found: set[str] = set()
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for t in targets for name in ast.walk(t) if isinstance(name, ast.Name)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_every_module_says_what_it_is_and_what_it_exports(path: Path) -> None:
    if not tree(path).body:
        return
    assert ast.get_docstring(tree(path)), f"{shown(path)} has no docstring"
    names = defined(path) - {"annotations", "__version__"}
    exported = exports(path)
    if names:
        assert exported is not None, f"{shown(path)} has no __all__"
        assert set(exported) <= defined(path), f"{shown(path)} has no {set(exported) - defined(path)}"
        assert len(set(exported)) == len(exported), f"{shown(path)} exports a name twice"
        assert "annotations" in defined(path) or path == SOURCE / "__init__.py", f"{shown(path)}: no __future__"


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_only_what_is_exported_is_imported(path: Path) -> None:
    for name, node in imports(path):
        module, _, attribute = name.rpartition(".")
        file = SOURCE.parent.joinpath(*module.split(".")).with_suffix(".py")
        if module.startswith("bessemer.") and file.is_file():
            line = f"{shown(path)}:{node.lineno}"
            assert attribute in (exports(file) or []), f"{line} imports {attribute}, which {module} does not export"


def test_below_stages_nothing_takes_a_configuration() -> None:
    for path in MODULES:
        if room(path) in {"algos", "data", "training", "tasks", "rollout"}:
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.FunctionDef):
                    names = {a.arg for a in [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]}
                    assert not names & {"config", "cfg"}, f"{shown(path)}:{node.lineno}: {node.name} takes a config"


@pytest.mark.parametrize("verb", STAGES)
def test_every_stage_has_a_documented_flat_config_and_run(verb: str) -> None:
    path = SOURCE.parent / Path(*STAGES[verb].module.split(".")).with_suffix(".py")
    nodes = {node.name: node for node in tree(path).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    run, config = nodes["run"], nodes["Config"]
    assert isinstance(run, ast.FunctionDef) and [argument.arg for argument in run.args.args] == ["config"]
    assert isinstance(config, ast.ClassDef) and not config.bases
    fields: list[str] = []
    for node, after in zip(config.body, [*config.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
            fields.append(ast.unparse(node.target))
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            assert documented, f"{verb}.{fields[-1]} has no docstring under it"
            assert node.value is not None, f"{verb}.{fields[-1]} has no default"
    assert len(fields) <= 26, f"{verb} has {len(fields)} fields"
    if STAGES[verb].in_recipe:
        assert {"output_dir", "seed"} <= set(fields)


def test_every_file_that_is_not_code_is_shipped() -> None:
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["bessemer"]
    for path in SOURCE.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc") and not hidden(path):
            name = str(path.relative_to(SOURCE))
            assert any(fnmatch.fnmatch(name, glob) or fnmatch.fnmatch(f"./{name}", glob) for glob in shipped), name


def listed_tree(text: str) -> set[str]:
    """The paths in the fenced block whose first line is `src/bessemer/`.

    One or more names a line, one space apart; a description after two spaces; a name that ends with / is a
    directory whose contents are indented under it (by spaces, or by ├── │ └──).
    """
    blocks = re.findall(r"^```\w*\n(src/bessemer/.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{len(blocks)} fenced blocks begin with src/bessemer/, expected one"
    found: set[str] = set()
    above: list[tuple[int, str]] = []
    for line in blocks[0].splitlines()[1:]:
        bare = re.sub(r"[├└│─]", " ", line)
        indent = len(bare) - len(bare.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        prefix = above[-1][1] if above else ""
        for name in re.split(r"\s{2,}", bare.strip())[0].split():
            found.add(prefix + name)
            if name.endswith("/"):
                above.append((indent, prefix + name))
    return found


def test_the_tree_in_readme_is_the_real_one() -> None:
    """Every directory and every file but `__init__.py`, no more and no less."""
    real = {
        str(path.relative_to(SOURCE)) + ("/" if path.is_dir() else "")
        for path in SOURCE.rglob("*")
        if not hidden(path) and path.name not in ("__init__.py", "py.typed")
    }
    listed = listed_tree((ROOT / "README.md").read_text(encoding="utf-8"))
    assert listed == real, f"missing in README: {sorted(real - listed)}; not there: {sorted(listed - real)}"


def test_the_tree_is_read_as_it_is_written() -> None:
    plain = [
        "src/bessemer/",
        "  cli.py     the command, a.py too",
        "  algos/   maths",
        "    kl.py masked.py  two",
        "  run.py",
    ]
    drawn = [
        "src/bessemer/",
        "├── cli.py  a",
        "├── algos/",
        "│   ├── kl.py  b",
        "│   └── masked.py",
        "└── run.py",
    ]
    for lines in (plain, drawn):
        text = "\n".join(["Tree:", "```text", *lines, "```", "```", "other", "```", ""])
        assert listed_tree(text) == {"cli.py", "algos/", "algos/kl.py", "algos/masked.py", "run.py"}


def test_every_public_function_of_algos_is_named_in_a_test() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for path in (SOURCE / "algos").glob("*.py"):
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert re.search(rf"\b{node.name}\b", text), f"{shown(path)}: no test names {node.name}"
