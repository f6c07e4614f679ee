"""The user's own feeds: how arrays become feeds, and what is said where they do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.testing import model
from graphopt.validation.feeds import FeedSet, gather
from graphopt.validation.plan import FeedPlan

SYMBOLIC = model("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }")
FIXED = model("g (float[2, 4] x) => (float[2, 4] y) { y = Relu(x) }")
TWO = model("g (float[N, 4] x, int64 k) => (float[N, 4] y) { f = Cast <to=1> (k)  y = Mul(x, f) }")
DEFAULT = model("g (float[N, 4] x, float[4] w) => (float[N, 4] y) { y = Mul(x, w) }", w=np.ones(4, np.float32))


def never(_: object) -> str:
    raise AssertionError("the user's feeds are not tried on the model")


def feeds_of(proto: Any, given: Any, **more: Any) -> FeedSet:
    return gather(FeedPlan(given, **more), proto, never)


def x(*shape: int) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)


def shapes(found: FeedSet) -> list[tuple[int, ...]]:
    return [feed.values["x"].shape for feed in found]


@pytest.mark.parametrize(
    ("proto", "array", "expected"),
    [
        (SYMBOLIC, x(3, 4), [(3, 4)]),
        (SYMBOLIC, x(64, 4), [(64, 4)]),
        (SYMBOLIC, x(150, 4), [(64, 4), (64, 4), (22, 4)]),
        (SYMBOLIC, x(3, 2, 4), [(2, 4)] * 3),
        (SYMBOLIC, x(0, 4), [(0, 4)]),
        (FIXED, x(2, 4), [(2, 4)]),
        (FIXED, x(6, 4), [(2, 4)] * 3),
        (FIXED, x(5, 2, 4), [(2, 4)] * 5),
    ],
)
def test_the_shape_of_an_array_says_how_many_feeds_it_holds(
    proto: Any, array: np.ndarray, expected: list[tuple[int, ...]]
) -> None:
    found = feeds_of(proto, {"x": array})
    assert shapes(found) == expected
    assert len(found) == len(expected)
    rows = np.concatenate([feed.values["x"].reshape(-1, 4) for feed in found])
    np.testing.assert_array_equal(rows, array.reshape(-1, 4))  # every row once, in order


def test_a_scalar_input_is_shared_by_all_feeds_or_has_one_value_each() -> None:
    shared = list(feeds_of(TWO, {"x": x(100, 4), "k": np.array(7)}))
    assert [(feed.values["x"].shape, int(feed.values["k"])) for feed in shared] == [((64, 4), 7), ((36, 4), 7)]
    each = list(feeds_of(TWO, {"x": x(2, 3, 4), "k": np.array([7, 8])}))
    assert [int(feed.values["k"]) for feed in each] == [7, 8]


def test_the_single_array_of_a_single_input_may_have_any_name() -> None:
    assert shapes(feeds_of(SYMBOLIC, {"images": x(3, 4)})) == [(3, 4)]
    assert shapes(feeds_of(DEFAULT, {"images": x(3, 4)})) == [(3, 4)]


def test_inputs_with_a_default_may_be_given_or_left_out() -> None:
    (plain,) = feeds_of(DEFAULT, {"x": x(3, 4)})
    assert set(plain.values) == {"x"}
    (given,) = feeds_of(DEFAULT, {"x": x(3, 4), "w": np.zeros(4, np.float32)})
    assert set(given.values) == {"x", "w"}


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (x(3, 4).astype(np.float64) / 3, np.float32),  # the one cast that may round
        (np.ones((3, 4), np.uint8), np.float32),
        (np.array([[1, 2, 3, 4]], np.int64), np.float32),
        (np.ones((3, 4), bool), np.float32),
    ],
)
def test_arrays_are_cast_where_nothing_is_lost(given: np.ndarray, dtype: type) -> None:
    (feed,) = feeds_of(SYMBOLIC, {"x": given})
    assert feed.values["x"].dtype == dtype
    np.testing.assert_array_equal(feed.values["x"], given.astype(dtype))


@pytest.mark.parametrize(
    ("proto", "given", "sentence"),
    [
        (
            SYMBOLIC,
            {"x": np.full((1, 4), (1 << 24) + 1, np.int64)},
            "the array for 'x' in the given feeds has int64 elements that do not fit the model's float[N,4] "
            "exactly; convert them first",
        ),
        (
            TWO,
            {"x": x(1, 4), "k": np.array(1.5)},
            "the array for 'k' in the given feeds has float64 elements that do not fit the model's int64[] "
            "exactly; convert them first",
        ),
        (
            SYMBOLIC,
            {"x": np.array([["a", "b", "c", "d"]])},
            "the array for 'x' in the given feeds has string elements that do not fit the model's float[N,4] "
            "exactly; convert them first",
        ),
        (
            SYMBOLIC,
            {"x": x(3, 5)},
            "the array for 'x' in the given feeds is float32[3,5] and the model wants float[N,4]; "
            "give that shape, or one more leading axis that counts feeds",
        ),
        (
            FIXED,
            {"x": x(3, 4)},
            "the array for 'x' in the given feeds is float32[3,4] and the model wants float[2,4]; "
            "give that shape, or one more leading axis that counts feeds",
        ),
        (
            FIXED,
            {"x": x(4)},
            "the array for 'x' in the given feeds is float32[4] and the model wants float[2,4]; "
            "give that shape, or one more leading axis that counts feeds",
        ),
        (
            TWO,
            {"x": x(3, 4)},
            "the given feeds has no array for the input 'k' (int64[]); it has 'x'",
        ),
        (
            TWO,
            {"x": x(3, 2, 4), "k": np.array([1, 2])},
            "the given feeds has a different number of feeds for each input: 'x' 3 and 'k' 2; "
            "give each the same number of rows",
        ),
        (
            SYMBOLIC,
            {"x": x(0, 3, 4)},
            "the array for 'x' in the given feeds holds no feed; its leading axis is 0",
        ),
        (SYMBOLIC, [], "the given feeds gave no feeds; give at least one"),
        (SYMBOLIC, [[1, 2]], "the given feeds gave a list; a feed is a dict of arrays by input name"),
    ],
)
def test_feeds_that_do_not_fit_get_one_sentence(proto: Any, given: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        list(feeds_of(proto, given))
    assert str(caught.value) == sentence


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, x=x(100, 4), y=np.zeros(100))
    found = feeds_of(SYMBOLIC, path)
    assert shapes(found) == shapes(found) == [(64, 4), (36, 4)]  # it can be gone through again
    assert found.report.source == "digits.npz"
    assert found.warnings == ("the array 'y' of digits.npz is no input and was not fed",)
    assert [feed.label for feed in found] == ["digits.npz feed 1 of 2", "digits.npz feed 2 of 2"]
    assert found.report.shapes == ("x[64,4]", "x[36,4]")
    assert not found.report.generated
    assert shapes(feeds_of(SYMBOLIC, path, limit=1)) == [(64, 4)]


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        np.savez(tmp_path / f"part{number}.npz", x=np.full((1, 4), number, np.float32))
    (tmp_path / "notes.txt").write_text("not a feed")
    found = feeds_of(SYMBOLIC, tmp_path)
    assert [float(feed.values["x"][0, 0]) for feed in found] == [1.0, 9.0, 10.0]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "there are no feeds at '{}'; give an .npz file, a folder of them, or module:function"),
        ("nowhere.npz", "there is no file '{}'; give an .npz file"),
        ("", "the folder '{}' holds no .npz file; give feeds as .npz files"),
    ],
)
def test_paths_that_hold_no_feeds(name: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(UsageError) as caught:
        feeds_of(SYMBOLIC, path)
    assert str(caught.value) == sentence.format(path)


def test_a_function_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_feeds_module.py").write_text(
        "import numpy as np\n"
        "calls = []\n"
        "def several():\n"
        "    calls.append(1)\n"
        "    for rows in (1, 2):\n"
        "        yield {'x': np.ones((rows, 4), np.float32)}\n"
        "def broken():\n"
        "    raise OSError('no disk')\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    found = feeds_of(SYMBOLIC, "my_feeds_module:several")
    assert shapes(found) == shapes(found) == [(1, 4), (2, 4)]
    import my_feeds_module  # type: ignore[import-not-found]

    assert len(my_feeds_module.calls) == 1  # a second call might have given something else
    for text, sentence in {
        "my_feeds_module:broken": "the feeds function my_feeds_module:broken raised OSError: no disk",
        "my_feeds_module:missing": "the module 'my_feeds_module' has no function 'missing' for the feeds",
        "my_feeds_module:number": "the module 'my_feeds_module' has no function 'number' for the feeds",
        "no_such_module_here:f": "the module 'no_such_module_here' of the feeds did not import: "
        "ModuleNotFoundError: No module named 'no_such_module_here'",
        "a b:c": "the feeds 'a b:c' is not of the form module:function",
    }.items():
        with pytest.raises(UsageError) as caught:
            feeds_of(SYMBOLIC, text)
        assert str(caught.value) == sentence


def test_a_function_object_and_an_iterable_are_feeds_too() -> None:
    def several() -> Iterator[dict[str, np.ndarray]]:
        yield {"x": x(1, 4)}
        yield {"x": x(2, 4)}

    assert shapes(feeds_of(SYMBOLIC, several)) == [(1, 4), (2, 4)]
    assert shapes(feeds_of(SYMBOLIC, several())) == [(1, 4), (2, 4)]


def test_sequences_come_from_functions_only() -> None:
    proto = model("g (seq(float[N]) s) => (float[M] y) { y = ConcatFromSequence <axis = 0> (s) }")
    (feed,) = feeds_of(proto, [{"s": [np.ones(2), np.ones(3, np.float32)]}])
    assert [(item.shape, item.dtype) for item in feed.values["s"]] == [((2,), np.float32), ((3,), np.float32)]
    with pytest.raises(UsageError) as caught:
        list(feeds_of(proto, {"s": np.ones((2, 3), np.float32)}))
    assert str(caught.value) == (
        "the input 's' is a sequence, which the given feeds cannot hold; "
        "give feeds as module:function that returns a list for it"
    )


def test_strings_come_as_text_or_as_bytes() -> None:
    proto = model("g (string[N] s) => (string[N] y) { y = Identity(s) }")
    for given in (np.array(["ä", "b"]), np.array(["ä".encode(), b"b"])):
        (feed,) = feeds_of(proto, {"s": given})
        assert feed.values["s"].dtype == object
        assert feed.values["s"].tolist() == ["ä", "b"]


def test_pins_are_for_generated_feeds() -> None:
    with pytest.raises(UsageError) as caught:
        feeds_of(SYMBOLIC, {"x": x(1, 4)}, sizes={"N": 3})
    assert str(caught.value) == ("--input-value and --dim pin generated feeds; leave them out when giving --feeds")
    with pytest.raises(UsageError, match=r"^the number of feeds cannot be 0; give 1 or more$"):
        feeds_of(SYMBOLIC, {"x": x(1, 4)}, limit=0)
