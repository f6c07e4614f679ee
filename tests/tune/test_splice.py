"""Variants taken apart and put together: what comes out computes what the pipeline would have made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.checker
import pytest
from known_losses import Coarse, Fine, chain, feeds_of  # type: ignore[import-not-found]

from graphopt.calibration.source import CalibrationData
from graphopt.pipeline.pipeline import Pipeline
from graphopt.runtime.client import Options, Worker
from graphopt.session.services import WorkerServices
from graphopt.storage.read import from_proto
from graphopt.testing import model
from graphopt.tune.levers import Choice, chosen, subsets
from graphopt.tune.splice import Splice
from graphopt.tune.variants import Workshop
from graphopt.tune.whole import Whole, spliced

Shop = Callable[[onnx.ModelProto], Workshop]


def variants(shop: Workshop, pipeline: Pipeline) -> Splice:
    return Splice([shop.variant(pipeline, one) for one in subsets(pipeline)])


def outputs(worker: Worker, data: bytes, feed: dict[str, object]) -> dict[str, np.ndarray]:
    onnx.checker.check_model(onnx.ModelProto.FromString(data), full_check=True)
    return worker.run_model(data, feed, Options(optimize=False, prepack=False))  # type: ignore[return-value]


def test_a_unit_for_each_rewrite(workshop: Shop) -> None:
    found = variants(workshop(chain()), Pipeline((Coarse(),)))
    assert [unit.op for unit in found.units] == ["MatMul"] * 4
    assert [unit.nodes for unit in found.units] == [("MatMul0",), ("MatMul2",), ("MatMul4",), ("MatMul5",)]
    assert all(list(unit.options()) == [0, 1] for unit in found.units)


@pytest.mark.parametrize("chosen_units", [(), (0,), (1, 3), (0, 1, 2, 3)])
def test_a_mixture_is_what_the_pipeline_makes_with_skips(
    workshop: Shop, worker: Worker, chosen_units: tuple[int, ...]
) -> None:
    shop, pipeline = workshop(chain()), Pipeline((Coarse(),))
    found = variants(shop, pipeline)
    mixture = {unit: 0 if unit.number in chosen_units else 1 for unit in found.units}
    left = tuple(unit.nodes[0] for unit, option in mixture.items() if option)
    taken = tuple(unit.nodes[0] for unit, option in mixture.items() if not option)
    _, real = shop.run(chosen(pipeline, {0: Choice(taken, left)}))
    feed = feeds_of(1)[0]
    mixed, expected = outputs(worker, found.mixed(mixture), feed), outputs(worker, real, feed)
    assert np.array_equal(mixed["y"], expected["y"])


def test_variants_of_several_levers(workshop: Shop, worker: Worker) -> None:
    """Nodes that the first lever leaves are the second one's; each of four can be either, or float."""
    shop, pipeline = workshop(chain()), Pipeline((Coarse(), Fine()))
    found = variants(shop, pipeline)
    names = [sorted(pipeline.steps[step].name for step in one.subset) for one in found.variants]  # type: ignore[union-attr]
    assert names == [["coarse", "fine"], ["coarse"], ["fine"], []]
    unit = found.units[1]
    assert list(unit.options()) == [0, 2, 3], "coarse takes it whether or not fine is there"
    mixture = dict.fromkeys(found.units, 3) | {unit: 2, found.units[2]: 0}
    real = Pipeline((Coarse(only=("MatMul4",)), Fine(only=("MatMul2",))))
    feed = feeds_of(1)[0]
    expected = outputs(worker, shop.run(real)[1], feed)
    assert np.array_equal(outputs(worker, found.mixed(mixture), feed)["y"], expected["y"])


def test_everything_as_one_variant_is_that_variant(workshop: Shop, worker: Worker) -> None:
    found = variants(workshop(chain()), Pipeline((Coarse(), Fine())))
    feed = feeds_of(1)[0]
    for index, one in enumerate(found.variants):
        mixed = outputs(worker, found.mixed(found.everything(index)), feed)
        assert np.array_equal(mixed["y"], outputs(worker, one.data, feed)["y"])


SHARED = "g (float[N,64] x) => (float[N,64] y) { a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, w) }"


def test_readers_of_one_weight_are_one_unit(workshop: Shop) -> None:
    """A pass that stores the weight itself cannot leave one of its readers."""
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    found = variants(workshop(model(SHARED, w=weight)), Pipeline.parse("weight-int8"))
    assert len(found.units) == 1
    assert len(found.units[0].values) == 2


