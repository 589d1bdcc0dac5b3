"""The tick solved: compiled (generated C, DAQP linked in) or, without a compiler, the same in CasADi's virtual machine.

Both evaluate `problem.Problem.function`, drop the collision rows that no velocity in the box can break (exact, so the
answer is unchanged), and hand the rest to the same DAQP, which ships with the casadi wheel as a static library, headers
and a shared library. No other dependency.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import casadi as ca
import numpy as np
from bytemini_core.types import Array
from numpy.typing import NDArray

from .admittance import MEMORY, advance, move
from .graph import BASE
from .problem import HAND, Problem
from .proximity import ITEM, MAX_ITEMS, Proximity, c_tables, nearest_of
from .viability import stopping_speed
from .weights import LOOSE

PRIMAL_TOLERANCE = 1e-9
SOFTNESS = 1e-6  # DAQP's rho_soft: a soft row yields by this times its multiplier
ITERATIONS = 300
COUPLING = 1e-9  # off the diagonal of a diagonal Hessian, so that one workspace serves all
BINDING = 1e-6  # a row this near its least rate (m/s) is said to bind
MAX_KEPT = 40
LOOKS = 100  # at one way to rest
PACE = 1e-3  # m that bodies may come nearer from one look to the next, however near they are
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-ffinite-math-only", "-fno-signed-zeros", "-fno-trapping-math")
_SOFT = 8
_INFINITY = 1e30
_CASADI = Path(ca.__file__).parent
_SOURCES = Path(__file__).parent


class CompilerError(RuntimeError):
    """The compiler is missing or refused; the message holds what it said."""


@dataclass(slots=True)
class Solution:
    """The tick's answer; its arrays are the solver's own memory, overwritten by the next solve.

    `velocity`, `low`, `high`: (3 + n,). `distance`: (pairs + items * watched,). `info`: (6,), as the
    problem's. `flag`: iterations, or DAQP's exit
    flag below 0, and then `velocity` is only the wanted one, clipped into the box. `bound`: the rows that
    bind, numbered as `distance` and then the discs, -1 after the last.
    """

    velocity: Array
    low: Array
    high: Array
    distance: Array
    info: Array
    flag: int
    bound: NDArray[np.int32]


class TickSolver(Protocol):
    """Solves one tick for the parameters in `parameters` (`problem.Layout`), which the caller fills in place.

    `yielding` (2, `MEMORY`): the memory of both hands' admittances (`admittance`).
    """

    parameters: Array
    yielding: Array

    def solve(self) -> Solution:
        """Solve for what stands in `parameters`, after `admit`."""

    def admit(self) -> None:
        """Take the steps that were asked of the hands' admittances and move their targets in `parameters`."""

    def nearest(self, q: Array) -> float:
        """Smallest distance (m) of all pairs at q (3 + n,)."""

    def clear(self, q: Array, velocity: Array, hardest: Array, levers: Array, least: float, deepest: float) -> bool:
        """Whether pairs stay `least` (m) apart from q on the way to rest, after a tick at `velocity`; all (3 + n,).

        Looked at so often under full braking that between two looks they stay `deepest` apart (`guard`), and `LOOKS`
        times at most: what takes longer is not clear. The base, which carries all bodies, stands.
        """

    def approach(self, error: Array, hardest: Array) -> Array:
        """Speeds (n,) that close errors of joints (n,) and can stop in time; overwritten by the next call."""

    def surround(self, smallest: float, items: Array) -> None:
        """Set the distance (m) that pairs keep, and the environment.

        Args:
            smallest: between bodies of the robot.
            items: (k, 16), boxes in odom: rotation (row-major), centre, half edges, distance to keep.

        Raises:
            ValueError: a wrong shape, or more than `MAX_ITEMS` items.
        """


