"""How the gradients of single training examples are distributed along an SGD trajectory, and how well each estimator of
their mean does.

    trace = gradist.run(data="digits", iterations=500)     # train, measure, trace
    trace.plot()
    trace = gradist.open("trace.h5")                       # also while a run still writes it
    m = gradist.measure(model, loss_fn, (inputs, targets)) # any nn.Module
    with gradist.per_example(model) as px:                 # in a loop of your own
        loss_fn(model(x), y).sum().backward()
    px.squared_norms()
    sweep = gradist.rf.sweep(n=[100, 1000], lr=[0.1])      # Random Features models
"""

import torch as _torch  # noqa: F401  the core links against its libraries

from gradist import rf
from gradist._core import Moments, __version__
from gradist.check import Check, check
from gradist.clustering import Clustering, cluster
from gradist.data import DataSplit, load_data
from gradist.gradient_norms import GradientNorms, gradient_norms
from gradist.measurement import Measurement, measure
from gradist.methods import Method, choices
from gradist.per_example import PerExample, per_example
from gradist.recording import rule
from gradist.sampler import StratifiedBatchSampler
from gradist.trace import Trace, open
from gradist.trajectory import run

__all__ = [
    "Check",
    "Clustering",
    "DataSplit",
    "GradientNorms",
    "Measurement",
    "Method",
    "Moments",
    "PerExample",
    "StratifiedBatchSampler",
    "Trace",
    "__version__",
    "check",
    "choices",
    "cluster",
    "gradient_norms",
    "load_data",
    "measure",
    "open",
    "per_example",
    "rf",
    "rule",
    "run",
]
