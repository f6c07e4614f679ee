"""neurons, heads and reconstruct on real transformers."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest

from graphopt.pipeline import Pipeline
from graphopt.testing import apply
from graphopt.testing.apply import Applied, assert_missed
from passes.distill.reconstruct import Reconstruct
from passes.prune.heads import Heads
from passes.prune.neurons import Neurons

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models"),
]


def real(name: str) -> onnx.ModelProto:
    assert _FOLDER is not None
    path = Path(_FOLDER) / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}.onnx")
    return onnx.load(path)


def sizes(done: Applied) -> tuple[int, int]:
    """Bytes before and after."""
    return done.before.ByteSize(), done.after.ByteSize()


def test_a_vision_transformer_loses_neurons_and_heads() -> None:
    done = apply(Pipeline((Neurons(share=0.5), Heads(share=0.34))), real("vit_cifar10_pgd_2_3_16"), laws=False)
    assert {one.pass_name for one in done.applied} == {"neurons", "heads"}
    before, after = sizes(done)
    assert after < 0.85 * before


def test_a_narrow_vision_transformer_is_fitted() -> None:
    chain = Pipeline((Neurons(share=0.5, repair=False), Reconstruct(only=("*1.1.1/fn/fn.1*", "output"))))
    done = apply(chain, real("vit_cifar10_pgd_2_3_16"), laws=False)
    assert "reconstruct" in {one.pass_name for one in done.applied}


def test_a_decoder_with_a_cache_keeps_its_heads_and_loses_neurons() -> None:
    before = real("tiny_random_gpt2_fp32_past")
    heads = apply(Heads(), before, laws=False)
    assert not heads.applied
    assert_missed(heads, "heads", "has the keys or values of all heads")
    neurons = apply(Neurons(allocation="uniform", repair=False, importance="magnitude"), before, laws=False)
    assert len(neurons.applied) == 5
    assert all("32 of 128 neurons gone" in one.why for one in neurons.applied)


@pytest.mark.parametrize("name", ["mnist_cntk", "resnet_4b_cifar10", "silero_vad", "scan_1", "tashkeel_bilstm_int8"])
def test_other_models_come_through_and_the_reason_is_said(name: str) -> None:
    chain = Pipeline((Neurons(repair=False, importance="magnitude"), Heads(repair=False, importance="magnitude")))
    done = apply(chain, real(name), laws=False)
    onnx.checker.check_model(done.after)
    assert {one.pass_name for one in (*done.applied, *done.missed)} == {"neurons", "heads"}
