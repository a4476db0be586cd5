"""The study: run specs, tables, published numbers, claims, costs and the store of results. Does not import torch.

In a notebook: `from cds_lib.study import compare, open_study, paired, save, show, theme` (loaded on first use).
"""

from importlib.util import find_spec

from cds_lib.extras import extra
from cds_lib.lazy import on_first_use

PACKAGES = (
    "bs4 ipykernel IPython jinja2 jupyter_client markupsafe matplotlib nbclient nbconvert nbformat pandas "
    "papermill PIL pygments scipy seaborn sklearn submitit tqdm typst yaml"
).split()
with extra("study"):  # fail now, not after hours of training
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise ModuleNotFoundError(name=missing[0])

__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
