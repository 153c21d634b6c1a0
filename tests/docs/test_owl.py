"""The specification stays in step with the code: every name in it exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BEHAVIORS = sorted((ROOT / "owl" / "behaviors").glob("*.md"))
_PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    } | {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


@pytest.mark.parametrize("path", BEHAVIORS, ids=lambda path: path.stem)
def test_every_behaviour_names_a_test_that_exists(path: Path) -> None:
    text = path.read_text()
    claims = [line for line in text.splitlines() if line.startswith("- ")]
    assert claims
    for claim in claims:
        proofs = _PROOF.findall(claim)
        assert proofs, f"nothing proves: {claim}"
        for file, name in proofs:
            assert (ROOT / file).is_file(), f"{file} is gone: {claim}"
            assert name in _functions(ROOT / file), f"{file} has no {name}: {claim}"


def test_every_package_has_its_component_file() -> None:
    packages = {path.parent.name for path in (ROOT / "swarm").glob("*/__init__.py")}
    described = {path.stem for path in (ROOT / "owl" / "components").glob("*.md")}
    assert described == packages | {"roles"}


def test_the_project_speaks_of_itself_alone() -> None:
    """Nothing reads or names material that a clone does not hold."""
    own = Path(__file__).resolve()
    for path in ROOT.rglob("*"):
        inside = path.relative_to(ROOT).parts
        if path == own or inside[0].startswith((".git", ".venv", ".cache", "dist", "build")):
            continue
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".cfg"} or path.name == "Makefile":
            assert "../shared" not in path.read_text(errors="replace"), path
