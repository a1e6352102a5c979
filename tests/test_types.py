"""The public names as a type checker sees them: `types_public` says it, mypy checks it."""

from __future__ import annotations

import ast
from pathlib import Path

import blades


def test_every_public_name_is_checked() -> None:
    """None is forgotten."""
    page = Path(__file__).with_name("types_public.py").read_text(encoding="utf-8")
    used = {node.id for node in ast.walk(ast.parse(page)) if isinstance(node, ast.Name)}
    assert set(blades.__all__) <= used


def test_the_package_says_that_it_has_types() -> None:
    """Without this file a checker ignores them."""
    assert Path(blades.__file__).with_name("py.typed").is_file()
