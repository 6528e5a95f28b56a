"""Optimizers with ask and tell, a small state, and a stopping rule.

>>> from efaas.api.session import Optimizer
>>> optimizer = make_optimizer(Optimizer.model_validate({"spsa": {}}), np.zeros(4), seed=7)
>>> asked = optimizer.ask()                       # 50 points: calibration of the step size
>>> optimizer.tell(Tell(energies, std_errors))
>>> json.dumps(optimizer.state())                 # restore_optimizer(json.loads(...)) goes on to the bit

Importing this package imports numpy and nothing heavier; SciPy and `cma` are imported by the methods that
use them.
"""

from efaas.optimizers.base import Ask, Estimate, Optimizer, Outlook, Tell
from efaas.optimizers.best import BestSeen
from efaas.optimizers.factory import make_optimizer, restore_optimizer
from efaas.optimizers.stopping import StoppingRule, StopReason

__all__ = [
    "Ask",
    "BestSeen",
    "Estimate",
    "Optimizer",
    "Outlook",
    "StopReason",
    "StoppingRule",
    "Tell",
    "make_optimizer",
    "restore_optimizer",
]
