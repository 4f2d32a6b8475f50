"""Keras models and Keras files, read and written."""
