"""`.npz` and `.npy` files that are not what they say: one sentence each, and nothing is unpickled."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from graphopt.errors import OverLimit, UsageError
from graphopt.validation.npz import natural_key, read_npy, read_npz

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            out.writestr(name.replace("__", "."), data)
    return path


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    given = {
        "x": X,
        "fortran": np.asfortranarray(X),
        "scalar": np.array(7),
        "empty": np.zeros((0, 4), np.int8),
        "text": np.array(["ä", "bc"]),
        "big": X.astype(">f4"),
    }
    np.savez_compressed(path, **given)
    found = read_npz(path)
    assert found.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype.isnative
    assert found["x"].flags.writeable


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "bad.npz is not a readable .npz file: File is not a zip file"),
        (b"<!DOCTYPE html>" * 9, "bad.npz is not a readable .npz file: File is not a zip file"),
    ],
)
def test_what_is_no_archive(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_npz(path)
    assert str(caught.value) == sentence


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    np.savez(path, x=X)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match=r"^cut.npz is not a readable .npz file: "):
        read_npz(path)


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "flip.npz"
    np.savez(path, x=np.zeros(1000))
    data = bytearray(path.read_bytes())
    data[1000] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"^flip.npz is not a readable .npz file: Bad CRC-32"):
        read_npz(path)


def test_objects_are_refused_before_they_are_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "exploded").touch, ())

    path = archive(tmp_path / "o.npz", x__npy=npy(np.array([Bomb()], dtype=object)))
    with pytest.raises(UsageError) as caught:
        read_npz(path)
    assert str(caught.value) == (
        "array 'x' of o.npz holds Python objects, which would need unpickling; save it with a plain dtype"
    )
    assert not (tmp_path / "exploded").exists()


def test_structured_arrays_and_strange_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^array 'x' of s.npz is a structured array; save each field"):
        read_npz(archive(tmp_path / "s.npz", x__npy=npy(np.zeros(2, [("a", "f4"), ("b", "i4")]))))
    with pytest.raises(UsageError, match=r"^t.npz holds 'notes.txt', which is not an array"):
        read_npz(archive(tmp_path / "t.npz", notes__txt=b"hello"))
    with pytest.raises(UsageError, match=r"^j.npz is not a readable .npz file: the magic string is not correct"):
        read_npz(archive(tmp_path / "j.npz", x__npy=b"not an array at all"))


def test_a_header_that_claims_more_than_there_is(tmp_path: Path) -> None:
    data = npy(X).replace(b"(2, 3)", b"(2, 9)")
    with pytest.raises(UsageError) as caught:
        read_npz(archive(tmp_path / "h.npz", x__npy=data))
    assert str(caught.value) == (
        "array 'x' of h.npz says it has 72 bytes of data and h.npz holds 24; the file is damaged"
    )


def test_a_bomb_is_measured_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros(1 << 20, np.float64))
    assert path.stat().st_size < 20_000
    with pytest.raises(OverLimit) as caught:
        read_npz(path, limit=1 << 20)
    assert str(caught.value).startswith("bomb.npz would unpack to 8388")
    assert read_npz(path)["x"].nbytes == 8 << 20


def test_an_encrypted_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "e.npz", x__npy=npy(X))
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    data[6] |= 1
    data[central + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"^e.npz is encrypted; give a plain .npz file$"):
        read_npz(path)


def test_npy_files(tmp_path: Path) -> None:
    path = tmp_path / "y.npy"
    np.save(path, X)
    np.testing.assert_array_equal(read_npy(path), X)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UsageError, match=r"^y.npy says it has 24 bytes of data and y.npy holds 20"):
        read_npy(path)
    with pytest.raises(OverLimit, match=r"^y.npy has 148 bytes, more than the limit of 100$"):
        read_npy(path, limit=100)
    with pytest.raises(UsageError, match=r"^there is no file '.*nowhere.npy'; give an .npy or .npz file$"):
        read_npy(tmp_path / "nowhere.npy")


def test_files_are_sorted_as_people_count() -> None:
    names = ["part10.npz", "part2.npz", "part1.npz", "a.npz", "2.npz", "b1c10.npz", "b1c9.npz"]
    assert [path.name for path in sorted(map(Path, names), key=natural_key)] == [
        "2.npz", "a.npz", "b1c9.npz", "b1c10.npz", "part1.npz", "part2.npz", "part10.npz",
    ]  # fmt: skip


def test_a_header_that_is_half_an_expression(tmp_path: Path) -> None:
    damaged = bytearray(npy(X))
    damaged[damaged.index(b"(2, 3)") + 5] = ord("(")
    with pytest.raises(UsageError, match=r"a\.npz is not a readable \.npz file"):
        read_npz(archive(tmp_path / "a.npz", x__npy=bytes(damaged)))


def test_a_member_without_a_name_is_no_array(tmp_path: Path) -> None:
    nameless = zipfile.ZipInfo("x")
    nameless.filename = ""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("x.npy", npy(X))
        out.writestr(nameless, npy(X))
    with pytest.raises(UsageError, match=r"^a\.npz holds '', which is not an array"):
        read_npz(path)