def cache_directory() -> Path:
    """Where compiled ticks are kept: under XDG_CACHE_HOME, or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "bytemini" / "wbc"


def compile_shared(source: str, name: str, cache: Path | None = None) -> Path:
    """Compile C source into a shared library linked with DAQP; again only when source, flags or compiler change.

    Raises:
        CompilerError: no gcc or cc, or it failed.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CompilerError("neither gcc nor cc is installed: install build-essential for the compiled controller")
    about = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    cpu = subprocess.run(
        [compiler, "-march=native", "-Q", "--help=target"], capture_output=True, text=True, check=False
    ).stdout
    key = hashlib.sha256("\0".join((source, about, cpu, ca.CasadiMeta.version(), *_FLAGS)).encode()).hexdigest()[:24]
    cache = cache or cache_directory()
    library = cache / f"{name}-{key}.so"
    if library.exists():
        return library
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        path = Path(folder) / f"{name}.c"
        path.write_text(source, encoding="utf-8")
        built = path.with_suffix(".so")
        command = [compiler, *_FLAGS, "-shared", "-fPIC", f"-I{_CASADI / 'include'}", str(path), "-o", str(built)]
        done = subprocess.run(
            [*command, str(_CASADI / "libdaqpstat.a"), "-lm"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise CompilerError(f"{compiler} failed: {done.stderr.strip()[:2000]}")
        built.replace(library)  # atomic: two processes that start together both end with a whole file
    return library


def tick_source(problem: Problem) -> str:
    """The C source of a problem's tick: generated data function, tables, `proximity.c` and `tick.c`."""
    generator = ca.CodeGenerator("wbc_tick_data.c")
    generator.add(problem.function)
    generator.add(problem.places)
    function = problem.function
    columns = ", ".join(str(c) for c in problem.columns)
    defines = {
        "wbc_tick_data_SZ_ARG": function.sz_arg(),
        "wbc_tick_data_SZ_RES": function.sz_res(),
        "wbc_tick_data_SZ_IW": function.sz_iw(),
        "wbc_places_data_SZ_IW": problem.places.sz_iw(),
        "wbc_places_data_SZ_W": problem.places.sz_w(),
        "wbc_tick_data_SZ_W": function.sz_w(),
        "N": len(problem.columns),
        "VARIABLES": problem.variables,
        "COLUMNS": f"{{{columns}}}",
        "WANT": problem.layout.fields["want"].start,
        "BASE": BASE,
        "LEFT_HAND": problem.layout.fields["left_hand"].start,
        "RIGHT_HAND": problem.layout.fields["right_hand"].start,
        "MEMORY": MEMORY,
        "PRIMAL_TOLERANCE": PRIMAL_TOLERANCE,
        "SOFTNESS": SOFTNESS,
        "ITERATIONS": ITERATIONS,
        "MAX_KEPT": MAX_KEPT,
        "BINDING": BINDING,
        "LOOKS": LOOKS,
        "PACE": PACE,
        "COUPLING": COUPLING,
        "TANGENTS": len(problem.tangent_discs),
        "LEEWAY": problem.layout.fields["leeway"].start,
        "LOOSE": LOOSE,
        "HAND": HAND,
    }
    head = "".join(f"#define {name} {value}\n" for name, value in defines.items())
    head += "#include <math.h>\n#include <string.h>\n#include <daqp/api.h>\n#include <daqp/utils.h>\n"
    head += "".join(
        f"static const int {name}[TANGENTS + 1] = {{{', '.join(map(str, (*values, 0)))}}};\n"
        for name, values in (
            ("tangent_first", [a for a, _ in problem.tangent_columns]),
            ("tangent_second", [b for _, b in problem.tangent_columns]),
            ("tangent_disc", problem.tangent_discs),
        )
    )
    glue = "".join((_SOURCES / name).read_text(encoding="utf-8") for name in ("proximity.c", "tick.c"))
    return generator.dump() + head + c_tables(problem) + glue


def clear(
    nearest: Callable[[Array], float],
    dt: float,
    q: Array,
    velocity: Array,
    hardest: Array,
    levers: Array,
    least: float,
    deepest: float,
) -> bool:
    """`TickSolver.clear` for any smallest distance `nearest` over q."""
    rate, a = velocity[BASE:], hardest[BASE:]
    speed, stop = np.abs(rate), np.abs(rate) / a  # s, after this tick
    last, after = float(stop.max()), 0.0
    posture = q.copy()
    for _ in range(LOOKS):
        t = np.minimum(after, stop)
        posture[BASE:] = q[BASE:] + rate * (dt + t) - 0.5 * np.sign(rate) * a * t * (t + dt)
        distance = nearest(posture)
        if distance < least:
            return False
        if after >= last:
            return True
        closing = float(levers[BASE:] @ np.maximum(speed - a * after, 0.0))
        after = min(after + max(distance - deepest, PACE) / max(closing, 1e-9), last)
    return False


class CompiledTick:
    """The tick in C, called through pointers bound once."""

    def __init__(self, problem: Problem, cache: Path | None = None) -> None:
        """Raises CompilerError: no compiler."""
        # PyDLL keeps the interpreter's lock: the library's working memory is shared by all controllers of the process
        self._library = ctypes.PyDLL(str(compile_shared(tick_source(problem), "tick", cache)))
        self.parameters, self.yielding = _inputs(problem)
        self._memory = _Memory(problem)
        self._tick, self._admit = self._library.wbc_tick, self._library.wbc_admit
        self._nearest = self._library.wbc_nearest
        self._nearest.restype = ctypes.c_double
        self._q, self._rate, self._hardest, self._levers = (np.zeros(problem.variables) for _ in range(4))
        vectors = (self._q, self._rate, self._hardest, self._levers)
        self._pointers = [ctypes.c_void_p(x.ctypes.data) for x in vectors]
        self._clear, self._approach = self._library.wbc_clear, self._library.wbc_approach
        joints = (x[BASE:] for x in (self._q, self._rate, self._hardest))
        error, speed, hardest = (ctypes.c_void_p(x.ctypes.data) for x in joints)
        self._approaching = (error, hardest, ctypes.c_int(problem.variables - BASE), speed)
        self.surround(0.0, np.zeros((0, ITEM)))

    def surround(self, smallest: float, items: Array) -> None:
        """See `TickSolver`."""
        self._items = _checked(items)
        m = self._memory
        void = ctypes.c_void_p
        self._arguments = (
            *(void(array.ctypes.data) for array in (self.parameters, self.yielding)),
            ctypes.c_double(smallest),
            void(self._items.ctypes.data),
            ctypes.c_int(len(items)),
            void(m.out.ctypes.data),
            void(m.bound.ctypes.data),
        )
        m.solution.distance = m.distances[: m.rows(len(items))]

    def nearest(self, q: Array) -> float:
        """See `TickSolver`."""
        self._q[:] = q
        return float(self._nearest(self._pointers[0]))

    def clear(self, q: Array, velocity: Array, hardest: Array, levers: Array, least: float, deepest: float) -> bool:
        """See `TickSolver`."""
        self._q[:], self._rate[:], self._hardest[:], self._levers[:] = q, velocity, hardest, levers
        return bool(self._clear(*self._pointers, ctypes.c_double(least), ctypes.c_double(deepest)))

    def approach(self, error: Array, hardest: Array) -> Array:
        """See `TickSolver`."""
        self._q[BASE:], self._hardest[BASE:] = error, hardest
        self._approach(*self._approaching)
        return self._rate[BASE:]

    def admit(self) -> None:
        """See `TickSolver`."""
        self._admit(*self._arguments[:2])

    def solve(self) -> Solution:
        """See `TickSolver`."""
        self._memory.solution.flag = self._tick(*self._arguments)
        return self._memory.solution


def _inputs(problem: Problem) -> tuple[Array, Array]:
    """Parameters, with nothing asked yet, and the memory of the admittances."""
    parameters = np.zeros(problem.layout.size)
    parameters[problem.layout.fields["leeway"]] = LOOSE
    return parameters, np.zeros((2, MEMORY))


class _Memory:
    """Where a solver writes."""

    def __init__(self, problem: Problem) -> None:
        n = problem.variables
        self._pairs, self._watched = len(problem.pairs), len(problem.watched)
        self.out = np.zeros(3 * n + 6 + self.rows(MAX_ITEMS))
        self.bound = np.full(MAX_KEPT + 1, -1, dtype=np.int32)
        self.distances = self.out[3 * n + 6 :]
        o = self.out
        self.solution = Solution(
            o[:n], o[n : 2 * n], o[2 * n : 3 * n], self.distances, o[3 * n : 3 * n + 6], 0, self.bound
        )

    def rows(self, items: int) -> int:
        return self._pairs + items * self._watched


def _checked(items: Array) -> Array:
    items = np.ascontiguousarray(items, dtype=np.float64)
    if items.ndim != 2 or items.shape[1] != ITEM or len(items) > MAX_ITEMS or not np.isfinite(items).all():
        raise ValueError(f"environment has shape {items.shape}, expected at most {MAX_ITEMS} finite rows of {ITEM}")
    return items


class _QuadraticProgramme(ctypes.Structure):
    _fields_ = (
        ("n", ctypes.c_int),
        ("m", ctypes.c_int),
        ("ms", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in ("H", "f", "A", "bupper", "blower", "sense")),
    )


class _Settings(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_double) for name in ("primal_tol", "dual_tol", "zero_tol", "pivot_tol", "progress_tol")),
        ("cycle_tol", ctypes.c_int),
        ("iter_limit", ctypes.c_int),
        *(
            (name, ctypes.c_double)
            for name in ("fval_bound", "eps_prox", "eta_prox", "rho_soft", "rel_subopt", "abs_subopt")
        ),
    )


