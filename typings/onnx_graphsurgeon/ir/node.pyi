from dataclasses import dataclass
from typing import Any

class Node:
    @dataclass
    class AttributeRef:
        name: str
        type: Any

    op: str
    name: str
    domain: str | None
    inputs: Any
    outputs: Any
