"""What operators make of dtypes, shapes and small integer values: one rule an operator."""
