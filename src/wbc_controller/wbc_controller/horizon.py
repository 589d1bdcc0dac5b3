"""The preview: where the whole body should go over the next 0.3 s, so that constraints are met smoothly.

The plan is a jerk per control tick over `KNOTS * STRIDE` ticks, from the commanded (q, v, a). Each tick it grows one
tick older and is corrected once (one Gauss-Newton step, real-time iteration: Diehl et al., "A real-time iteration
scheme for nonlinear optimization in optimal feedback control", SIAM J. Control Optim. 2005) by a piecewise constant
change of jerk over `BLOCKS`, so that acceleration stays continuous and what is near is planned more finely than what is
far. With z_k and r_k the changes of position and rate at knot k, the correction minimises

    sum_k  1/2 z_k' H_k z_k + g_k' z_k  +  1/2 weight (v_k + r_k - want_k)^2  -  gain * dm/dq r_k
                                                                                          + smooth/2 int jerk^2

H_k, g_k from the same tasks as the tick's (`problem.build_knot`), subject at every knot to

    distance + n'J z_k >= smallest + margin,   lower <= q_k + z_k <= upper,   |v_k + r_k| <= fastest,
    |a_k + da_k| <= hardest,   |jerk| <= sharpest in every block,   each wrist in its disc (along its direction at q_k).

All rows are soft-exact: the tick that follows the plan's first step keeps the limits, whatever the plan says. Only rows
that the free minimum breaks enter, until none is broken: exact, and few. No row and no task asks for more than the
drives could do by its knot, so that a target or an obstacle that jumps bends the plan and does not break it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import casadi as ca
import numpy as np
from bytemini_core.types import Array

from .graph import BASE
from .problem import Problem, build_knot
from .proximity import ITEM, c_tables
from .solver import PRIMAL_TOLERANCE, compile_shared

KNOTS = 10
STRIDE = 6  # ticks from knot to knot
BLOCKS = (0, 6, 18, 36, 60)  # ticks at which the change of jerk may change
SOFTNESS = 1e-5
ITERATIONS = 200
MAX_ROWS = 80
MAX_NEAR = 400
ROUNDS = 5
BROKEN = 1e-7  # m, rad, and their rates: a row that is broken by less is not
VAGUE = 1e-6  # m: bodies whose axes are this near have no normal; also the least length of a row
SHARP = 1e-3  # the same for jerk
_SOURCES = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Preview:
    """Numbers of the preview.

    `smooth`: weight of jerk. `closing`: time in which errors should be closed (s): they count by its inverse square
    beside the rates' weights. `doubt`: how much less every further knot's targets count (1 per knot, in the exponent)
    where nobody said what comes and the reference is extrapolated. `margin`: what the plan keeps beyond the tick's
    distances (m). `near`: bodies farther apart than this beyond their distance get no row (m).
    """

    smooth: float = 1e-6
    closing: float = 0.03
    doubt: float = 1.0
    margin: float = 1e-4
    near: float = 0.08

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            above = item.name in ("smooth", "closing")
            if not (isinstance(value, int | float) and 0.0 <= value < float("inf")) or (above and value == 0.0):
                raise ValueError(
                    f"preview: {item.name} is {value!r}, expected a finite number {'above' if above else 'from'} 0"
                )


def preview_source(problem: Problem) -> tuple[str, int]:
    """The C source of a problem's preview, and the length of a knot's row."""
    knot, spread, layout = build_knot(problem)
    generator = ca.CodeGenerator("wbc_preview_data.c")
    generator.add(knot)
    generator.add(spread)
    generator.add(problem.places)
    n, dt = len(problem.columns), problem.tuning.dt
    defines = {
        "N": n,
        "VARIABLES": problem.variables,
        "BASE": BASE,
        "COLUMNS": f"{{{', '.join(map(str, problem.columns))}}}",
        "KNOTS": KNOTS,
        "STRIDE": STRIDE,
        "BLOCKS": len(BLOCKS) - 1,
        "SIZE": n * (len(BLOCKS) - 1),
        "ROW": layout.size,
        "KNOT_Q": layout.fields["q"].start,
        "KNOT_AIM": layout.fields["aim"].start,
        "KNOT_WEIGHT": layout.fields["weight"].start,
        "KNOT_WANT": layout.fields["want"].start,
        "MAX_ROWS": MAX_ROWS,
        "MAX_NEAR": MAX_NEAR,
        "ROUNDS": ROUNDS,
        "BROKEN": BROKEN,
        "SHARP": SHARP,
        "VAGUE": VAGUE,
        "PRIMAL_TOLERANCE": PRIMAL_TOLERANCE,
        "SOFTNESS": SOFTNESS,
        "ITERATIONS": ITERATIONS,
        "WORK_REAL": max(knot.sz_w(), spread.sz_w()),
        "WORK_INT": max(knot.sz_iw(), spread.sz_iw()),
    }
    head = "".join(f"#define {name} {value}\n" for name, value in defines.items())
    head += "#include <math.h>\n#include <string.h>\n#include <daqp/api.h>\n#include <daqp/utils.h>\n"
    head += f"static const int block_start[] = {{{', '.join(map(str, BLOCKS))}}};\n"
    for name, table in zip(("to_q", "to_v", "to_a"), responses(dt), strict=True):
        rows = ", ".join("{" + ", ".join(repr(float(x)) for x in row) + "}" for row in table)
        head += f"static const double {name}[KNOTS][BLOCKS] = {{{rows}}};\n"
    glue = "".join((_SOURCES / name).read_text(encoding="utf-8") for name in ("proximity.c", "horizon.c"))
    return generator.dump() + head + c_tables(problem) + glue, layout.size


def responses(dt: float) -> tuple[Array, Array, Array]:
    """Position, rate and acceleration (KNOTS, blocks) at each knot per unit change of jerk in each block."""
    ticks, blocks = KNOTS * STRIDE, len(BLOCKS) - 1
    jerk = np.zeros((ticks, blocks))
    for b in range(blocks):
        jerk[BLOCKS[b] : BLOCKS[b + 1], b] = 1.0
    acceleration = np.cumsum(jerk, axis=0) * dt
    rate = np.cumsum(acceleration, axis=0) * dt
    position = np.cumsum(rate, axis=0) * dt
    at = slice(STRIDE - 1, None, STRIDE)
    return position[at], rate[at], acceleration[at]


class Planner:
    """The plan of one robot, corrected tick by tick. Fill `rows` and `now`, then `plan`.

    `now` (3, 3 + n): commanded position, velocity, acceleration. `rows`: field of a knot (`problem.build_knot`) to its
    (KNOTS, size) view. `limits` (5, 3 + n): lower, upper, fastest, hardest, sharpest. `velocity` (3 + n,): of the next
    tick.
    """

    def __init__(self, problem: Problem, preview: Preview, cache: Path | None = None) -> None:
        """Raises CompilerError: no compiler."""
        source, _ = preview_source(problem)
        self._library = ctypes.PyDLL(str(compile_shared(source, "preview", cache)))
        layout = build_knot(problem)[2]
        n = problem.variables
        self.preview = preview
        self._knots = np.zeros((KNOTS, layout.size))
        self.rows = {name: self._knots[:, where] for name, where in layout.fields.items()}
        for side in ("left", "right"):
            self.rows[f"{side}_hand"][:, [0, 4, 8]] = 1.0
        times = problem.tuning.dt * STRIDE * np.arange(1, KNOTS + 1)
        self.rows["reach"][:] = 0.5 * times[:, None] ** 2 * problem.tuning.approach
        self.now, self.limits, self.velocity = np.zeros((3, n)), np.zeros((5, n)), np.zeros(n)
        self.jerk = np.zeros((KNOTS * STRIDE, len(problem.columns)))
        self.times = times  # of the knots (s from now)
        self._numbers = np.array((0.0, preview.near, preview.smooth, 0.0, 0.0))
        self._columns = problem.columns
        self._discs = np.zeros((0, 2), dtype=np.int32)
        self._plan = self._library.wbc_preview
        self.surround(0.0, np.zeros((0, ITEM)))

    def surround(self, smallest: float, items: Array) -> None:
        """As `solver.TickSolver.surround`; the margin comes on top."""
        self._items = np.array(items, dtype=np.float64).reshape(-1, ITEM)
        self._items[:, 15] += self.preview.margin
        self._numbers[0] = smallest + self.preview.margin
        arrays = (self.now, self._knots, self.limits, self._numbers, self._items)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        last = (ctypes.c_void_p(self.jerk.ctypes.data), ctypes.c_void_p(self.velocity.ctypes.data))
        self._around = (*pointers, ctypes.c_int(len(self._items)))
        self._last = last
        self._bind()

    def discs(self, wrists: Sequence[tuple[int, int]], radius: float) -> None:
        """Keep up to two pairs of variables each within a disc about zero, less the margin in rad."""
        self._discs = np.array([[self._columns.index(i) for i in pair] for pair in wrists], dtype=np.int32)
        self._numbers[4] = radius - self.preview.margin
        self._bind()

    def _bind(self) -> None:
        discs = (ctypes.c_void_p(self._discs.ctypes.data), ctypes.c_int(len(self._discs)))
        self._arguments = (*self._around, *discs, *self._last)

    def spreading(self, gain: float) -> None:
        """Set the gain of the manipulability's gradient."""
        self._numbers[3] = gain

    def restart(self) -> None:
        """Forget the plan: keep the acceleration."""
        self.jerk[:] = 0.0

    def plan(self) -> int:
        """Correct the plan; the iterations, or a flag below 0, and then it is the last plan, one tick on."""
        return int(self._plan(*self._arguments))
