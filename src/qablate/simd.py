"""Explicit SIMD values for numba kernels: a vector type, its arithmetic, sin/cos, exp, a cache on disk.

numba has neither `restrict` nor `omp simd`, so loops over lanes rarely become vector code. A kernel that
holds its lanes in values of type `<16 x float>` or `<8 x double>` needs no such luck: LLVM keeps them in
registers and splits them where the machine's registers are narrower (AVX2, NEON).

Kernels see memory as pointers into arrays that the caller owns and keeps alive. `row` counts vectors, so
row r starts at element r * lanes. Import this module only when a kernel is needed: it imports numba.

Source: numba's low-level extension API (types, data models, intrinsics); Cody and Waite, "Software Manual
for the Elementary Functions" (1980), for the argument reductions.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import operator
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

import qablate

numba_config: Any = numba.config  # its attributes are made at run time
intrinsic: Any = numba.extending.intrinsic  # the callers of intrinsics leave out the typing context
OPTIONS: Any = {"error_model": "numpy", "boundscheck": False, "nogil": True}
CONTRACT = ("contract",)  # a * b + c may become one instruction; nothing else may be rearranged
ANGLE_LIMIT = 1e5  # radians; the argument reduction of `cos_sin` holds its error bound up to here

# Inlined by force: left to the compiler, a kernel in the process that compiles it and the same kernel from the cache
# call differently compiled copies, which round differently.
inline: Callable[[Callable[..., Any]], Any] = numba.njit(**OPTIONS, forceinline=True)


# Lanes.


def _bytes_per_vector() -> int:
    """64 with AVX-512, else 32: two AVX or NEON registers' worth still beats one."""
    if numba_config.CPU_NAME or numba_config.CPU_FEATURES:  # the user chose a target instead of the host
        features = f"{numba_config.CPU_NAME} {numba_config.CPU_FEATURES}"
        return 64 if "+avx512f" in features or "x86-64-v4" in features else 32
    return 64 if llvmlite.binding.get_host_cpu_features().get("avx512f", False) else 32


BYTES_PER_VECTOR = _bytes_per_vector()


def lanes_of(dtype: Any) -> int:
    """How many numbers of this numpy float type one vector holds."""
    return BYTES_PER_VECTOR // np.dtype(dtype).itemsize


class Vector(types.Type):
    """The numba type of one vector of floats."""

    def __init__(self, base: Any, lanes: int) -> None:
        self.base = base
        self.lanes = lanes
        super().__init__(name=f"{base}x{lanes}")


VECTORS = {base: Vector(base, lanes_of(base.name)) for base in (types.float32, types.float64)}


def _llvm(vector: Vector) -> ir.VectorType:
    """The LLVM type of a vector."""
    return ir.VectorType(ir.FloatType() if vector.base == types.float32 else ir.DoubleType(), vector.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    """A vector is a plain LLVM value."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, _llvm(vector))


# Arithmetic.


def _register(symbol: Any, n_operands: int, instruction: str, flags: tuple[str, ...]) -> None:
    """Give an operator of vectors of one type its LLVM instruction."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == n_operands and isinstance(args[0], Vector) and set(args) == {args[0]}:
                return signature(args[0], *args)
            return None

    @lower_builtin(symbol, *[Vector] * n_operands)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=flags)


_register(operator.add, 2, "fadd", CONTRACT)
_register(operator.sub, 2, "fsub", CONTRACT)
_register(operator.mul, 2, "fmul", CONTRACT)
_register(operator.truediv, 2, "fdiv", CONTRACT)
_register(operator.neg, 1, "fneg", ())


# Memory.


@intrinsic
def pointer(typingctx: Any, array: Any) -> Any:
    """The address of a C-contiguous array's first element; the caller must keep the array alive."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def lane_count(typingctx: Any, base: Any) -> Any:
    """How many numbers one vector at this pointer holds."""
    lanes = VECTORS[base.dtype].lanes

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(64), lanes)

    return types.intp(base), codegen


def _row_address(builder: Any, vector: Vector, base: Any, row: Any) -> Any:
    return builder.gep(base, [builder.mul(row, ir.Constant(ir.IntType(64), vector.lanes))])


@intrinsic
def advance(typingctx: Any, base: Any, row: Any) -> Any:
    """The pointer `row` vectors further on."""
    vector = VECTORS[base.dtype]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _row_address(builder, vector, *args)

    return base(base, types.intp), codegen


@intrinsic
def shift(typingctx: Any, base: Any, index: Any) -> Any:
    """The pointer `index` numbers further on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return base(base, types.intp), codegen


def _vector_address(builder: Any, vector: Vector, base: Any, row: Any) -> Any:
    return builder.bitcast(_row_address(builder, vector, base, row), _llvm(vector).as_pointer())


