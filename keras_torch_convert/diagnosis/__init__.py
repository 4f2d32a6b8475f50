"""Where two models part and why: the first divergence, and causes that were tried out before they
are named.
"""
