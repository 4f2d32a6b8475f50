"""Alignment from a checkpoint alone: by shapes, kinds of layers, names and order. A proposal with a
confidence for each weight, never a proof.
"""
