"""nested-concat: one Concat for several along the same axis."""

from __future__ import annotations

from graphopt.testing import Applied, apply, model
from passes.fuse.nested_concat import NestedConcat


def done(nodes: str, outputs: str = "float[N, M] y", opset: int = 17) -> Applied:
    head = f'<ir_version: 8, opset_import: ["": {opset}]>'
    return apply(NestedConcat(), model(f"{head} g (float[N, 2] x, float[N, 3] z) => ({outputs}) {{ {nodes} }}"))


def test_a_chain() -> None:
    nodes = "a = Concat<axis=1>(x, z) b = Concat<axis=1>(x, a) c = Concat<axis=1>(b, z) y = Concat<axis=1>(c, x)"
    assert done(nodes).body == "y = Concat<axis=1>(x, x, z, z, x)"


def test_both_operands() -> None:
    nodes = "a = Concat<axis=1>(x, z) b = Concat<axis=1>(z, x) y = Concat<axis=1>(a, x, b)"
    assert done(nodes).body == "y = Concat<axis=1>(x, z, x, z, x)"


def test_an_axis_from_behind() -> None:
    assert done("a = Concat<axis=-1>(x, z) y = Concat<axis=1>(a, x)").body == "y = Concat<axis=1>(x, z, x)"


def test_another_axis() -> None:
    assert not done("a = Concat<axis=0>(x, x) y = Concat<axis=1>(a, a)").applied
    assert not done("a = Concat<axis=0>(x, x) b = Concat<axis=0>(z, z) y = Concat<axis=1>(a, b)").applied


def test_a_concat_that_others_need() -> None:
    assert not done("a = Concat<axis=1>(x, z) b = Neg(a) y = Concat<axis=1>(a, b)").applied
    assert not done("a = Concat<axis=1>(x, z) y = Concat<axis=1>(a, x)", "float[N, M] y, float[N, K] a").applied
    assert not done("a = Concat<axis=1>(x, z) y = Concat<axis=1>(a, a)").applied


def test_in_a_body_and_a_function() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "own": 1]>
    g (bool t, float[N, 2] x) => (float[N, 6] y) {
        c = Concat<axis=1>(x, x)
        y = If (t) <then_branch = p () => (float[N, 6] o) { a = Concat<axis=1>(x, x) o = Concat<axis=1>(a, x) },
                    else_branch = q () => (float[N, 6] n) { n = Concat<axis=1>(c, x) }>
    }
    <domain: "own", opset_import: ["": 21]>
    f (x) => (y) { a = Concat<axis=1>(x, x) y = Concat<axis=1>(a, x) }"""
    found = apply(NestedConcat(), model(text))
    assert "    o = Concat<axis=1>(x, x, x)" in found.body.splitlines()
    assert "    n = Concat<axis=1>(c, x)" in found.body.splitlines()  # c is made outside
    assert found.body.splitlines()[-1] == "  y = Concat<axis=1>(x, x, x)"


def test_a_long_chain_is_one_rewrite() -> None:
    links = [f"v{i + 1} = Concat<axis=1>(v{i}, x)" for i in range(400)]
    found = done(f"v0 = Neg(x) {' '.join(links)} y = Relu(v400)")
    assert len(found.applied) == 1 and found.body.count("Concat") == 1
