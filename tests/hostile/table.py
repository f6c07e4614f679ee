"""The table of hostile models: all families, one after the other."""

from __future__ import annotations

import kernel_cases  # noqa: F401 - more rows of FOLDS
from bomb_cases import BOMBS
from casebook import Case
from effect_cases import EFFECTS
from external_cases import EXTERNAL
from file_cases import FILES
from fold_cases import FOLDS
from function_cases import FUNCTIONS
from graph_cases import GRAPHS
from tensor_cases import TENSORS
from type_cases import TYPES

FAMILIES = (FILES, EXTERNAL, GRAPHS, FUNCTIONS, TENSORS, TYPES, EFFECTS, FOLDS, BOMBS)
CASES: list[Case] = [one for family in FAMILIES for one in family.cases]
