"""Asking for values of constants: what is computed, what is refused, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphopt.analysis.evaluated import Evaluated, evaluate_here
from graphopt.ir import Graph, Tensor, decode
from graphopt.ir.store import Store
from graphopt.limits import Limits
from graphopt.runtime.client import Worker
from graphopt.session.services import WorkerServices
from graphopt.storage.read import from_proto
from graphopt.testing import model

SQUARE = np.arange(16, dtype=np.float32).reshape(4, 4)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(seconds=60) as one:
        yield one


def graph_of(text: str, **weights: Any) -> Graph:
    source = from_proto(model(text, **weights))
    return decode(source.proto, source.store)


def named(graph: Graph, *names: str) -> list[Tensor]:
    found = {out.name: out for scope in graph.scopes() for node in scope.nodes for out in node.outputs}
    found.update({one.name: one for one in graph.initializers})
    return [found[name] for name in names]


def asked(worker: Worker, graph: Graph, *names: str, **limits: int) -> tuple[dict[str, Any], dict[str, str]]:
    answer = WorkerServices(worker, Limits(**{f"fold_{name}": value for name, value in limits.items()})).evaluate(
        graph, named(graph, *names)
    )
    assert isinstance(answer, Evaluated)
    return {one.name: answer[one] for one in answer}, {one.name: why for one, why in answer.refused.items()}


def test_values_of_all_scopes_together(worker: Worker) -> None:
    graph = graph_of(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[4, 4] x) => (float[4, 4] y) {
            a = Exp(w)  b = local.twice(a)
            y = If(c)<
                then_branch = t () => (float[4, 4] o) { p = Tanh(b)  o = MatMul(x, p) },
                else_branch = e () => (float[4, 4] q) { q = Neg(x) }
            >
        }
        <domain: "local", opset_import: ["": 20]> twice (m) => (n) {
            k = Constant<value_float = 2.5>()  s = Sqrt(k)  n = Mul(m, s)
        }
        """,
        w=SQUARE / 9,
    )
    graph.functions[0].opset = 21
    arrays, refused = asked(worker, graph, "a", "p", "s", "y", "w")
    assert sorted(arrays) == ["a", "p", "s", "w"]
    np.testing.assert_allclose(arrays["p"], np.tanh(np.exp(SQUARE / 9) * np.sqrt(np.float32(2.5))), rtol=1e-6)
    np.testing.assert_array_equal(arrays["s"], np.sqrt(np.float32(2.5)))
    assert not arrays["p"].flags.writeable
    assert list(refused) == ["y"]


def test_a_function_of_its_own_opset_is_computed_by_it(worker: Worker) -> None:
    """Softmax flattens before opset 13: inside of the function it has to be the old one."""
    text = """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[1] x) => (float[1] y) { a = Softmax<axis = 0>(w)  y = Add(x, z) }
        <domain: "local", opset_import: ["": 12]> f (m) => (n) {
            k = Constant<value = float[2, 2] {1.0, 2.0, 3.0, 4.0}>()  s = Softmax<axis = 0>(k)  n = Mul(m, s)
        }
        """
    arrays, _ = asked(worker, graph_of(text, w=SQUARE[:2, :2], z=np.ones(1, np.float32)), "a", "s")
    assert abs(float(arrays["s"].sum()) - 1) < 1e-6
    assert abs(float(arrays["a"].sum()) - 2) < 1e-6


def test_any_element_type(worker: Worker) -> None:
    text = """g (float[1] x) => (float[1] y) {
        a = Transpose(q)  b = Cast<to = 16>(w)  c = Gather(s, k)  d = Not(m)  y = Identity(x)
    }"""
    weights = {"q": SQUARE.astype(ml_dtypes.int4), "w": SQUARE, "s": np.array(["a", "b"], object)}
    arrays, refused = asked(worker, graph_of(text, **weights, k=np.array([1]), m=SQUARE > 300), "a", "b", "c", "d")
    assert not refused
    assert arrays["b"].dtype == ml_dtypes.bfloat16
    assert arrays["a"].dtype == ml_dtypes.int4
    np.testing.assert_array_equal(arrays["a"].astype(int), SQUARE.astype(ml_dtypes.int4).astype(int).T)
    assert arrays["c"].tolist() == ["b"]


def test_one_failure_does_not_lose_the_others(worker: Worker) -> None:
    nodes = " ".join(f"v{i} = Gather(w, k{i})  u{i} = Exp(v{i})" for i in range(9))
    places = {f"k{i}": np.array([i]) for i in range(9)}
    graph = graph_of(f"g (float[1] x) => (float[1] y) {{ {nodes} y = Identity(x) }}", w=SQUARE, **places)
    arrays, refused = asked(worker, graph, *[f"u{i}" for i in range(9)])
    assert sorted(arrays) == ["u0", "u1", "u2", "u3"]
    assert sorted(refused) == ["u4", "u5", "u6", "u7", "u8"]
    assert all(why.startswith("onnxruntime cannot compute it: ") for why in refused.values())
    arrays, refused = asked(worker, graph, *[f"u{i}" for i in range(9)], attempts=1)
    assert not arrays
    assert "1 attempts were made" in refused["u0"]


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"elements": 100}, "Expand gives 256 elements, more than the 100 that are computed ahead"),
        ({"bytes": 1000}, "Expand gives 1024 bytes, more than the 1000 that are computed ahead"),
        ({"together_bytes": 1000}, "bytes, more than the 1000 allowed"),
    ],
)
def test_limits_hold_for_what_is_on_the_way(worker: Worker, limits: dict[str, int], why: str) -> None:
    text = (
        "g (float[1] x) => (float[1] y) { a = Exp(w)  b = Expand(w, s)  c = ReduceSum(b)  d = Exp(c)  y = Identity(x) }"
    )
    graph = graph_of(text, w=np.float32(1), s=np.array([16, 16]))
    arrays, refused = asked(worker, graph, "a", "d", **limits)
    assert list(arrays) == ["a"]
    assert why in refused["d"]
    assert not asked(worker, graph, "d")[1]