class _Result(ctypes.Structure):
    _fields_ = (
        ("x", ctypes.c_void_p),
        ("lam", ctypes.c_void_p),
        ("fval", ctypes.c_double),
        ("soft_slack", ctypes.c_double),
        ("exitflag", ctypes.c_int),
        ("iter", ctypes.c_int),
        ("nodes", ctypes.c_int),
        ("solve_time", ctypes.c_double),
        ("setup_time", ctypes.c_double),
    )


class FallbackTick:
    """The tick without a compiler: CasADi evaluates, the casadi wheel's shared DAQP solves; `tick.c` step for step.

    `tangents` (k, 3): the last tick's rows of the discs (`problem.Problem`).
    """

    def __init__(self, problem: Problem) -> None:
        self._columns = np.array(problem.columns)
        size = len(problem.columns)
        self.parameters, self.yielding = _inputs(problem)
        self._targets = [self.parameters[problem.layout.fields[f"{side}_hand"]] for side in ("left", "right")]
        self._dt = problem.tuning.dt
        self._memory = _Memory(problem)
        s = self._memory.solution
        self._H, self._g = np.zeros((size, size)), np.zeros(size)
        self._axis, self._origin = np.zeros((size, 3)), np.zeros((size, 3))
        self._placement = np.zeros((len(problem.links), 12))
        self._first = np.zeros((size, size)), np.zeros(size), np.zeros((12, size))
        self.tangents = np.zeros((len(problem.tangent_discs), 3))
        self._tangent_columns = np.array(problem.tangent_columns, dtype=np.intp).reshape(-1, 2)
        self._tangent_discs = np.array(problem.tangent_discs, dtype=np.intp)
        # the programme handed to DAQP, the hands' tasks alone and all of them: bounds of the variables, then of rows
        self._rows = np.zeros((MAX_KEPT + 12, size))
        self._lower, self._upper = np.zeros(size + MAX_KEPT + 12), np.zeros(size + MAX_KEPT + 12)
        self._sense = np.zeros(size + MAX_KEPT + 12, dtype=np.int32)
        rows = (array.ctypes.data for array in (self._rows, self._upper, self._lower, self._sense))
        addresses = tuple(rows)
        self._first_programme, self._programme = (
            _QuadraticProgramme(size, size, size, H.ctypes.data, g.ctypes.data, *addresses)
            for H, g in (self._first[:2], (self._H, self._g))
        )
        self._want = self.parameters[problem.layout.fields["want"]]
        self._leeway = self.parameters[problem.layout.fields["leeway"]]
        self._proximity = Proximity(problem, self._axis, self._origin, self._placement, len(self.tangents))
        self._buffer, self._evaluate = problem.function.buffer()
        self._buffer.set_arg(0, memoryview(self.parameters.data))  # type: ignore[call-arg]
        outputs: tuple[Array, ...] = (
            self._H,
            self._g,
            s.low,
            s.high,
            s.info,
            self._axis,
            self._origin,
            self._placement,
            self.tangents,
        )
        outputs += self._first
        for i, array in enumerate(outputs):
            self._buffer.set_res(i, memoryview(array.reshape(-1).data))  # type: ignore[call-arg]
        self.surround(0.0, np.zeros((0, ITEM)))
        self._q, self._smallest = np.zeros(problem.variables), np.zeros(1)
        self._nearest, self._find_nearest = nearest_of(problem).buffer()
        self._nearest.set_arg(0, memoryview(self._q.data))  # type: ignore[call-arg]
        self._nearest.set_res(0, memoryview(self._smallest.data))  # type: ignore[call-arg]
        self._daqp = ctypes.CDLL(str(_CASADI / "libdaqp.so"))
        self._settings, self._result = _Settings(), _Result()
        self._daqp.daqp_default_settings(ctypes.byref(self._settings))
        self._settings.primal_tol, self._settings.rho_soft = PRIMAL_TOLERANCE, SOFTNESS
        self._settings.iter_limit = ITERATIONS
        self._x, self._multipliers = np.zeros(size), np.zeros(size + MAX_KEPT + 12)
        self._result.x, self._result.lam = self._x.ctypes.data, self._multipliers.ctypes.data

    def nearest(self, q: Array) -> float:
        """See `TickSolver`."""
        self._q[:] = q
        self._find_nearest()
        return float(self._smallest[0])

    def clear(self, q: Array, velocity: Array, hardest: Array, levers: Array, least: float, deepest: float) -> bool:
        """See `TickSolver`."""
        return clear(self.nearest, self._dt, q, velocity, hardest, levers, least, deepest)

    def approach(self, error: Array, hardest: Array) -> Array:
        """See `TickSolver`."""
        speed: Array = np.sign(error) * stopping_speed(np.abs(error), hardest, self._dt)
        return speed

    def surround(self, smallest: float, items: Array) -> None:
        """See `TickSolver`."""
        self._proximity.surround(smallest, _checked(items))
        self._memory.solution.distance = self._proximity.distance
        rims = len(self._proximity.distance) + np.arange(len(self.tangents))
        self._rims = len(self._columns) * rims[:, None] + self._tangent_columns  # in R, laid out flat
        self._which = np.concatenate((np.arange(len(self._proximity.distance)), rims[:1] + self._tangent_discs))

    def admit(self) -> None:
        """See `TickSolver`."""
        for memory, hand in zip(self.yielding, self._targets, strict=True):
            if advance(memory, self._dt):
                move(hand, memory)

    def solve(self) -> Solution:
        """See `TickSolver`."""
        self.admit()
        s, columns, n = self._memory.solution, self._columns, len(self._columns)
        self._evaluate()
        np.maximum(self._want, s.low, out=s.velocity)
        np.minimum(s.velocity, s.high, out=s.velocity)
        self._proximity.update()
        R, least = self._proximity.R, self._proximity.least
        R.reshape(-1)[self._rims] = -self.tangents[:, :2]
        least[len(s.distance) :] = self.tangents[:, 2]
        low, high = s.low[columns], s.high[columns]
        middle = 0.5 * (low + high)
        worst = R @ middle - np.abs(R) @ (high - middle)
        binding = np.flatnonzero((worst < least) & self._proximity.near)[:MAX_KEPT]
        k = len(binding)
        rows, least = self._rows[:k], least[binding]
        rows[:] = R[binding]
        s.bound[0] = -1
        diagonal = np.count_nonzero(self._H) <= n
        if diagonal and not (rows @ s.velocity[columns] < least).any():
            s.flag = 0
            return s
        if diagonal:
            self._H[0, 1] = self._H[1, 0] = COUPLING
        self._lower[:n], self._upper[:n] = low, high
        self._lower[n : n + k], self._upper[n : n + k] = least, _INFINITY
        led = [i for side in (0, 1) if self._targets[side][HAND - 2] > 0.0 for i in range(6 * side, 6 * side + 6)]
        more = 0
        if not diagonal and led and self._leeway[0] < LOOSE:
            s.flag = self._quadratic(self._first_programme, k)
            if s.flag < 0:
                return s
            more, J = len(led), self._first[2][led]
            self._rows[k : k + more] = J
            alone, leeway = J @ self._x, max(self._leeway[0], BINDING)
            self._lower[n + k : n + k + more] = alone - leeway
            self._upper[n + k : n + k + more] = alone + leeway
        s.flag = self._quadratic(self._programme, k + more)
        if s.flag >= 0:
            velocity = np.minimum(np.maximum(self._x, low), high)
            s.velocity[columns] = velocity
            tight = self._which[binding[rows @ velocity <= least + BINDING]]
            s.bound[: len(tight)] = tight
            s.bound[len(tight)] = -1
        return s

    def _quadratic(self, programme: _QuadraticProgramme, rows: int) -> int:
        """Solve for `_x` with the first `rows` rows. Returns the iterations, or DAQP's exit flag below 0."""
        n = programme.n
        programme.m = n + rows
        self._sense[:n], self._sense[n : n + rows] = 0, _SOFT
        self._daqp.daqp_quadprog(ctypes.byref(self._result), ctypes.byref(programme), ctypes.byref(self._settings))
        return int(self._result.iter if self._result.exitflag >= 0 else self._result.exitflag)


def make_solver(problem: Problem, cache: Path | None = None) -> tuple[TickSolver, str]:
    """The compiled tick, or the fallback and why ("" for the compiled one)."""
    try:
        return CompiledTick(problem, cache), ""
    except (CompilerError, OSError) as error:
        return FallbackTick(problem), str(error)
