"""From a converted file to a release: checksums (files.py), the entry in a zoo's dictionary
(pretrained_dict.py), the upload (github.py).
"""
