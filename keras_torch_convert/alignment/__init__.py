"""Alignment: which PyTorch layer goes to which Keras layer. One module for each way of saying or
finding it.
"""
