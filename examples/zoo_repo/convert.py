"""Make the files in weights/. The checkpoint is random here; a zoo's is the one that was published.
"""

import torch
from zoo.tiny import WEIGHTS, tiny_keras, tiny_torch

import keras_torch_convert as ktc

torch.manual_seed(0)
original = tiny_torch()
if not (WEIGHTS / "tiny.pth").exists():
    with torch.no_grad():
        original[1].running_mean.normal_()
        original[1].running_var.uniform_(0.5, 1.5)
    torch.save(original.state_dict(), WEIGHTS / "tiny.pth")
print(ktc.convert(original, tiny_keras(), save=WEIGHTS / "tiny_imagenet.h5"))
