"""The embedded model and data: what the loader gives, what the graph carries, how good the model is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from graphopt import demo
from graphopt.errors import BadModel


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(demo.model_path())


@pytest.fixture(scope="module")
def data() -> demo.DemoData:
    return demo.load_data()


def dead_nodes(graph: onnx.GraphProto) -> list[str]:
    """Operators of the nodes that no graph output depends on, by walking back from the outputs."""
    makers = {name: position for position, node in enumerate(graph.node) for name in node.output}
    reached: set[int] = set()
    ahead = [value.name for value in graph.output]
    while ahead:
        position = makers.get(ahead.pop())
        if position is not None and position not in reached:
            reached.add(position)
            ahead.extend(graph.node[position].input)
    return [node.op_type for position, node in enumerate(graph.node) if position not in reached]


def absolute_paths(text: str) -> list[str]:
    """What looks like a path from the root of a file system: a slash that starts a word."""
    return re.findall(r"""(?:^|["'\s(=])(/\w[\w./-]*)""", text)


def test_data_have_the_types_and_ranges_that_the_model_takes(data: demo.DemoData) -> None:
    assert data.calibration.shape == (901, 1, 8, 8)
    assert data.test.shape == (896, 1, 8, 8)
    assert data.labels.shape == (896,)
    assert data.calibration.dtype == data.test.dtype == np.float32
    assert data.labels.dtype == np.int64
    for images in (data.calibration, data.test):
        assert images.min() == 0.0
        assert images.max() == 1.0
        assert np.array_equal(images * 16, np.round(images * 16))


def test_every_digit_is_half_of_what_the_source_has(data: demo.DemoData) -> None:
    # The class counts of the data set's test part, as its documentation gives them.
    source = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    assert source.sum() == len(data.calibration) + len(data.test)
    assert np.array_equal(np.bincount(data.labels, minlength=10), source // 2)


def test_the_halves_share_no_image(data: demo.DemoData) -> None:
    seen = {image.tobytes() for image in data.calibration}
    assert not any(image.tobytes() in seen for image in data.test)


def test_model_is_valid_and_takes_what_the_loader_gives(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    (image,) = model.graph.input
    (logits,) = model.graph.output
    assert (image.name, logits.name) == ("image", "logits")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    dims = image.type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 1, 8, 8]


def test_model_is_right_on_97_percent_of_the_unseen_half(data: demo.DemoData) -> None:
    session = onnxruntime.InferenceSession(str(demo.model_path()), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": data.test})
    assert logits.shape == (896, 10)
    assert (logits.argmax(1) == data.labels).mean() >= 0.97
    (one,) = session.run(["logits"], {"image": data.test[:1]})
    assert one.shape == (1, 10), "the batch is dynamic"


def test_model_carries_the_leftovers_that_the_demo_shows(model: onnx.ModelProto) -> None:
    counts = Counter(node.op_type for node in model.graph.node)
    for operator in ("Identity", "Dropout", "BatchNormalization", "Constant"):
        assert counts[operator] >= 2, operator
    dead = dead_nodes(model.graph)
    assert {"ReduceMean", "Gemm", "Dropout"} <= set(dead)
    assert len(dead) < len(model.graph.node) / 2


def test_weights_are_enough_for_quantization_to_show(model: onnx.ModelProto) -> None:
    sizes = [len(tensor.raw_data) for tensor in model.graph.initializer]
    assert 250_000 < sum(sizes) < 400_000
    assert sum(size for size in sizes if size > 10_000) > 0.9 * sum(sizes)


def test_model_holds_no_path_of_the_machine_that_exported_it(model: onnx.ModelProto) -> None:
    graph = model.graph
    holders = [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    texts = [entry.value for holder in holders for entry in holder.metadata_props]
    texts += [holder.doc_string for holder in holders]
    assert sum(map(bool, texts)) > 100, "the exporter's metadata is part of what the demo shows"
    assert [path for text in texts for path in absolute_paths(text)] == []
    assert absolute_paths('File "/some/where/train.py", line 3') == ["/some/where/train.py"]


def test_everything_shipped_stays_under_500_kb() -> None:
    shipped = [path for path in demo.model_path().parent.iterdir() if path.is_file()]
    assert {path.name for path in shipped} >= {"digits_cnn.onnx", "digits.npz", "README.md"}
    assert sum(path.stat().st_size for path in shipped) < 500_000


def test_importing_the_loader_does_not_import_numpy() -> None:
    code = "import sys, graphopt.demo as d; d.model_path(); sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_file_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "files", lambda _package: tmp_path)
    with pytest.raises(BadModel, match=r"digits_cnn\.onnx is missing from this installation: reinstall"):
        demo.model_path()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"not an archive"])
def test_damaged_data_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    monkeypatch.setattr(demo, "files", lambda _package: tmp_path)
    (tmp_path / "digits.npz").write_bytes(content)
    with pytest.raises(BadModel, match=r"The demo data .*digits\.npz is damaged .*: reinstall graphopt\.$"):
        demo.load_data()


def test_data_without_the_labels_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "files", lambda _package: tmp_path)
    np.savez(tmp_path / "digits.npz", calibration_x=np.zeros((1, 8, 8)), test_x=np.zeros((1, 8, 8)))
    with pytest.raises(BadModel, match=r"damaged .*test_y"):
        demo.load_data()


def test_the_walk_for_dead_nodes_sees_a_chain_that_ends_nowhere() -> None:
    graph = onnx.parser.parse_graph("g (float[1] x) => (float[1] y) { a = Neg(x) b = Abs(a) y = Relu(x) }")
    assert dead_nodes(graph) == ["Neg", "Abs"]
