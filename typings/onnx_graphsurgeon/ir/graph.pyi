from typing import Any

class Graph:
    DEFAULT_OPSET: int
    OPSET_FUNC_MAP: Any
    GLOBAL_FUNC_MAP: Any
    name: str
    doc_string: str
    producer_name: str
    producer_version: str
    import_domains: Any
    ir_version: int | None
    name_idx: int
