"""Weights that came with nodes of another model: their bytes are found in that model's store."""

from __future__ import annotations

from onnx import AttributeProto, SparseTensorProto, TensorProto

from graphopt.ir.store import EMBEDDED, Store, refer


class Transplant:
    """Makes tensors of other stores readable from `target`, the store of the model being written.

    `home` is the store that the model was read with; what came from it is left as it is.
    """

    def __init__(self, home: Store | None, target: Store) -> None:
        self.home = home
        self.target = target

    def tensor(self, proto: TensorProto, store: Store | None) -> None:
        """Let `proto`, whose bytes are in `store`, refer to the target store; nothing is copied."""
        if store is None or store is self.home or proto.data_location != TensorProto.EXTERNAL:
            return
        payload = store.payload(proto)
        if payload is not None:
            refer(proto, EMBEDDED, *self.target.add(payload))

    def sparse(self, proto: SparseTensorProto, store: Store | None) -> None:
        """The same for both tensors of a sparse one."""
        self.tensor(proto.values, store)
        self.tensor(proto.indices, store)

    def attribute(self, proto: AttributeProto, store: Store | None) -> None:
        """The same for every tensor of an attribute that holds no graph."""
        if store is None or store is self.home:
            return
        if proto.HasField("t"):
            self.tensor(proto.t, store)
        if proto.HasField("sparse_tensor"):
            self.sparse(proto.sparse_tensor, store)
        for tensor in proto.tensors:
            self.tensor(tensor, store)
        for sparse in proto.sparse_tensors:
            self.sparse(sparse, store)