def test_sizes_beyond_any_machine_word(worker: Worker) -> None:
    text = "g (float[1] x) => (float[1] y) { b = Expand(w, s)  c = ReduceSum(b)  y = Identity(x) }"
    _, refused = asked(worker, graph_of(text, w=np.float32(1), s=np.full(8, 1 << 40)), "c")
    assert f"gives {1 << 320} elements" in refused["c"]


def test_strings_that_double(worker: Worker) -> None:
    nodes = " ".join(f"v{i + 1} = StringConcat(v{i}, v{i})" for i in range(60))
    graph = graph_of(
        f"g (float[1] x) => (float[1] y) {{ v0 = Identity(s) {nodes} y = Identity(x) }}", s=np.array(["ab"], object)
    )
    arrays, refused = asked(worker, graph, "v3", "v60")
    assert list(arrays) == ["v3"]
    assert "bytes, more than the" in refused["v60"]


def test_unknown_sizes_are_refused(worker: Worker) -> None:
    text = (
        "g (float[1] x) => (float[1] y) { b = NonZero(w)  c = ReduceSum(b)  s = SequenceConstruct(w)  y = Identity(x) }"
    )
    _, refused = asked(worker, graph_of(text, w=SQUARE), "b", "c", "s")
    assert refused["b"] == refused["c"] == "how much NonZero gives cannot be told before it is computed"
    assert refused["s"] == "how much SequenceConstruct gives cannot be told before it is computed"


def test_large_requests_are_run_in_parts(worker: Worker) -> None:
    nodes = " ".join(f"v{i} = Exp(w{i})" for i in range(6))
    weights = {f"w{i}": SQUARE + i for i in range(6)}
    graph = graph_of(f"g (float[1] x) => (float[1] y) {{ {nodes} y = Identity(x) }}", **weights)
    arrays, refused = asked(worker, graph, *[f"v{i}" for i in range(6)], together_bytes=300, attempts=3)
    assert (len(arrays), refused) == (6, {})
    np.testing.assert_allclose(arrays["v5"], np.exp(SQUARE + 5), rtol=1e-6)


def test_what_is_refused_without_a_look(worker: Worker) -> None:
    text = """g (float[4, 4] x, float[4, 4] d) => (float[4, 4] y) {
        a = RandomNormalLike(w)  b = Exp(d)  e = Exp(x)  n = Constant<value_int = 3>()
        l = Loop(n, , w)<body = b (int64 i, bool go, float[4, 4] s) => (bool on, float[4, 4] t) {
            on = Identity(go)  t = Exp(s)
        }>
        m = Neg(l)  y = Identity(x)
    }"""
    graph = graph_of(text, w=SQUARE, d=SQUARE)
    _, refused = asked(worker, graph, "a", "b", "e", "m", "t")
    assert "draws random numbers" in refused["a"]
    assert refused["b"] == "'d' is known at run time only"
    assert refused["e"] == "'x' is known at run time only"
    assert refused["m"].startswith("the bodies of Loop")
    assert refused["t"] == "'s' is known at run time only"


def test_the_worker_starts_when_there_is_something_to_compute() -> None:
    text = """g (float[4, 4] x) => (float[4, 4] y) {
        s = Shape(w)  k = Constant<value_int = 0>()  d = Gather(s, k)  e = Add(d, d)
        big = Exp(w)  r = Exp(x)  y = Identity(x)
    }"""
    graph = graph_of(text, w=SQUARE)
    with Worker(seconds=60) as fresh:
        arrays, refused = asked(fresh, graph, "e", "w", "k", "r")
        assert (arrays["e"], sorted(arrays), list(refused)) == (8, ["e", "k", "w"], ["r"])
        assert fresh.pid is None
        assert "big" in asked(fresh, graph, "big")[0]
        assert fresh.pid is not None


def test_the_worker_is_usable_after_a_failure(worker: Worker) -> None:
    graph = graph_of(
        "g (float[1] x) => (float[1] y) { a = Gather(w, k)  b = Exp(w)  y = Identity(x) }", w=SQUARE, k=np.array([9])
    )
    assert sorted(asked(worker, graph, "a", "b")[0]) == ["b"]
    assert sorted(asked(worker, graph, "b")[0]) == ["b"]


def test_without_a_worker_small_integers_are_known() -> None:
    text = """g (float[4, 4] x) => (float[4, 4] y) {
        s = Shape(w)  t = Mul(s, s)  k = Constant<value_ints = [4, 5]>()  e = Exp(w)  r = Exp(x)  y = Identity(x)
    }"""
    graph = graph_of(text, w=SQUARE)
    values = named(graph, "t", "k", "e", "r", "w")
    answer = evaluate_here(graph, values)
    assert [answer[one].tolist() for one in values[:2]] == [[16, 16], [4, 5]]
    assert [one.name for one in answer] == ["t", "k", "w"]
    assert sorted(answer.refused.values()) == [
        "'x' is known at run time only",
        "it takes onnxruntime to compute it, and no worker is at hand",
    ]


def test_a_graph_from_scratch() -> None:
    graph = decode(model("g (float[1] x) => (float[1] y) { a = Abs(w)  y = Identity(x) }", w=SQUARE), Store())
    assert list(evaluate_here(graph, [])) == []
