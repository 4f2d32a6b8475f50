"""What the C core is measured against: slow Python twins, and the frozen answers of the original.
"""
