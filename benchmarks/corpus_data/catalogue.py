"""The sixteen models: what each is, what it is measured on, and the score it is known to have."""

from __future__ import annotations

from typing import Final

from benchmarks.corpus_data import images, speech, text
from benchmarks.corpus_data.evidence import Case

FETCHED: Final = "paraphrase_minilm_l3_fp32"

CASES: Final = (
    Case(
        "efficientnet_lite0_op13_bn",
        "ImageNet CNN with BatchNormalization",
        images.imagenet("imagenet200_224_jpeg.npz", 127, 128),
        most=64,
        baseline=0.885,
    ),
    Case(
        "mobilenet_v1_025_128_quant_qdq_tflite",
        "ImageNet CNN, already QDQ",
        images.imagenet("imagenet200_128_jpeg.npz", 127.5, 127.5, first_class=1),
        most=100,
        baseline=0.49,
    ),
    Case(FETCHED, "sentence embedding", text.sick, most=100, baseline=0.72),
    Case("ppocrv4_rec", "text line recogniser (CTC)", text.lines, most=64, baseline=0.78),
    Case("silero_vad", "voice activity, If bodies, streaming", speech.silero, most=64),
    Case("magika_v3_3", "file type from bytes", text.magika, most=100, baseline=0.946),
    Case("resnet_4b_cifar10", "CIFAR-10 CNN", images.cifar10, most=200, baseline=0.752),
    Case("vit_cifar10_pgd_2_3_16", "CIFAR-10 ViT", images.cifar10, most=200, baseline=0.577),
    Case("mnist_cntk", "MNIST CNN, weights are inputs", images.mnist, most=200, baseline=0.984),
    Case("basic_pitch_nmp", "audio to notes", speech.windows(43844), most=16),
    Case("brainmaze_seizure_A", "EEG, Conv and LSTM"),
    Case("tashkeel_bilstm_int8", "already quantized, com.microsoft"),
    Case("bert_squad_keras2onnx_opset11", "BERT, 3,836 nodes, random weights"),
    Case("tract_lgbm_classifier", "boosted trees as tensor operators"),
    Case("scan_1", "four Scan bodies"),
    Case("tiny_random_gpt2_fp32_past", "decoder with KV cache, random weights"),
)


def case_of(name: str) -> Case:
    """The case of a model's name. Raises `KeyError`."""
    return {case.name: case for case in CASES}[name]
