"""A verdict on the fit: does the network overfit, since when, and what to do about it.

Pure: numbers in, a message out; no torch, no clock, no files. `verdict` judges two learning curves, `FitTracker` does
the same while they grow, `should_stop` says whether a verdict is sure enough to end a training, `why_it_goes_on` what
it lacks.
"""

from trana.trainer.fit.judging import should_stop, verdict, why_it_goes_on
from trana.trainer.fit.tracker import FitTracker

__all__ = ["FitTracker", "should_stop", "verdict", "why_it_goes_on"]
