from typing import Any

class Tensor:
    name: str
    inputs: Any
    outputs: Any
    def __init__(self) -> None: ...
    def is_empty(self) -> bool: ...
    def i(self, tensor_idx: int = 0, producer_idx: int = 0) -> Tensor: ...
    def o(self, consumer_idx: int = 0, tensor_idx: int = 0) -> Tensor: ...

class Variable(Tensor):
    type: Any
    def __init__(self, name: str, dtype: Any = None, shape: Any = None, type: str = "tensor_type") -> None: ...  # noqa: A002

class Constant(Tensor):
    data_location: Any
    def __init__(self, name: str, values: Any, data_location: Any = None, export_dtype: Any = None) -> None: ...

class LazyValues:
    tensor: Any
    shape: Any
    dtype: Any
    nbytes: Any
    def load(self) -> Any: ...
