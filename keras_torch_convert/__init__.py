"""Carry pretrained PyTorch weights into Keras models: aligned, checked, proven equal.

    import keras_torch_convert as ktc

    report = ktc.convert(torch_model, keras_model, save="model.h5")

Importing the package needs NumPy, h5py and tqdm. The functions that meet a model import PyTorch or
Keras.
"""

from importlib.util import find_spec as _find_spec

if _find_spec(f"{__name__}._core") is None:
    raise ImportError(
        f"keras_torch_convert is not built in {__path__[0]}: its C extension is missing; run "
        "`pip install -e .` in the folder that holds pyproject.toml (it needs a C compiler), or "
        "start Python somewhere else to import the installed package")

from .alignment.parts import concat, split, stack
from .api.aligning import align, classic_dictionaries
from .api.batch.results import Results
from .api.batch.run import apply_many
from .api.classic import keras_reload_from_torch_model, keras_reload_stacked_state_dict
from .api.classic_names import (align_layer_names_multi_stage, match_layer_names_with_torch,
                                state_dict_stack_by_layer)
from .api.conversion import convert
from .api.family_plans import learn_family, load_weights
from .api.file_conversion import apply
from .api.state_dicts import to_state_dict
from .api.verification import verify
from .comparison.divergence import FirstDivergence
from .comparison.verdict import Comparison
from .errors import (AlignmentError, ClassCountError, ConversionError, DictionaryError,
                     ManifestError, NotEqualError, PairError, PlanError, PluginError,
                     PredictionError, SaveError, SourceError, TargetError, TransferError,
                     UnsafeFileError, UploadError)
from .plan.ledger import LedgerEntry
from .plan.plan import FamilyPlan, Plan
from .plan.plan_cache import PlanCache
from .report.report import Report
from .spec.source import Source
from .torch_io.reader import read

__version__ = "0.1.0"

__all__ = [
    "AlignmentError", "ClassCountError", "Comparison", "ConversionError", "DictionaryError",
    "FamilyPlan", "FirstDivergence", "LedgerEntry", "ManifestError", "NotEqualError", "PairError",
    "Plan", "PlanCache", "PlanError", "PluginError", "PredictionError", "Report", "Results",
    "SaveError", "Source", "SourceError", "TargetError", "TransferError", "UnsafeFileError",
    "UploadError", "align", "align_layer_names_multi_stage", "apply", "apply_many",
    "classic_dictionaries", "concat", "convert", "keras_reload_from_torch_model",
    "keras_reload_stacked_state_dict", "learn_family", "load_weights",
    "match_layer_names_with_torch", "read", "split", "stack", "state_dict_stack_by_layer",
    "to_state_dict", "verify"
]
