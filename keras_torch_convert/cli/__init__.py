"""The command `keras-torch-convert`: one small file for each command, and what they share.

`main.py` finds the command, tells errors and gives the number of the exit (`exits.py`).
`options.py` has the options that several commands take, `models.py` makes models of names and
files, `screen.py` prints.
"""
