"""graphopt in other people's workflows: a pre-commit hook, a step of a GitHub workflow."""
