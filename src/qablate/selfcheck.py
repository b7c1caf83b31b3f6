"""Whether a compiled kernel may serve: it must import, compile and agree with the plain version.

Every kernel brings a check that runs it and the plain version on one small input, values and gradients. The
verdict holds for the process: compilers, caches on disk and processors differ between machines, so a kernel
that passed elsewhere has proved nothing here.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
"""Largest accepted deviation from the plain version, relative to the largest number of each tensor."""


class SelfCheckError(Exception):
    """A compiled kernel disagrees with the plain version."""


@functools.cache
def obstacle(check: Callable[[torch.dtype], None], dtype: torch.dtype) -> str | None:
    """Why the kernel that `check` tests must not serve `dtype` (one clause, for people); None if it may.

    `check` raises what stops the kernel. It runs with gradients on, whatever mode the caller is in.
    """
    if dtype not in TOLERANCE:
        return f"{dtype} is not supported, only float32 and float64"
    try:
        with torch.inference_mode(False), torch.enable_grad():
            # traced by torch.compile, every check would fail and plain torch would serve
            (torch.compiler.disable(check) if "torch._dynamo" in sys.modules else check)(dtype)
    except ModuleNotFoundError as error:
        return f"{error.name or 'a package'} is not installed"
    except Exception as error:  # a compiler can fail in any way, and the plain version always works
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def require_agreement(names: Sequence[str], fast: Sequence[Tensor], plain: Sequence[Tensor]) -> None:
    """Raise SelfCheckError for the first tensor that deviates by more than TOLERANCE."""
    for name, got, expected in zip(names, fast, plain, strict=True):
        bound = TOLERANCE[got.dtype] * max(1.0, float(expected.detach().abs().max()))
        deviation = float((got.detach() - expected.detach()).abs().max())
        if not deviation <= bound:  # also true for NaN
            raise SelfCheckError(f"{name} deviates by {deviation:.1e} from the plain version")
