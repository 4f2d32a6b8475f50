"""Alignment found by running both models: no names, no order, no dictionaries needed."""
