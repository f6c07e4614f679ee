"""Does the result still hold? Feeds, comparison under a contract, budgets, and the verdict.

Light names only: importing this package imports neither numpy nor onnx. The work itself is in
`graphopt.validation.validate` (`validate`, `Validator`) and `graphopt.validation.feeds`
(`FeedPlan`, `gather`).
"""

from graphopt.validation.budget import Budget, parse_budget, parse_budgets
from graphopt.validation.verdict import BudgetResult, Outcome, OutputReport, Verdict

__all__ = ["Budget", "BudgetResult", "Outcome", "OutputReport", "Verdict", "parse_budget", "parse_budgets"]