@intrinsic
def load(typingctx: Any, base: Any, row: Any) -> Any:
    """The vector at `row`."""
    vector = VECTORS[base.dtype]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_vector_address(builder, vector, *args), align=vector.base.bitwidth // 8)

    return vector(base, types.intp), codegen


@intrinsic
def store(typingctx: Any, base: Any, row: Any, value: Any) -> Any:
    """Write a vector at `row`."""
    vector = VECTORS[base.dtype]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _vector_address(builder, vector, args[0], args[1])
        builder.store(args[2], address, align=vector.base.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(base, types.intp, vector), codegen


@intrinsic
def get(typingctx: Any, base: Any, index: Any) -> Any:
    """The single number at element `index`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.gep(args[0], [args[1]]))

    return base.dtype(base, types.intp), codegen


@intrinsic
def put(typingctx: Any, base: Any, index: Any, value: Any) -> Any:
    """Write a single number at element `index`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(base, types.intp, base.dtype), codegen


@intrinsic
def splat(typingctx: Any, base: Any, value: Any) -> Any:
    """A vector with `value` in every lane, of the type that lives at `base`."""
    vector = VECTORS[base.dtype]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        undefined = ir.Constant(_llvm(vector), ir.Undefined)
        first = builder.insert_element(undefined, args[1], ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
        return builder.shuffle_vector(first, undefined, mask)

    return vector(base, base.dtype), codegen


@intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """The sum of the lanes of a vector, in an order that never changes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = _llvm(value).element
        full_name = f"llvm.vector.reduce.fadd.v{value.lanes}f{value.base.bitwidth}"
        shape = ir.FunctionType(number, [number, args[0].type])
        function = cgutils.get_or_insert_function(builder.module, shape, full_name)
        return builder.call(function, [ir.Constant(number, -0.0), *args], fastmath=("reassoc",))

    return value.base(value), codegen


@inline
def read_part(source: Any, index: int, count: int, target: Any, row: int) -> None:
    """Copy `count` numbers from element `index` of `source` to the first lanes at `row`; zero the others."""
    lanes = lane_count(target)
    if count == lanes:
        store(target, row, load(shift(source, index), 0))
        return
    store(target, row, splat(target, 0.0))
    for lane in range(count):
        put(target, row * lanes + lane, get(source, index + lane))


@inline
def write_part(source: Any, row: int, count: int, target: Any, index: int) -> None:
    """Copy the first `count` lanes at `row` of `source` to `target`, from element `index` on."""
    lanes = lane_count(source)
    if count == lanes:
        store(shift(target, index), 0, load(source, row))
        return
    for lane in range(count):
        put(target, index + lane, get(source, row * lanes + lane))


@intrinsic
def _transpose(typingctx: Any, source: Any, source_step: Any, target: Any, target_step: Any) -> Any:
    """Copy a square block of lanes x lanes numbers, rows becoming columns; steps are numbers between rows."""
    vector = VECTORS[source.dtype]
    lanes = vector.lanes

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def address(base: Any, step: Any, line: int) -> Any:
            number = builder.gep(base, [builder.mul(step, ir.Constant(ir.IntType(64), line))])
            return builder.bitcast(number, _llvm(vector).as_pointer())

        align = vector.base.bitwidth // 8
        lines = [builder.load(address(args[0], args[1], line), align=align) for line in range(lanes)]
        width = 1
        while width < lanes:  # exchange the off-diagonal blocks of this width
            integers = ir.VectorType(ir.IntType(32), lanes)
            even = [lane if not lane & width else lanes + lane - width for lane in range(lanes)]
            odd = [lane + width if not lane & width else lanes + lane for lane in range(lanes)]
            keep, cross = ir.Constant(integers, even), ir.Constant(integers, odd)
            for line in range(lanes):
                if not line & width:
                    upper, lower = lines[line], lines[line + width]
                    lines[line] = builder.shuffle_vector(upper, lower, keep)
                    lines[line + width] = builder.shuffle_vector(upper, lower, cross)
            width *= 2
        for line in range(lanes):
            builder.store(lines[line], address(args[2], args[3], line), align=align)
        return context.get_dummy_value()

    return types.void(source, types.intp, source, types.intp), codegen


@inline
def read_columns(source: Any, index: int, n_columns: int, count: int, target: Any) -> None:
    """Spread a table over lanes: `count` lines of `n_columns` numbers, from element `index` of `source` on,
    become `n_columns` rows of `target`; lanes without a line are zero.
    """
    lanes = lane_count(target)
    if count == lanes and n_columns >= lanes:
        for column in range(0, n_columns, lanes):
            column = min(column, n_columns - lanes)  # the last block overlaps the one before
            _transpose(shift(source, index + column), n_columns, advance(target, column), lanes)
        return
    for column in range(n_columns):
        store(target, column, splat(target, 0.0))
        for line in range(count):
            put(target, column * lanes + line, get(source, index + line * n_columns + column))


@inline
def write_columns(source: Any, count: int, target: Any, index: int, n_columns: int) -> None:
    """The reverse of `read_columns`: rows of `source` to lines of `target`, from element `index` on."""
    lanes = lane_count(source)
    if count == lanes and n_columns >= lanes:
        for column in range(0, n_columns, lanes):
            column = min(column, n_columns - lanes)
            _transpose(advance(source, column), lanes, shift(target, index + column), n_columns)
        return
    for line in range(count):
        for column in range(n_columns):
            put(target, index + line * n_columns + column, get(source, column * lanes + line))


# Elementary functions.


class _Emitter:
    """Emits vector arithmetic on one builder; numbers become constants of the vector type."""

    def __init__(self, builder: Any, vector: Vector) -> None:
        self.builder = builder
        self.vector = vector

    def constant(self, number: float) -> Any:
        return ir.Constant(_llvm(self.vector), [float(number)] * self.vector.lanes)

    def call(self, name: str, *operands: Any) -> Any:
        llvm = _llvm(self.vector)
        full_name = f"llvm.{name}.v{self.vector.lanes}f{self.vector.base.bitwidth}"
        shape = ir.FunctionType(llvm, [llvm] * len(operands))
        function = cgutils.get_or_insert_function(self.builder.module, shape, full_name)
        return self.builder.call(function, operands)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once."""
        return self.call("fma", a, b, c)

    def minus_multiple(self, x: Any, multiple: Any, parts: tuple[float, ...]) -> Any:
        """x - multiple * sum(parts), one part after the other so that the first ones are exact."""
        for part in parts:
            x = self.fma(multiple, self.constant(-part), x)
        return x

    def polynomial(self, u: Any, coefficients: np.ndarray) -> Any:
        """Horner's rule; coefficients ascend."""
        value = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = self.fma(value, u, self.constant(coefficient))
        return value


def _fit(function: Callable[[np.ndarray], np.ndarray], degree: int, domain: tuple[float, float]) -> np.ndarray:
    """Ascending coefficients of the polynomial through the Chebyshev points, close to the best."""
    series = np.polynomial.chebyshev.Chebyshev.interpolate(function, degree, domain=list(domain))
    return series.convert(kind=np.polynomial.Polynomial).coef


_SQUARES = (0.0, 1.01 * (np.pi / 2) ** 2)  # r^2 for r in [-pi/2, pi/2], with a margin for rounding
_HALF_LN2 = (-0.35, 0.35)


def _sinc(u: np.ndarray) -> np.ndarray:
    """sin(r) / r as a function of u = r^2."""
    return np.sinc(np.sqrt(u) / np.pi)


def _expm1_ratio(r: np.ndarray) -> np.ndarray:
    """(exp(r) - 1) / r; fitting this makes exp(0) exactly 1."""
    return np.where(r == 0, 1.0, np.expm1(r) / np.where(r == 0, 1.0, r))


_SIN_TERMS = {32: _fit(_sinc, 4, _SQUARES), 64: _fit(_sinc, 9, _SQUARES)}
_COS_TERMS = {bits: _fit(lambda u: np.cos(np.sqrt(u)), degree, _SQUARES) for bits, degree in ((32, 5), (64, 10))}
_EXP_TERMS = {32: _fit(_expm1_ratio, 5, _HALF_LN2), 64: _fit(_expm1_ratio, 10, _HALF_LN2)}
# pi and ln 2 in parts: a multiple of the leading parts has no rounding error within the argument limits.
_PI_PARTS = {
    32: (3.140625, 9.67502593994140625e-4, 1.509957990978376432e-7),
    64: (3.1415926218032836914, 3.1786509424591713469e-08, 1.2246467864107188502e-16),
}
_LN2_PARTS = {
    32: (0.693145751953125, 1.428606820309417e-06),
    64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}


@intrinsic
def cos_sin(typingctx: Any, angle: Any) -> Any:
    """(cos, sin) of a vector of angles in radians; NaN and infinite angles give NaN.

    Error for angles within +-ANGLE_LIMIT: 2e-7 in float32, 2e-15 in float64 (absolute, tests hold it).
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _Emitter(builder, angle)
        bits = angle.base.bitwidth
        multiple = emit.call("rint", builder.fmul(args[0], emit.constant(1 / np.pi)))
        r = emit.minus_multiple(args[0], multiple, _PI_PARTS[bits])  # in [-pi/2, pi/2]
        even = emit.call("rint", builder.fmul(multiple, emit.constant(0.5)))
        parity = emit.fma(even, emit.constant(-2.0), multiple)  # -1, 0 or 1
        sign = emit.fma(builder.fmul(parity, parity), emit.constant(-2.0), emit.constant(1.0))
        u = builder.fmul(r, r)
        cosine = builder.fmul(emit.polynomial(u, _COS_TERMS[bits]), sign)
        sine = builder.fmul(builder.fmul(emit.polynomial(u, _SIN_TERMS[bits]), r), sign)
        return context.make_tuple(builder, sig.return_type, [cosine, sine])

    return types.UniTuple(angle, 2)(angle), codegen


@intrinsic
def exp(typingctx: Any, exponent: Any) -> Any:
    """e to the power of a vector; NaN gives NaN, infinities give inf and 0.

    Relative error: 2e-7 in float32, 1e-15 in float64 (tests hold it). Results below about 1e-38 (1e-308)
    are 0; exponents above 88.37 (709.4) give inf, half a binade before the largest number.
    """
    bits = exponent.base.bitwidth
    mantissa, bias, low, high = (23, 127, -88.0, 89.0) if bits == 32 else (52, 1023, -709.0, 710.0)
    # Adding this number rounds to an integer and leaves it, with the exponent's bias, in the lowest bits.
    rounder = 1.5 * 2.0**mantissa + bias

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _Emitter(builder, exponent)
        integers = ir.VectorType(ir.IntType(bits), exponent.lanes)
        x = args[0]
        for comparison, bound in (("<", emit.constant(low)), (">", emit.constant(high))):  # NaN stays NaN
            x = builder.select(builder.fcmp_ordered(comparison, x, bound), bound, x)
        rounded = emit.fma(x, emit.constant(1 / np.log(2)), emit.constant(rounder))
        power = builder.fsub(rounded, emit.constant(rounder))
        rest = emit.minus_multiple(x, power, _LN2_PARTS[bits])
        shift = ir.Constant(integers, [mantissa] * exponent.lanes)
        scale = builder.bitcast(builder.shl(builder.bitcast(rounded, integers), shift), _llvm(exponent))
        fraction = emit.fma(emit.polynomial(rest, _EXP_TERMS[bits]), rest, emit.constant(1.0))
        return builder.fmul(fraction, scale)

    return exponent(exponent), codegen


# Compiled kernels and their cache on disk.


class _ForgivingCache(FunctionCache):
    """numba's cache on disk; a full, damaged or vanished one costs a compilation, never the kernel."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with contextlib.suppress(Exception):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)


def compiled(function: Callable[..., None]) -> Callable[[Any], Callable[..., None]]:
    """Make a kernel of `function`: call the result with a numpy float type to get the compiled version.

    Every float type is a jit variant with a cache directory of its own: numba's cache key holds neither
    options nor the code of other modules, and two processes that write different entries of one index can
    leave one's code under the other's name.
    """

    @functools.cache
    def variant(dtype: np.dtype) -> Callable[..., None]:
        dispatcher = numba.njit(**OPTIONS)(function)
        directory, previous = cache_directory(dtype), numba_config.CACHE_DIR
        if directory is not None and hasattr(dispatcher, "enable_caching"):
            numba_config.CACHE_DIR = str(directory)
            with contextlib.suppress(RuntimeError, OSError):
                dispatcher._cache = _ForgivingCache(function)
            numba_config.CACHE_DIR = previous
        return dispatcher

    return variant


def cache_directory(dtype: Any) -> Path | None:
    """Where compiled kernels of this float type are kept: the first place that can be written, or None.

    NUMBA_CACHE_DIR/qablate, else XDG_CACHE_HOME/qablate or ~/.cache/qablate, else a private temporary folder.
    Cached kernels are executed, so a directory is not used that somebody else made, or that lies in such a one.
    """
    name = f"{qablate.__version__}-{np.dtype(dtype).name}x{lanes_of(dtype)}-{_fingerprint()}"
    places = [Path(numba_config.CACHE_DIR) / "qablate"] if numba_config.CACHE_DIR else []
    with contextlib.suppress(RuntimeError):  # a user without a home directory
        places.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qablate")
    places.append(Path(tempfile.gettempdir()) / f"qablate-{os.getuid()}")
    for place in places:
        with contextlib.suppress(OSError):
            directory = place / name
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if {place.stat().st_uid, directory.stat().st_uid} == {os.getuid()}:
                tempfile.TemporaryFile(dir=directory).close()
                return directory
    return None


@functools.cache
def _fingerprint() -> str:
    """What compiled code depends on besides its own source: this module, the compiler, the processor."""
    codegen = numba.core.registry.cpu_target.target_context.codegen()
    parts = [numba.__version__, llvmlite.__version__, np.__version__, *map(str, codegen.magic_tuple())]
    source = Path(__file__).read_bytes()
    return hashlib.sha256(source + "\n".join(parts).encode()).hexdigest()[:12]
