"""The command `keras-torch-convert`: one file for each command, and what they share.

`main.py` finds the command, reports errors and gives the exit code. `options.py` has the options
that several commands take, `values.py` their types, `models.py` makes models of names and files,
`pairing.py` converts as the options say, `screen.py` prints. No module may bear the name of a
public function, so the commands' files end in `_command`.
"""
