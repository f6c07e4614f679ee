"""What comes out of a run."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from graphopt.errors import CouldNotTell, NotEquivalent, UsageError
from graphopt.ir import Graph, encode
from graphopt.report.summary import Report
from graphopt.storage.wire import join
from graphopt.validation.verdict import Verdict


@dataclass
class Result:
    """What came out of a run. `graph` is yours to change; the input never was."""

    graph: Graph
    report: Report

    @property
    def verdict(self) -> Verdict:
        """What validation said of the result against the input."""
        return self.report.verdict

    @property
    def exit_code(self) -> int:
        """What the command line exits with: 0 validated, 1 different, 6 could not tell."""
        return self.report.exit_code

    def to_proto(self) -> onnx.ModelProto:
        """The result as one message with its weights inside; external data is read in.

        Raises UsageError when the model is larger than the 2 GB that a message can hold.
        """
        encoded = encode(self.graph)
        pieces = list(join(encoded.proto, encoded.store))
        if sum(map(len, pieces)) >= 2**31:
            raise UsageError("the model is larger than 2 GB and cannot be one message; save it to a file instead")
        made: onnx.ModelProto = onnx.ModelProto.FromString(b"".join(pieces))
        return made

    def raise_unless_passed(self) -> Result:
        """Raises NotEquivalent or CouldNotTell with the verdict's sentence; returns itself otherwise."""
        if self.verdict.exit_code == 1:
            raise NotEquivalent(self.verdict.sentence())
        if self.verdict.exit_code == 6:
            raise CouldNotTell(self.verdict.sentence())
        return self
