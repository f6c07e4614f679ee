"""The training loop: what is kept is never worse, it goes on where it was, and it is the same each time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from graphopt.analysis.lesson import Course  # noqa: E402
from graphopt.training.learnable import Learnable  # noqa: E402
from graphopt.training.loop import Outcome, Training  # noqa: E402
from graphopt.training.losses import Term  # noqa: E402
from graphopt.training.shelf import Samples, Writer  # noqa: E402

TERMS = (Term("y", "mse"),)
COURSE = Course(steps=60, batch=4, rate=0.02, held_out=0.25, seed=5)


def teacher(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(6, 3)).astype(np.float32)


def samples(folder: Path, weight: np.ndarray, count: int = 24, noise: float = 0.0) -> Samples:
    draw = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(folder)
    for _ in range(count):
        x = draw.normal(size=(1, 6)).astype(np.float32)
        writer.add({"x": x}, {"y": x @ weight + noise * draw.normal(size=(1, 3)).astype(np.float32)})
    writer.close(True)
    return Samples(folder)


def student(
    feeds: Mapping[str, Any], wanted: Sequence[str], weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    return {"y": torch.tensor(feeds["x"]) @ weights["w"]}


def pruned(weight: np.ndarray) -> Learnable:
    return Learnable("w", np.where(np.abs(weight) < 0.5, 0, weight + 0.5).astype(np.float32), masked=True)


def run(folder: Path, course: Course = COURSE, noise: float = 0.0, **more: Any) -> tuple[Training, Learnable, Outcome]:
    weight = teacher(np.random.default_rng(0))
    one = pruned(weight)
    training = Training(student, [one], TERMS, samples(folder, weight, noise=noise), course, **more)
    return training, one, training.run()


def test_a_pruned_layer_comes_near_its_teacher(tmp_path: Path) -> None:
    _, one, outcome = run(tmp_path)
    assert outcome.after < outcome.before / 2
    assert outcome.steps == 60 and 0 < outcome.best <= 60
    stored, _ = one.stored()
    assert ((stored == 0) == (one.values == 0)).all()


def test_what_is_kept_is_the_best_that_was_measured(tmp_path: Path) -> None:
    training, _, outcome = run(tmp_path, Course(steps=40, batch=4, rate=3.0, warm_up=0, held_out=0.25))
    losses = [loss for _, loss in outcome.curve]
    assert outcome.after == min([outcome.before, *losses])
    assert training.total(training._measure()) == outcome.after  # and these are the weights that gave it


def test_steps_that_only_do_harm_leave_the_weights(tmp_path: Path) -> None:
    weight = teacher(np.random.default_rng(0))
    one = Learnable("w", weight)
    outcome = Training(student, [one], TERMS, samples(tmp_path, weight), COURSE).run()
    assert outcome.best == 0 and outcome.after == outcome.before
    np.testing.assert_array_equal(one.stored()[0], weight)


def test_samples_that_are_held_out_are_not_trained_on(tmp_path: Path) -> None:
    training, _, _ = run(tmp_path)
    seen: set[int] = set()
    for step in range(60):
        from graphopt.training.schedule import drawn

        seen.update(drawn(training.trained, step, 4, 5))
    assert seen.isdisjoint(training.held) and len(training.held) == 6


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    first, second = (run(tmp_path / str(at))[1].stored()[0] for at in range(2))
    assert first.tobytes() == second.tobytes()
    other = run(tmp_path / "2", Course(steps=60, batch=4, rate=0.02, held_out=0.25, seed=6))[1].stored()[0]
    assert first.tobytes() != other.tobytes()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("at", [3, 30, 57])
def test_a_run_that_was_stopped_goes_on_and_gives_the_same(tmp_path: Path, at: int) -> None:
    whole, expected = run(tmp_path / "whole")[1:]
    kept = tmp_path / "kept.npz"

    def stop(step: int, loss: float, held: float) -> None:
        if step >= at:
            raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path / "first", say=stop, kept=kept, seldom=0.0)
    assert kept.exists() is (at > 3)
    steps: list[int] = []
    _, again, outcome = run(tmp_path / "second", say=lambda step, *_: steps.append(step), kept=kept, seldom=0.0)
    assert again.stored()[0].tobytes() == whole.stored()[0].tobytes()
    assert (outcome.before, outcome.after, outcome.best) == (expected.before, expected.after, expected.best)
    assert outcome.curve == expected.curve
    assert steps[0] > at - 6  # it did not begin anew


def test_a_checkpoint_of_something_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "kept.npz").write_bytes(b"something else")
    expected = run(tmp_path / "whole")[1].stored()[0]
    found = run(tmp_path / "again", kept=tmp_path / "kept.npz")[1].stored()[0]
    assert found.tobytes() == expected.tobytes()


def test_patience_ends_it(tmp_path: Path) -> None:
    weight = teacher(np.random.default_rng(0))
    course = Course(steps=1000, batch=4, rate=0.01, held_out=0.25, patience=2)
    outcome = Training(student, [Learnable("w", weight)], TERMS, samples(tmp_path, weight), course).run()
    assert outcome.steps == 100  # of measurements after 50 steps each


def test_minutes_end_it(tmp_path: Path) -> None:
    _, _, outcome = run(tmp_path, Course(steps=10**6, batch=4, rate=0.01, held_out=0.25, minutes=0.005))
    assert outcome.steps < 10**6 and outcome.seconds < 5
    assert outcome.after < outcome.before


def test_a_loss_that_is_no_number_is_refused(tmp_path: Path) -> None:
    weight = teacher(np.random.default_rng(0))
    one = Learnable("w", np.full((6, 3), np.inf, np.float32))
    with pytest.raises(FloatingPointError, match="no number"):
        Training(student, [one], TERMS, samples(tmp_path, weight), COURSE).run()


def test_one_that_explodes_keeps_what_was_best(tmp_path: Path) -> None:
    _, one, outcome = run(tmp_path, Course(steps=50, batch=4, rate=1e30, warm_up=0, held_out=0.25))
    assert outcome.after <= outcome.before
    assert np.isfinite(one.stored()[0]).all()


def test_a_term_of_the_mean_square_is_a_share_of_the_energy() -> None:
    wanted = torch.tensor([[3.0, 4.0]])
    term = Term("y", "mse", energy=12.5)
    total, count = term.of(wanted * 1.1, wanted)
    assert float(total) / count == pytest.approx(0.01)
    assert term.words(0.01) == "20.0 dB" and term.words(0.0) == "inf dB"


def test_divergence_of_logits_and_of_their_probabilities_is_one() -> None:
    draw = np.random.default_rng(0)
    one, two = (torch.tensor(draw.normal(size=(5, 7)), dtype=torch.float32) for _ in range(2))
    logits = Term("y", "kl", temperature=3.0)
    softened = Term("y", "kl", temperature=3.0, probabilities=True)
    a, count = logits.of(one, two)
    b, _ = softened.of(torch.softmax(one, -1), torch.softmax(two, -1))
    assert count == 5 and float(a) == pytest.approx(float(b), rel=1e-4)
    p, q = torch.softmax(two / 3, -1), torch.softmax(one / 3, -1)
    assert float(a) == pytest.approx(9 * float((p * (p / q).log()).sum()), rel=1e-4)
    assert float(logits.of(two, two)[0]) == pytest.approx(0, abs=1e-6)


def test_probabilities_of_zero_have_a_finite_loss() -> None:
    one, two = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[0.0, 1.0]])
    total, _ = Term("y", "kl", probabilities=True).of(one, two)
    total.backward()
    assert math.isfinite(float(total.detach())) and torch.isfinite(one.grad).all()


def test_cosine_looks_at_directions_only() -> None:
    one = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    term = Term("y", "cosine")
    assert float(term.of(one * 5, one)[0]) == pytest.approx(0, abs=1e-6)
    total, count = term.of(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert (float(total), count) == (1.0, 1)
