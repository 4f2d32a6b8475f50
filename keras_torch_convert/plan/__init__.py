"""The Plan: what it is (plan.py) and what its expressions are made of (expressions.py), its file
(file*.py), and how a checkpoint differs from it.
"""
