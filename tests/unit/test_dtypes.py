"""Types that JAX has: Python's `float` is float64 to NumPy, which jax 0.12 warns of."""

import ast
from pathlib import Path

import marsrl

FILES = sorted(Path(marsrl.__file__).parent.rglob("*.py"))


def shapes(source):
    """Every call of `ShapeDtypeStruct`."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call for call in calls if ast.unparse(call.func).endswith("ShapeDtypeStruct")]


def wide(call):
    words = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(ast.unparse(word) in ("float", "int", "complex") for word in words)


def test_shapes_are_of_types_that_jax_has():
    found = [(path, call) for path in FILES for call in shapes(path.read_text())]
    assert len(found) > 3
    assert [(path.name, ast.unparse(call)) for path, call in found if wide(call)] == []


def test_a_wide_type_would_be_found():
    (call,) = shapes("jax.ShapeDtypeStruct((1,), float)")
    assert wide(call)
