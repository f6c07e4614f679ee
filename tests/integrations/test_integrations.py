"""The pre-commit hook and the workflow step, as those who run them do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from graphopt.integrations import action, check
from graphopt.integrations.action import cell

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "graphopt" / "demo" / "digits_cnn.onnx"


def outputs(path: Path) -> dict[str, str]:
    """What a step wrote to GITHUB_OUTPUT, as the runner reads it."""
    found, lines = {}, path.read_text().splitlines()
    while lines:
        line = lines.pop(0)
        name, heredoc, mark = line.partition("<<")
        if heredoc:
            end = lines.index(mark)
            found[name], lines = "\n".join(lines[:end]), lines[end + 1 :]
        else:
            name, _, value = line.partition("=")
            found[name] = value
    return found


def step(folder: Path, **given: str) -> dict[str, str]:
    told = folder / "told"
    environment = {f"GRAPHOPT_{name.upper()}": value for name, value in given.items()}
    assert action.main({**environment, "GITHUB_OUTPUT": str(told), "GITHUB_STEP_SUMMARY": str(folder / "page")}) == 0
    found = outputs(told)
    assert (folder / "page").read_text().strip() == found["summary"].strip()
    return found


def test_the_hook_reads_and_says_what_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.onnx").write_text("junk")
    assert check.main([str(DEMO)]) == 0
    assert check.main([str(DEMO), str(tmp_path / "bad.onnx")]) == 3
    assert "bad.onnx: " in capsys.readouterr().err


def test_the_hook_optimizes_once_and_is_content_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(DEMO.read_bytes())
    assert check.main(["--fix", str(model)]) == 1
    assert re.search(r"optimized: 63 to \d+ nodes", capsys.readouterr().err)
    assert model.stat().st_size < DEMO.stat().st_size
    before = model.read_bytes()
    assert check.main(["--fix", str(model)]) == 0 and model.read_bytes() == before
    assert check.main(["--fix", "--recipe", "no-such", str(model)]) == 2


def test_the_step_makes_a_table_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b.onnx").write_bytes(DEMO.read_bytes())
    (tmp_path / "bad|`x`.onnx").write_text("junk")
    found = step(tmp_path, models="'a b.onnx' 'bad*.onnx'", out_dir="out", options="-p dead-nodes", workers="2")
    assert found["exit-code"] == "3" and (tmp_path / "out" / "a b.onnx").is_file()
    assert "1 of 2 models done" in found["summary"] and r"bad\|\`x\`.onnx" in found["summary"]


def test_the_step_holds_models_against_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def git(*words: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *words], check=True, capture_output=True)

    git("init", "-q")
    Path("m.onnx").write_bytes(DEMO.read_bytes())
    git("add", ".")
    git("commit", "-qm", "base")
    Path("new.onnx").write_bytes(DEMO.read_bytes())
    found = step(tmp_path, command="validate", models="*.onnx", base="HEAD")
    assert found["exit-code"] == "0"
    assert ":new: new.onnx" in found["summary"] and ":white\\_check\\_mark:" not in found["summary"]
    assert ":white_check_mark: m.onnx" in found["summary"]
    import onnx

    model = onnx.load("m.onnx")
    weight = next(one for one in model.graph.initializer if one.raw_data and one.data_type == 1)
    weight.raw_data = bytes(len(weight.raw_data))
    onnx.save(model, "m.onnx")
    found = step(tmp_path / "..", command="validate", models="m.onnx", base="HEAD")
    assert found["exit-code"] == "1" and ":x: m.onnx" in found["summary"]


@pytest.mark.parametrize(
    ("given", "code", "sentence"),
    [
        ({"command": "quantise", "models": "m.onnx"}, "2", "command expects optimize or validate, not quantise"),
        ({"models": "none*.onnx"}, "2", "there are no models at"),
        ({"command": "validate", "models": "none*.onnx"}, "2", "there are no models at"),
        ({"models": "m.onnx", "options": "--no-such-option"}, "2", "there is no option --no-such-option"),
    ],
)
def test_mistakes_are_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], code: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = step(tmp_path, **given)
    assert found["exit-code"] == code
    assert sentence in found["summary"].replace("\\", "")


def test_no_name_of_a_model_is_markup() -> None:
    assert cell("a|b\n`c`<img>@user") == r"a\|b \`c\`&lt;img&gt;" + "@\u200buser"


def test_what_the_files_call_exists() -> None:
    text = (REPOSITORY / "action.yml").read_text()
    assert "python -m graphopt.integrations.action" in text
    used = set(re.findall(r"\$\{\{.*?\binputs\.([\w-]+)", text))
    assert used == set(re.findall(r"^  ([\w-]+):\n    description", text.partition("outputs:")[0], re.MULTILINE))
    scripts = (REPOSITORY / "pyproject.toml").read_text()
    for entry in re.findall(r"entry: (\S+)", (REPOSITORY / ".pre-commit-hooks.yaml").read_text()):
        assert f'{entry} = "graphopt.' in scripts
    assert 'ENTRYPOINT ["graphopt"]' in (REPOSITORY / "Containerfile").read_text()
