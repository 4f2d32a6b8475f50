"""One Plan for all sizes of an architecture: patterns learned from Plans of small members.

names.py reads names as forms with numbers, sizes.py fits expressions to shapes, index_maps.py and
learning.py find the patterns, matching.py makes the Plan of another member, stored_paths.py and
unbuilt.py that of a file without a model, family_file.py keeps patterns in a file, table.py and
python_module.py show them.
"""
