"""What a model says about itself before any node is looked at: graph, IR version, operator sets."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import ModelProto, OperatorSetIdProto

from graphopt.errors import BadModel
from graphopt.ir.wording import shown
from graphopt.storage.places import uses_default_domain


def check_header(model: ModelProto, what: str) -> None:
    """Raise BadModel when `model` (called `what` in messages) has no IR version, no operator sets,
    or versions that the installed onnx does not know."""
    if not model.HasField("ir_version") or model.ir_version < 1:
        raise BadModel(f"{what} does not say its IR version, so it cannot be read safely; export it again")
    if model.ir_version > onnx.IR_VERSION:
        raise BadModel(
            f"{what} has IR version {model.ir_version}, newer than onnx {onnx.__version__} knows "
            f"({onnx.IR_VERSION}); upgrade onnx or export with an older IR version"
        )
    if not model.opset_import:
        raise BadModel(f"{what} has no opset_import, so its operators' versions are unknown; export it again")
    versions = _check_opsets(model.opset_import, what)
    if "" not in versions and uses_default_domain(model):
        raise BadModel(f"{what} uses ONNX operators but its opset_import names no version of them; export it again")
    for function in model.functions:
        _check_opsets(function.opset_import, f"function {shown(function.name)} of {what}")


def _check_opsets(imports: Iterable[OperatorSetIdProto], what: str) -> dict[str, int]:
    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}
    versions: dict[str, int] = {}
    for one in imports:
        domain = "" if one.domain == "ai.onnx" else one.domain
        shown_domain = shown(one.domain or "ai.onnx")
        if versions.setdefault(domain, one.version) != one.version:
            raise BadModel(
                f"{what} imports {shown_domain} in versions {versions[domain]} and {one.version}; only one can be meant"
            )
        if domain not in newest:
            continue
        if one.version > newest[domain]:
            raise BadModel(
                f"{what} uses opset {one.version} of {shown_domain}, newer than onnx {onnx.__version__} knows "
                f"({newest[domain]}); upgrade onnx or export with an older opset"
            )
        if one.version < 1:
            raise BadModel(f"{what} imports version {one.version} of {shown_domain}; versions start at 1")
    return versions
