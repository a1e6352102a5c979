"""The layout is the architecture: which module may import which, and who assigns whose attributes."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import blades

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(blades.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in PACKAGE.rglob("*.py")
}
BOTTOM = ["_preview", "_message", "_values", "_errors"]  # each may import those before it
# What a layer may import, besides itself and, where "BOTTOM" stands, all of these.
MAY_IMPORT: dict[str, set[str]] = {
    "_platform": set(),
    "_clock": {"_platform"},
    "_wire": {"BOTTOM", "_platform"},
    "_prompts": {"BOTTOM"},
    "_transport": {"BOTTOM", "_platform", "_clock", "_wire.chunked", "_wire.inflate"},
    "_output": {"BOTTOM", "_platform"},
    "_credentials": {"BOTTOM"},
    "_explain": {"BOTTOM", "_credentials"},
    "_option_types": {"BOTTOM", "_tools"},
    "_options": {"BOTTOM", "_option_types"},
    "_structured": {"BOTTOM"},
    "_tools": {"BOTTOM", "_structured"},
    "_rounds": {"BOTTOM", "_clock", "_tools", "_transport.threads"},
    "_call": {"BOTTOM", "_clock", "_options", "_wire", "_transport"},
    "_steps": {"BOTTOM", "_tools", "_rounds", "_call"},
    "_loop": {"BOTTOM", "_clock", "_options", "_transport", "_tools", "_rounds", "_call", "_steps"},
    "_opening": {"BOTTOM", "_credentials", "_explain", "_prompts", "_transport"},
    "_stream": {"BOTTOM", "_call", "_loop", "_output", "_structured"},
    "_chat": {"BOTTOM", "_call", "_loop", "_stream", "_options", "_option_types", "_prompts"},
    "testing": set(),
}  # fmt: skip
MAY_IMPORT["_agent"] = {"BOTTOM", *MAY_IMPORT.keys() - {"testing"}}
MAY_IMPORT[""] = {"BOTTOM", *MAY_IMPORT.keys() - {"testing"}}  # blades/__init__.py
CLIENT = "_transport.client"


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, in functions and for types as well, without the package's name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            assert node.module is not None
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole.removeprefix("blades.") in MODULES else node.module


def ours(path: Path) -> set[str]:
    """Return the modules of the package that a file imports."""
    found = {name for name in imports(path) if name.partition(".")[0] == "blades"}
    return {name.removeprefix("blades").removeprefix(".") for name in found}


def layer_of(module: str) -> str:
    return module.partition(".")[0]


def is_allowed(module: str, imported: str) -> bool:
    """Return whether the rule allows an import."""
    layer, other = layer_of(module), layer_of(imported)
    if layer == other:
        return True
    if layer in BOTTOM:
        return other in BOTTOM[: BOTTOM.index(layer)]
    allowed = MAY_IMPORT[layer]
    return imported in allowed or other in allowed or ("BOTTOM" in allowed and other in BOTTOM)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    """A module imports what its layer may import, and nothing else."""
    assert [name for name in sorted(ours(MODULES[module])) if name and not is_allowed(module, name)] == []


def test_every_layer_has_a_rule() -> None:
    """A new module or folder must say what it may import."""
    assert {layer_of(module) for module in MODULES} <= {*MAY_IMPORT, *BOTTOM}


def test_no_circles() -> None:
    """Nothing imports itself, over however many modules; type-only imports count."""
    graph = {module: ours(path) - {module, ""} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in done:
            for name in sorted(graph[module]):
                visit(name, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_one_module_imports_the_official_client() -> None:
    """All others reach it through that module's names."""
    importing = {
        module
        for module, path in MODULES.items()
        if "openai" in {name.partition(".")[0] for name in runtime_imports(path)}
    }
    assert importing == {CLIENT}


def runtime_imports(path: Path) -> Iterator[str]:
    """Yield what a file imports when it runs: a type of the official client's in a signature is no import of it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("module", sorted(module for module in MODULES if layer_of(module) != "testing"))
def test_attributes_have_one_writer(module: str) -> None:
    """An object's attributes are assigned by its own methods: through ``self``, or in an object of another library."""
    written: list[str] = []
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        for target in targets:
            parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
            written += [ast.unparse(part) for part in parts if isinstance(part, ast.Attribute)]
    foreign = {name for name in written if not name.startswith("self.")}
    assert foreign <= FOREIGN.get(module, set())


# Attributes of objects that are not this package's, and of a class, set by its own method.
FOREIGN = {
    "_transport.client": {"weakref.finalize(self, close_quietly, client).atexit"},
    "_transport.connection": {"stream.read", "stream.write", "stream.close"},
    "_errors": {"copied.__cause__"},
    "_values": {"cls._make_bundle"},
    "_tools": {"holder.__annotations__", "kind.__pydantic_config__"},
    "_output.notebook": {"result.error_in_exec"},
    "_output.markdown_html": {"state.push('plain_tag', '', 0).content", "state.pos", "block.children", "block.content"},
    "_output.formulas": {
        "token.content", "token.info", "token.block", "token.map", "state.pos", "state.line",
    },
}  # fmt: skip


SYSTEM_NAMES = {"sys.platform", "sys.getwindowsversion", "os.name", "os.uname", "os.register_at_fork", "platform"}
SYSTEM_MODULES = {"os", "select", "selectors", "signal", "socket", "sys", "time"}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"_platform", "testing._platform"}))
def test_one_module_distinguishes_systems(module: str) -> None:
    """All others ask `_platform` for a fact: none asks for the system, or for what a system's module has."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    asked = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Attribute, ast.alias))}
    asked = {name for name in asked if name in SYSTEM_NAMES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"hasattr", "getattr"}:
            asked |= {ast.unparse(node)} if ast.unparse(node.args[0]) in SYSTEM_MODULES else set()
    assert asked == set()


def test_package_is_small_enough_to_read() -> None:
    """A module of more than 300 lines is split, or stands here with its reason."""
    long = {module for module, path in MODULES.items() if path.read_text(encoding="utf-8").count("\n") > MOST_LINES}
    assert long <= DEFENDED.keys()


MOST_LINES = 300
DEFENDED = {
    "_transport.cancel": "one class, whose invariants must be read together",
    "_transport.connection": "one class: which request a connection serves, and what is withheld of its answer",
    "_agent": "signatures and docstrings of the public class",
    "_stream": "docstrings of the public class",
    "_values": "values and their docstrings",
    "_tools": "what a signature says, and running what has it",
}


def test_bottom_is_in_order() -> None:
    """The list above is one without gaps."""
    assert all((PACKAGE / f"{name}.py").exists() for pair in pairwise(BOTTOM) for name in pair)
