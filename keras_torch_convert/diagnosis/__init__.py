"""Where two models part and why: causes are tried before they are named.

`Diagnosis` runs both models, finds the points where they part (`locator`), collects what stands
around one (`context`), and asks the rules of `causes` about it. `unaligned` does the same for
models whose layers could not all be aligned.
"""
