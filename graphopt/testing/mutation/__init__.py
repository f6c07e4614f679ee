"""Mutation of passes: each side condition flipped, one at a time, to see whether anything notices.

    python -m graphopt.testing.mutation --passes eliminate,fold --minutes 30
    python -m graphopt.testing.mutation --passes no-op-slices --sample 40

`edits` finds what can be changed in a file, `sites` names each change so that it is known again, `cover`
says which tests run which lines, `warm` carries a change out in a fork of a process that has everything
loaded, `drawn` holds the changed pass to its laws on random models and shows it to the validator on real
ones, `judged` knows the changes that were looked at and found to change nothing, `report` counts.
"""
