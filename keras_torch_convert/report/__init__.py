"""What a conversion did, and how it is shown.

`report.py` has the Report, `data.py` what it holds, `layer_table.py` both lists of layers side by
side. `notebook.py` and `page.py` show a report as HTML.
"""
