"""What a conversion did: the Report (report.py), as a piece of a notebook (summary.py), as a page
of its own (page.py, template/).
"""
