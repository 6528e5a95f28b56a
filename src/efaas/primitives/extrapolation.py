"""Zero-noise extrapolation: from values at amplified noise to the value without any.

The circuit is run with its noise amplified by factors λ (`efaas.primitives.circuits.fold`), and a model of
the value as a function of λ is continued to λ = 0 (Temme, Bravyi and Gambetta, Phys. Rev. Lett. 119, 180509;
Li and Benjamin, Phys. Rev. X 7, 021050). Values at different λ are independent, with known standard errors,
so each fit is a weighted least-squares fit and the standard error of its value at 0 is that of the fit.

- **linear**: E(λ) = a + bλ; the estimate is a.
- **exponential**: E(λ) = c + a·exp(-bλ), where c is the value on the maximally mixed state, which is known:
  the coefficient of the identity. Global depolarising noise is exactly of this form. The fit is that of
  ln|E - c| with weights ((E - c)/σ)², which is first order in σ. Where some E - c is not above two standard
  errors, or signs differ, the logarithm says nothing: the linear fit is taken.

All functions are of arrays; the first axis is that of the factors.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Extrapolator = Literal["linear", "exponential"]


def linear(factors: ArrayLike, values: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Weighted straight-line fit, at 0.

    Args:
        factors: shape (factors,), at least two different ones.
        values: shape (factors, …).
        errors: standard errors, same shape. Where one is 0 (nothing was measured, as for a multiple of the
            identity), all factors weigh the same and the standard error is propagated from `errors`.

    Returns:
        Values and standard errors at 0, shape (…).
    """
    x = np.asarray(factors, dtype=np.float64).reshape(-1, *[1] * (values.ndim - 1))
    certain = (errors <= 0).any(axis=0)
    weights = np.where(certain, 1.0, 1.0 / np.square(np.where(errors > 0, errors, 1.0)))
    total, first, second = (np.sum(weights * x**power, axis=0) for power in (0, 1, 2))
    # The value at 0 is linear in the values: Σ_i share_i E_i.
    shares = weights * (second - first * x) / (total * second - first**2)
    return np.sum(shares * values, axis=0), np.sqrt(np.sum(np.square(shares * errors), axis=0))


def exponential(
    factors: ArrayLike, values: Floats, errors: Floats, asymptote: ArrayLike = 0.0
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Exponential fit with a known asymptote, at 0; linear where it cannot be made.

    Args:
        factors: as for `linear`.
        values: as for `linear`.
        errors: as for `linear`.
        asymptote: c, shape (…).

    Returns:
        Values and standard errors at 0, and whether the exponential fit was made, shape (…).
    """
    limit = np.asarray(asymptote, dtype=np.float64)
    signal = values - limit
    size = np.abs(signal)
    fits = (
        (np.sign(signal) == np.sign(signal[0])).all(axis=0)
        & (size > 2 * errors).all(axis=0)
        & (size > 0).all(axis=0)
    )
    safe = np.where(fits, size, 1.0)
    log_value, log_error = linear(factors, np.log(safe), np.where(fits, errors / safe, 1.0))
    # A fit that says that noise makes the signal larger by orders of magnitude is no fit.
    fits &= log_value < np.log(np.where(fits, safe.max(axis=0), 1.0)) + np.log(100.0)
    amplitude = np.exp(np.where(fits, log_value, 0.0))
    straight, straight_error = linear(factors, values, errors)
    value = np.where(fits, limit + np.sign(signal[0]) * amplitude, straight)
    return value, np.where(fits, amplitude * log_error, straight_error), fits


def extrapolate(
    extrapolator: Extrapolator,
    factors: ArrayLike,
    values: Floats,
    errors: Floats,
    asymptote: ArrayLike = 0.0,
) -> tuple[Floats, Floats]:
    """`linear` or `exponential` by name: values and standard errors at 0."""
    if extrapolator == "linear":
        return linear(factors, values, errors)
    value, error, _ = exponential(factors, values, errors, asymptote)
    return value, error
