"""What is compared when models are pruned: studies, each of which puts one question to some models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_LABELLED: Final = ("efficientnet_lite0_op13_bn", "resnet_4b_cifar10", "magika_v3_3", "mnist_cntk")
_MINILM: Final = "paraphrase_minilm_l3_fp32"
_OPEN: Final = "initializers-from-inputs,"  # weights that callers may override become constants; nothing elsewhere
_ROWS: Final = _OPEN + "channels{share=0.3 normalized=true kernel=16 multiple=1}"  # then rows of kernels
_FUSED: Final = (
    "repeat{max=8}(ort-gelu,ort-attention,ort-attention-projections,unread-outputs),ort-matmul,unused-initializers"
)


@dataclass(frozen=True)
class Study:
    """A question: `rows` are pipelines by contender, run behind the recipe `default` on each of `models`.

    `samples` are learned from, by model where it is not 100; of the second half of the data `most` are measured on
    (None: all, 0: as many as the corpus says).
    """

    name: str
    models: tuple[str, ...]
    rows: Mapping[str, str]
    samples: Mapping[str, int] = field(default_factory=dict)
    most: int | None = 0


def _channels(share: float) -> dict[str, str]:
    """One cut of channels, technique by technique: what published methods choose by, then the passes' own ways."""
    cut = f"channels{{share={share:g}"
    at = f"{share:.0%}".rstrip("%")
    return {
        f"channels-{at}-magnitude": f"{cut} importance=magnitude repair=false}}",
        f"channels-{at}-activations": f"{cut} importance=activation repair=false}}",
        f"channels-{at}-magnitude-repaired": f"{cut} importance=magnitude}}",
        f"channels-{at}": f"{cut}}}",
        f"channels-{at}-distilled": f"{cut}}},distill{{steps=200}}",
    }


def _sparse(pattern: str, name: str) -> dict[str, str]:
    """One pattern of zeros, method by method: magnitude, weights times activations (Wanda), second order."""
    told = "sparsity=0.5" if pattern == "50 %" else f'pattern="{pattern}"'
    return {
        f"sparse-{name}-magnitude": _OPEN + f"influence{{{told} importance=magnitude update=false}}",
        f"sparse-{name}-wanda": _OPEN + f"influence{{{told} importance=activation update=false}}",
        f"sparse-{name}": _OPEN + f"influence{{{told}}}",
    }


STUDIES: Final = {
    study.name: study
    for study in (
        Study(
            "neurons",
            (_MINILM,),
            {
                "neurons-25-magnitude": "neurons{share=0.25 importance=magnitude allocation=uniform repair=false}",
                "neurons-25-activations": "neurons{share=0.25 importance=activation allocation=uniform repair=false}",
                "neurons-25-activations-repaired": "neurons{share=0.25 importance=activation allocation=uniform}",
                "neurons-25-even": "neurons{share=0.25 allocation=uniform}",
                "neurons-25": "neurons{share=0.25}",
                "neurons-25-fused": f"neurons{{share=0.25}},{_FUSED}",
                "neurons-25-reconstructed": "neurons{share=0.25},reconstruct",
                "neurons-50": "neurons{share=0.5}",
                "neurons-50-reconstructed": "neurons{share=0.5},reconstruct",
            },
            {_MINILM: 200},
        ),
        Study(
            "channels",
            ("efficientnet_lite0_op13_bn",),
            {label: text for share in (0.1, 0.2, 0.3, 0.4, 0.5) for label, text in _channels(share).items()},
            most=None,
        ),
        Study(
            "latency",
            ("resnet_4b_cifar10", "mnist_cntk", "magika_v3_3"),
            {
                label: text
                for share in (0.3, 0.4, 0.5, 0.6, 0.7)
                for label, text in {
                    f"latency-{share * 100:.0f}": _OPEN + f"channels{{share={share:g} normalized=true}}",
                    f"latency-{share * 100:.0f}-kernels": _OPEN
                    + f"channels{{share={share:g} normalized=true kernel=16 multiple=1}}",
                    f"latency-{share * 100:.0f}-distilled": _OPEN
                    + f"channels{{share={share:g} normalized=true}},distill{{steps=300}}",
                }.items()
            }
            | {
                "latency-rows": f"{_ROWS},kernels{{share=0.2 block=16}}",
                "latency-rows-more": f"{_ROWS},kernels{{share=0.5 block=16}}",
                "latency-rows-distilled": f"{_ROWS},kernels{{share=0.5 block=16}},distill{{steps=1000 features=0.5}}",
            },
            {"resnet_4b_cifar10": 1000, "mnist_cntk": 1000, "magika_v3_3": 300},
            None,
        ),
        Study(
            "sparse",
            (*_LABELLED, "vit_cifar10_pgd_2_3_16", _MINILM),
            {**_sparse("50 %", "50"), **_sparse("2:4", "2-4")},
        ),
        Study(
            "distill",
            (_MINILM,),
            {
                "magnitude-50": "magnitude{sparsity=0.5}",
                "magnitude-50-distilled": "magnitude{sparsity=0.5},distill{steps=200}",
            },
            {_MINILM: 500},
        ),
        Study(
            "blocks",
            (_MINILM, "vit_cifar10_pgd_2_3_16", "resnet_4b_cifar10", "efficientnet_lite0_op13_bn", "ppocrv4_rec"),
            {
                "blocks-1-nothing-instead": "blocks{share=1 count=1 instead=nothing}",
                "blocks-1": "blocks{share=1 count=1}",
                "blocks-1-reconstructed": "blocks{share=1 count=1},reconstruct",
                "blocks-2": "blocks{share=1 count=2}",
                "blocks-2-reconstructed": "blocks{share=1 count=2},reconstruct",
            },
        ),
        Study(
            "low-rank",
            (_MINILM, "vit_cifar10_pgd_2_3_16", "efficientnet_lite0_op13_bn"),
            {"low-rank-10": "low-rank{share=0.1}", "low-rank-25": "low-rank{share=0.25}"},
        ),
    )
}
"""By name."""
