"""Plain data that travels between the rooms: tensors, sources, targets, groups by layer, layouts of
files.
"""
