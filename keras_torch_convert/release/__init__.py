"""From a converted file to a release.

`files.py` has checksums and expected names, `pretrained_dict.py` the entry in a zoo's dictionary,
`github.py` the upload.
"""
