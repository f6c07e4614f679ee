"""Real models of many makers accept the feeds that are generated for them, at two bindings of sizes or more."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from graphopt.contract import Contract
from graphopt.runtime.client import Worker
from graphopt.storage.read import read
from graphopt.validation import Outcome
from graphopt.validation.explore import FEEDS
from graphopt.validation.feeds import FeedSet, gather
from graphopt.validation.plan import FeedPlan
from graphopt.validation.signature import required_inputs
from graphopt.validation.trial import ModelTrial
from graphopt.validation.validate import Validator

FOLDER = Path(os.environ.get("GRAPHOPT_CORPUS", "")) / "models"
NAMES = (
    "basic_pitch_nmp",
    "bert_squad_keras2onnx_opset11",
    "brainmaze_seizure_A",
    "efficientnet_lite0_op13_bn",
    "magika_v3_3",
    "mnist_cntk",
    "mobilenet_v1_025_128_quant_qdq_tflite",
    "ppocrv4_rec",
    "resnet_4b_cifar10",
    "scan_1",
    "silero_vad",
    "tashkeel_bilstm_int8",
    "tiny_random_gpt2_fp32_past",
    "tract_lgbm_classifier",
    "vit_cifar10_pgd_2_3_16",
)

WITH_A_SWITCH = ("silero_vad",)  # a feed more, for the other side

pytestmark = pytest.mark.corpus


def path_of(name: str) -> Path:
    if "GRAPHOPT_CORPUS" not in os.environ:
        pytest.skip("GRAPHOPT_CORPUS does not say where the real models are")
    path = FOLDER / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {FOLDER}")
    return path


def feeds_of(name: str, worker: Worker, seed: int = 0) -> FeedSet:
    path = path_of(name)
    trial = ModelTrial(path, worker)
    try:
        source = read(path)
        return gather(FeedPlan(), source.proto, trial, seed, source.store)
    finally:
        trial.close()


@pytest.mark.parametrize("name", NAMES)
def test_generated_feeds_are_accepted(name: str, worker: Worker) -> None:
    found = feeds_of(name, worker, seed=11)
    free = any(each.symbols for each in required_inputs(read(path_of(name)).proto))
    assert len(found) == FEEDS + (name in WITH_A_SWITCH)
    assert len(found.report.shapes) >= (2 if free else 1)
    assert len(found.warnings) == 1  # that they are generated, and nothing else


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_equivalent_to_itself_and_has_little_noise(name: str, worker: Worker) -> None:
    path = path_of(name)
    with Validator(path, worker=worker) as validator:
        verdict = validator.check(path, Contract.EXACT)
    assert verdict.outcome is Outcome.EQUIVALENT
    assert all(report.elements for report in verdict.outputs)


def test_what_the_feeds_of_real_models_look_like(worker: Worker) -> None:
    speech = list(feeds_of("silero_vad", worker))
    assert [int(feed.values["sr"]) for feed in speech] == [16000, 16000, 16000, 8000]
    for feed in speech:
        assert feed.values["input"].shape[0] == feed.values["state"].shape[1]
    for feed in feeds_of("tiny_random_gpt2_fp32_past", worker):
        past, new = feed.values["past_0"].shape[3], feed.values["input_ids"].shape[1]
        assert feed.values["attention_mask"].shape[1] == past + new
        assert feed.values["input_ids"].max() < 1000
    for feed in feeds_of("bert_squad_keras2onnx_opset11", worker):
        assert feed.values["input_ids"].max() < 20
        assert feed.values["token_type_ids"].max() < 2
        assert set(np.unique(feed.values["attention_mask"])) <= {0, 1}
    for feed in feeds_of("magika_v3_3", worker):
        assert 200 < feed.values["bytes"].max() < 257
    for feed in feeds_of("tract_lgbm_classifier", worker):
        assert feed.values["input"].max() > 100  # around the thresholds of its trees, not around zero
