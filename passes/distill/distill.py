"""Train the weights so that the model gives what the original gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.analysis.lesson import Course, Learnt, Lesson
from graphopt.ir import Constant, Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.distill.features import features
from passes.distill.trained import RULE, Wishes, trained


@dataclass(frozen=True)
class Distill(Pass):
    """Train the weights by gradient descent so that the outputs come near those of the original.

    What it does
        The model as it was read is the teacher: onnxruntime computes its outputs on the calibration feeds, once.
        The graph as it is when the pass runs is the student: PyTorch computes it and its gradients. AdamW takes
        `steps` steps, each on `batch` samples drawn with `seed`, of a size that is `rate` of the root mean square
        of each weight, after a warm-up falling as a cosine. Before the first step PyTorch's outputs of the student are
        compared with onnxruntime's; where they are not the same but for rounding nothing is trained.

        Trained are weights and biases of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN, scales and biases of
        normalizations, slopes, and vectors and tables that are added or multiplied; tables of Gather with
        embeddings=true.

        Zeros of weights with two or more axes stay zero (masks=auto; keep keeps every zero, none lets them go).
        Weights stored as integers (codes behind DequantizeLinear) are trained as numbers that are rounded to the
        codes in use at every step, the gradient passing the rounding as if it were not there, and are
        written back as codes; zeros among codes stay where they are too many to be of rounding alone. Where the
        model as it was read has the weight as floats, training starts from these, each within its code.
        scales=true trains the scales of such weights, too. Activations that the model quantizes are quantized while
        it is trained.

        loss=auto measures an output whose rows are probabilities by their Kullback-Leibler divergence from the
        original's, at a temperature, and every other, logits and embeddings alike, by the mean square of
        the difference over that of the original: its decibels are those of SQNR. kl takes outputs for logits,
        cosine compares directions. features=0.5 adds half of the mean error of up to twelve inner values that
        stand for values of the original (channels that are gone left out). labels=0.5 adds half of the
        cross-entropy of the first output against the user's labels.

        A part of the calibration samples (held-out) is not trained on. The loss on it is measured twenty times, or
        more, and the weights with which it was smallest are kept; if no step made it smaller, the weights stay as
        they are and a remark says so.

    Example
        magnitude{sparsity=0.5},distill{steps=200}

    When not
        On a model of integer operators (MatMulInteger, QLinearConv) or with operators that have no gradient here:
        they are named, and nothing changes; put it before the passes that make such. Left, with the
        reason: weights that callers may override, that are graph outputs, in bodies and functions, codes of floats.
        On a few calibration samples it learns these; some hundreds are better than some dozens, and no
        labels are needed. Needs PyTorch: pip install 'graphopt[distill]'; without it nothing is changed, and
        a remark says so.

        Cost: `steps` times about three runs of the model on `batch` samples, in a process of its own. With
        --resume or --cache-dir a run that was stopped goes on where it was. Equal seeds, feeds and
        versions give equal bytes on one machine, but where `minutes` ended it.

    Contract
        LOSSY: needs a budget. Only weights change; the loss on the samples that were held out gets smaller.

    Source
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015 (temperature). Kim et al.,
        "Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation", IJCAI 2021.
        Romero et al., "FitNets", ICLR 2015 (features). Loshchilov and Hutter, "Decoupled Weight Decay
        Regularization", ICLR 2019. Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through
        Stochastic Neurons", 2013 (straight through). Esser et al., "Learned Step Size Quantization", ICLR 2020.
    """

    name = "distill"
    contract = Contract.LOSSY
    repairs = True
    calibrates = True

    loss: Literal["auto", "kl", "mse", "cosine"] = option("auto", "auto, kl, mse or cosine")
    temperature: float = option(2.0, "of kl: how much the smaller probabilities count")
    features: float = option(0.0, "weight of the error of inner values")
    labels: float = option(0.0, "weight of the cross-entropy against the user's labels")
    steps: int = option(200, "steps of training")
    minutes: float = option(0.0, "end after so many minutes, the step size falling faster; 0: do not")
    batch: int = option(16, "samples in a step")
    rate: float = option(0.0, "largest step size, a share of the root mean square of each weight; 0 finds one")
    warm_up: float = option(0.1, "share of the steps in which the step size rises")
    decay: float = option(0.0, "weight decay of AdamW, for weights with two or more axes")
    held_out: float = option(0.2, "share of the calibration samples that is not trained on")
    patience: int = option(0, "end after so many measurements that were no better; 0: do not")
    seed: int = option(0, "of the order of samples")
    masks: Literal["auto", "keep", "none"] = option(
        "auto", "which zeros stay zero: auto (those of weights), keep (all) or none"
    )
    scales: bool = option(False, "train the scales of integer weights, too")
    embeddings: bool = option(False, "train tables of Gather, too")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the weights and nodes to train; all when empty")

    def __post_init__(self) -> None:
        positive = {"temperature": self.temperature, "steps": self.steps, "batch": self.batch}
        for name, value in positive.items():
            if not value > 0:
                raise ValueError(f"{name} must be greater than zero, and {value:g} is not")
        least = {"rate": self.rate, "features": self.features, "labels": self.labels, "minutes": self.minutes}
        for name, value in {**least, "decay": self.decay, "patience": self.patience, "seed": self.seed}.items():
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, and {value:g} is")
        if not 0 <= self.warm_up <= 1:
            raise ValueError(f"warm-up must be from 0 to 1, and {self.warm_up:g} is not")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held-out must be between 0 and 1, and {self.held_out:g} is not")

    def run(self, graph: Graph, ctx: Context) -> None:
        subject = next((one for one in graph.outputs if not isinstance(one, Constant)), None)
        if subject is None:
            return
        weights = trained(graph, Wishes(self.masks, self.scales, self.embeddings, self.skip, self.only), ctx)
        if not weights:
            ctx.missed(RULE, subject, "it has no weight that can be trained")
            return
        wanted = self.features > 0 and ctx.training.why_not is None
        near = features(graph, weights, ctx) if wanted else ()
        if wanted and not near:
            ctx.missed("features", subject, "no inner value stands for one of the original")
        found = ctx.training.train(Lesson(tuple(weights), near, self._course()))
        if isinstance(found, str):
            ctx.missed(RULE, subject, found)
            return
        for note in found.notes:
            ctx.missed("features", subject, note)
        if ctx.rewrite(RULE, subject, _told(found, len(weights))):
            _write(graph, found)

    def _course(self) -> Course:
        return Course(
            loss=self.loss,
            temperature=self.temperature,
            features=self.features,
            labels=self.labels,
            steps=self.steps,
            minutes=self.minutes,
            batch=self.batch,
            rate=self.rate,
            warm_up=self.warm_up,
            decay=self.decay,
            held_out=self.held_out,
            patience=self.patience,
            seed=self.seed,
        )


def _told(found: Learnt, weights: int) -> str:
    elements = sum(values.size for values in found.arrays.values())
    parts = "; ".join(found.parts)
    done = f"{found.steps} steps on {found.samples} samples, best after {found.best}"
    return (
        f"{len(found.arrays)} of {weights} weights trained ({elements} elements), {done}; "
        f"on {found.held_out} samples held out {parts}"
    )


def _write(graph: Graph, found: Learnt) -> None:
    for weight, values in found.arrays.items():
        graph.set_values(weight.held, values)
    for weight, scale in found.scales.items():
        held = weight.grid.scale_held if weight.grid is not None else None
        if held is not None:
            graph.set_values(held, scale.reshape(held.values.shape))