BODY = """
g (float[N,64] x, bool c) => (float[N,64] y) {
    a = MatMul(x, w)
    y = If (c) <then_branch = t () => (float[N,64] p) { p = MatMul(a, v) },
                else_branch = e () => (float[N,64] q) { q = Relu(a) }>
}
"""


@pytest.mark.parametrize("condition", [True, False])
def test_a_node_with_bodies_is_one_unit(workshop: Shop, worker: Worker, condition: bool) -> None:
    draw = np.random.default_rng(0)
    weights = {name: draw.standard_normal((64, 64)).astype(np.float32) for name in "wv"}
    shop, pipeline = workshop(model(BODY, **weights)), Pipeline.parse("weight-int8")
    found = variants(shop, pipeline)
    assert sorted(unit.op for unit in found.units) == ["If", "MatMul"]
    inner = next(unit for unit in found.units if unit.op == "If")
    mixture = found.everything(1) | {inner: 0}
    real = shop.run(Pipeline.parse('weight-int8{skip=["w"]}'))[1]
    feed = {**feeds_of(1)[0], "c": np.asarray(condition)}
    expected = outputs(worker, real, feed)
    assert np.array_equal(outputs(worker, found.mixed(mixture), feed)["y"], expected["y"])


def test_activations_on_grids(workshop: Shop, worker: Worker) -> None:
    """What static-int8 puts between two nodes goes with the node that reads it; outputs stay within its loss."""
    shop, pipeline = workshop(chain()), Pipeline.parse("static-int8{target=onnxruntime}")
    found = variants(shop, pipeline)
    feed = feeds_of(1)[0]
    plain = outputs(worker, found.mixed(found.everything(1)), feed)["y"]
    for unit in found.units:
        one = outputs(worker, found.mixed(found.everything(1) | {unit: 0}), feed)["y"]
        assert 0.0 < np.abs(one - plain).max() < np.abs(plain).max()


FUNCTION = """
<ir_version: 10, opset_import: ["": 21, "own": 1]>
g (float[N,64] x) => (float[N,64] y) { y = own.double(x, w) }
<opset_import: ["": 21], domain: "own">
double (a, b) => (d) { c = MatMul(a, b)  d = Add(c, c) }
"""


def test_models_with_functions_are_taken_as_a_whole(workshop: Shop) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    pipeline = Pipeline.parse("weight-int8")
    shop = workshop(model(FUNCTION, w=weight))
    made = [shop.variant(pipeline, one) for one in subsets(pipeline)]
    found, why = spliced(made)
    assert isinstance(found, Whole)
    assert why == "the model has functions or sparse weights, and is quantized as a whole"
    assert found.mixed(found.everything(0)) == made[0].data


CONVOLUTIONS = """
g (float[N,8,8,8] x) => (float[N,8,8,8] y) {
    a = Conv <pads=[1,1,1,1]> (x, w0)  b = Relu(a)  c = Conv <pads=[1,1,1,1]> (b, w1)  d = Relu(c)
    e = Conv <pads=[1,1,1,1]> (d, w2)  y = Add(e, b)
}
"""


def test_every_option_of_every_unit_runs(workshop: Shop, worker: Worker) -> None:
    """Also where two variants have nodes of one name on different sides of a border."""
    draw = np.random.default_rng(0)
    proto = model(CONVOLUTIONS, **{f"w{i}": draw.standard_normal((8, 8, 3, 3)).astype(np.float32) for i in range(3)})
    for number, node in enumerate(proto.graph.node):
        node.name = f"n{number}"
    feeds = [{"x": draw.standard_normal((1, 8, 8, 8)).astype(np.float32)} for _ in range(4)]
    source = from_proto(proto)
    shop = Workshop(source, lambda: WorkerServices(worker, data=CalibrationData(lambda: feeds, source)))
    found = variants(shop, Pipeline.parse("static-int8{target=onnxruntime},weight-int8{form=cast,min-elements=16}"))
    plain = len(found.variants) - 1
    assert found.units
    for rest in range(len(found.variants)):
        for unit in found.units:
            for option in unit.options():
                data = found.mixed(found.everything(rest) | {unit: option})
                names = [node.name for node in onnx.ModelProto.FromString(data).graph.node if node.name]
                assert len(names) == len(set(names))
                assert np.isfinite(outputs(worker, data, feeds[0])["y"]).all()
    assert outputs(worker, found.mixed(found.everything(plain)), feeds[0])
