"""The vector functions against long double, odd values, and where compiled kernels are kept."""

import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest

from qablate import simd
from qablate.simd import cos_sin, exp, load, pointer, store

EPS = {"float32": 2e-7, "float64": 2e-15}


@numba.njit(**simd.OPTIONS)
def evaluate(x, results):
    """cos, sin and exp of a whole number of vectors into the three rows of `results`."""
    source = pointer(x)
    for row in range(x.shape[0] // simd.lane_count(source)):
        cosine, sine = cos_sin(load(source, row))
        store(pointer(results[0]), row, cosine)
        store(pointer(results[1]), row, sine)
        store(pointer(results[2]), row, exp(load(source, row)))


def functions_of(numbers, dtype):
    """cos, sin, exp of any number of numbers."""
    padded = np.zeros(-(-len(numbers) // 16) * 16, dtype)
    padded[: len(numbers)] = numbers
    results = np.empty((3, len(padded)), dtype)
    evaluate(padded, results)
    return results[:, : len(numbers)]


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("limit", [1.0, 30.0, 1000.0, simd.ANGLE_LIMIT])
def test_cos_and_sin_hold_their_bound(dtype, limit):
    angles = np.random.default_rng(1).uniform(-limit, limit, 200_000).astype(dtype)
    cosine, sine, _ = functions_of(angles, dtype)
    exact = angles.astype(np.longdouble)
    assert np.abs(cosine - np.cos(exact)).max() < EPS[dtype]
    assert np.abs(sine - np.sin(exact)).max() < EPS[dtype]


@pytest.mark.parametrize(("dtype", "low", "high"), [("float32", -87, 88), ("float64", -708, 709)])
def test_exp_holds_its_bound(dtype, low, high):
    exponents = np.random.default_rng(2).uniform(low, high, 200_000).astype(dtype)
    got = functions_of(exponents, dtype)[2]
    exact = np.exp(exponents.astype(np.longdouble))
    assert (np.abs(got - exact) / exact).max() < {"float32": 2e-7, "float64": 1e-15}[dtype]


@pytest.mark.parametrize("dtype", EPS)
def test_nan_and_infinity_are_never_turned_into_numbers(dtype):
    cosine, sine, power = functions_of([np.nan, np.inf, -np.inf, 0, -1e6, 1e6], dtype)
    assert np.isnan(cosine[:3]).all() and np.isnan(sine[:3]).all()
    assert np.isnan(power[0])
    assert power[1:].tolist() == [np.inf, 0, 1, 0, np.inf]


@pytest.mark.parametrize("spoil", [
    lambda place: (place.parent.rmdir(), place.parent.write_text("")),
    pytest.param(lambda place: (place.mkdir(), os.chown(place, 1, -1)),
                 marks=pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")),
], ids=["cannot be written", "of somebody else"])
def test_cache_is_in_the_first_place_that_can_be_written_and_is_ours(monkeypatch, tmp_path, spoil):
    chosen, home, temporary = places = [tmp_path / name for name in ("chosen", "home", "temporary")]
    monkeypatch.setattr(simd.numba_config, "CACHE_DIR", str(chosen))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for place, name in zip(places, ("qablate", "qablate", f"qablate-{os.getuid()}"), strict=True):
        directory = simd.cache_directory("float32")
        assert directory.parent == place / name and directory != simd.cache_directory("float64")
        assert directory.name.startswith(f"{simd.qablate.__version__}-float32x{simd.lanes_of('float32')}-")
        shutil.rmtree(place / name)
        spoil(place / name)
    assert simd.cache_directory("float32") is None


@pytest.mark.parametrize(("name", "features", "n_bytes"), [
    ("x86-64-v4", None, 64), ("generic", "+avx512f,-avx512dq", 64), ("skylake-avx512", "-avx512f", 32)])
def test_vectors_of_a_chosen_processor(monkeypatch, name, features, n_bytes):
    monkeypatch.setattr(simd.numba_config, "CPU_NAME", name)
    monkeypatch.setattr(simd.numba_config, "CPU_FEATURES", features)
    assert simd._bytes_per_vector() == n_bytes


USE_KERNELS = """
import numpy, torch
from qablate.quantum import compiled as circuits
from qablate.ssm import compiled as scans
for module in (circuits, scans):
    module.check(torch.float32, torch.device("cpu"))
print(sum(sum(kernel(numpy.dtype("float32")).stats.cache_hits.values()) for module in (circuits, scans)
    for kernel in (module.forward_kernel, module.backward_kernel)))
"""


GRADIENTS = """
import hashlib, torch
from qablate.models.fused import Dropout
from qablate.quantum import Circuit, ansatz, circuit_kind, embedding, expectations
from qablate.ssm import selective_scan

torch.manual_seed(1)
circuit = Circuit(4, embedding(4) + ansatz(4, 2, first=4))
angles = torch.linspace(-3, 3, 503 * circuit.n_angles).view(503, -1).requires_grad_()
size = [(3, 40, 20), (3, 40, 20), (20, 5), (3, 40, 5), (3, 40, 5)]
parts = [torch.linspace(0.1, 1, torch.Size(shape).numel()).view(shape).requires_grad_() for shape in size]
y, last = selective_scan(*parts[:2], -parts[2], *parts[3:], backend="numba")
found = [expectations(circuit, Dropout(0.1)(angles), "numba"), y, last]
found.append(circuit_kind("mean_field", "numba").expectations(circuit, angles))
found += torch.autograd.grad(sum(value.sin().sum() for value in found), [angles, *parts])
print(*(hashlib.sha256(value.detach().numpy().tobytes()).hexdigest()[:12] for value in found))
"""


def test_kernels_round_alike_in_the_process_that_compiles_them_and_from_the_cache(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    cold, warm = (subprocess.run([sys.executable, "-c", GRADIENTS], env=environment, capture_output=True, text=True,
                                 check=True).stdout for _ in range(2))
    assert cold == warm
    assert list(tmp_path.rglob("*.nbc"))


@pytest.mark.full
def test_processes_share_one_cold_cache_and_survive_a_damaged_one(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def start():
        command = [sys.executable, "-c", USE_KERNELS]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    for process in [start(), start()]:
        process.communicate()
        assert process.returncode == 0
    assert start().communicate()[0].strip() == "4"  # the third finds every kernel
    kernels = list(Path(tmp_path).rglob("*.nbc"))
    assert len(kernels) == 4
    for kernel in kernels:
        kernel.write_bytes(kernel.read_bytes()[:1000])
    assert start().communicate()[0].strip() == "0"  # compiled anew
    assert start().communicate()[0].strip() == "4"


PRIVATE = {
    "numba.core.cgutils:get_or_insert_function": "calls of LLVM's own functions, such as fma",
    "numba.core.typing.templates:AbstractTemplate": "types of operators on vectors",
    "numba.core.typing.templates:infer_global": "registers these types",
    "numba.core.typing.templates:signature": "what an operator takes and returns",
    "numba.core.caching:FunctionCache.load_overload": "kernels from the cache on disk",
    "numba.core.caching:FunctionCache.save_overload": "kernels to the cache on disk",
    "numba.core.dispatcher:Dispatcher.enable_caching": "gives a kernel its cache, in `_cache`",
    "numba.core.registry:cpu_target.target_context.codegen": "the processor in the name of the cache's folder",
    "numba.core.codegen:CPUCodegen.magic_tuple": "the same",
    "numba.core.config:CACHE_DIR": "where the cache lies",
    "numba.core.config:CPU_NAME": "lanes of a chosen processor",
    "numba.core.config:CPU_FEATURES": "the same",
}
"""What simd.py uses of numba beyond its documented interface (docs/ecosystem.md: how to move the pin)."""


@pytest.mark.parametrize("name", PRIVATE)
def test_private_parts_of_numba_are_where_simd_looks(name):
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"numba {numba.__version__} has moved {name} ({PRIVATE[name]}): {error}")


WITHOUT_KERNELS = """
import sys, torch
from qablate.quantum import Circuit, ansatz, expectations
from qablate.ssm import selective_scan
assert "numba" not in sys.modules, "numba is imported before a kernel is needed"
{}
x = torch.rand(2, 4, 3)
for _ in range(2):
    y, _ = selective_scan(x, x, -x[0, :3, :2], x[..., :2], x[..., :2])
    m = expectations(Circuit(2, ansatz(2, 1)), torch.rand(5, 10))
assert y.shape == (2, 4, 3) and m.shape == (5, 6)
"""


@pytest.mark.parametrize(("broken", "named"), [
    ("sys.modules['numba'] = None", "numba"),
    ("import numba.core.caching as caching; del caching.FunctionCache", "cannot import name 'FunctionCache'"),
], ids=["missing", "moved"])
def test_where_numba_is_missing_or_has_moved_plain_torch_serves_and_says_so_once(broken, named):
    done = subprocess.run([sys.executable, "-c", WITHOUT_KERNELS.format(broken)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if named in line]
    assert len(lines) == 2, done.stderr    # circuits, scans
