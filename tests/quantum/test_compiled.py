"""What the compiled circuits promise beyond agreement with PennyLane (test_circuits.py holds that)."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from qablate.quantum import Circuit, Gate, ansatz, embedding, evolve, expectations, measure, states
from qablate.simd import ANGLE_LIMIT, lanes_of

DTYPES = (torch.float32, torch.float64)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
MIXED = Circuit(4, (Gate("RZ", (2,), 0), *embedding(4), Gate("CRX", (3, 0), 5), *ansatz(4, 1, 2), Gate("RX", (1,), 7),
                    Gate("RY", (1,), 7), Gate("RZ", (3,), 21)))


def inputs(circuit, batch, dtype=torch.float64, scale=2.0):
    generator = torch.Generator().manual_seed(batch)
    angles = scale * torch.randn(batch, circuit.n_angles, generator=generator)
    initial = torch.randn(batch, 2**circuit.n_qubits, generator=generator, dtype=torch.complex64)
    return angles.to(dtype).requires_grad_(), initial.to(dtype.to_complex()).requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_do_not_depend_on_the_place_in_the_batch(dtype):
    lanes = lanes_of(str(dtype).removeprefix("torch."))
    angles, initial = inputs(MIXED, 2 * lanes + 3, dtype)
    order = torch.randperm(len(angles), generator=torch.Generator().manual_seed(0))

    def results(rows):
        a, psi = angles.detach()[rows].requires_grad_(), initial.detach()[rows].requires_grad_()
        measured, evolved = expectations(MIXED, a, "numba"), evolve(MIXED, a, psi, "numba")
        loss = measured.cos().sum() + evolved.real.cos().sum() + evolved.imag.sin().sum()
        return measured, evolved, *torch.autograd.grad(loss, (a, psi))

    for straight, shuffled in zip(results(torch.arange(len(angles))), results(order), strict=True):
        assert torch.equal(straight[order], shuffled)


def test_threads_do_not_disturb_one_another():
    angles, _ = inputs(MIXED, 400, torch.float32)
    expected = expectations(MIXED, angles.detach(), "numba")
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda _: expectations(MIXED, angles.detach(), "numba"), range(40))
    assert all(torch.equal(result, expected) for result in results)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_infinity_stay_visible_and_in_their_sample(bad):
    angles, initial = inputs(MIXED, 20, torch.float32)
    others = torch.arange(20) != 3
    with torch.no_grad():
        clean = expectations(MIXED, angles, "numba")
        angles[3, 8], initial[3, 5] = bad, bad
    measured = expectations(MIXED, angles, "numba")
    assert measured[3].isnan().all() and torch.equal(measured[others], clean[others])
    for psi in (states(MIXED, angles, "numba"), evolve(MIXED, angles, initial, "numba"), measure(initial, "numba")):
        assert not psi[3].isfinite().all() and psi[others].isfinite().all()
    weights = torch.ones(20, 12)
    weights[4, 0] = torch.nan
    (grad,) = torch.autograd.grad((measured * weights).sum(), angles)
    others[4] = False
    assert grad[3].isnan().any() and grad[4].isnan().any() and grad[others].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_angles_beyond_the_fast_reduction_are_exact(dtype):
    angles, _ = inputs(MIXED, 20, dtype)
    with torch.no_grad():
        angles[1, 2], angles[17, 9], angles[5, 0] = 3 * ANGLE_LIMIT, -1e20, 7e30
    got = expectations(MIXED, angles, "numba")
    expected = expectations(MIXED, angles.double(), "reference")
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=TOLERANCE[dtype])


def test_memory_kept_for_the_backward_pass():
    circuit = Circuit(6, embedding(6) + ansatz(6, 2, 6))
    angles, _ = inputs(circuit, 3200, torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.nbytes), lambda _: None):
        expectations(circuit, angles, "numba")
    assert 0 < sum(kept) < 3e6
