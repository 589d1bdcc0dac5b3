/* The preview's glue: linearise the plan at every knot, condense, factorise, solve with the rows that bind.
 *
 * `horizon.preview_source` puts the generated functions, the defines, the tables and `proximity.c` before this file.
 * Unknowns: a change of jerk per block and variable, x[block * N + variable]. */
static const int column[N] = COLUMNS;

static double G[KNOTS][N * N], gradient[KNOTS][N], axis[3 * N], origin[3 * N], placement[12 * LINKS];
static double knot_q[KNOTS][VARIABLES], knot_v[KNOTS][N], knot_a[KNOTS][N], spread[N], damped[N];
static double H[SIZE * SIZE], linear[SIZE], x[SIZE], shifted[SIZE];
static casadi_real work_real[WORK_REAL + 1];
static casadi_int work_int[WORK_INT + 1];

static struct { int knot, pair; double least, normal[N]; } near_row[MAX_NEAR];
static double M[MAX_ROWS * SIZE], upper[MAX_ROWS], lower[MAX_ROWS], scaling[MAX_ROWS];
static int sense[MAX_ROWS], rows;
static int taken[MAX_NEAR], taken_box[KNOTS][N][6], taken_jerk[BLOCKS][N][2], taken_disc[KNOTS][2];
static DAQPWorkspace workspace;
static int ready = 0;

static void prepare(void) {
    allocate_daqp_settings(&workspace);
    workspace.settings->primal_tol = PRIMAL_TOLERANCE;
    workspace.settings->rho_soft = SOFTNESS;
    workspace.settings->iter_limit = ITERATIONS;
    allocate_daqp_workspace(&workspace, SIZE, MAX_ROWS);
    workspace.n = SIZE;
    workspace.ms = 0;
    workspace.M = M;
    workspace.dupper = upper;
    workspace.dlower = lower;
    workspace.sense = sense;
    workspace.scaling = scaling;
    for (int r = 0; r < MAX_ROWS; r++) scaling[r] = 1.0;
    ready = 1;
}

/* The plan at the knots, as the commanded state would move: v += a dt, q += v dt, base twist in its own axes. */
static void integrate(const double *now, double *jerk) {
    double q[VARIABLES], v[N], a[N];
    memcpy(q, now, sizeof q);
    for (int j = 0; j < N; j++) { v[j] = now[VARIABLES + column[j]]; a[j] = now[2 * VARIABLES + column[j]]; }
    for (int i = 0; i < KNOTS * STRIDE; i++) {
        for (int j = 0; j < N; j++) { a[j] += DT * jerk[i * N + j]; v[j] += DT * a[j]; }
        double cosine = cos(q[2]), sine = sin(q[2]);
        q[0] += DT * (cosine * v[0] - sine * v[1]);
        q[1] += DT * (sine * v[0] + cosine * v[1]);
        for (int j = 2; j < N; j++) q[column[j]] += DT * v[j];
        if ((i + 1) % STRIDE) continue;
        int k = i / STRIDE;
        memcpy(knot_q[k], q, sizeof q);
        memcpy(knot_v[k], v, sizeof v);
        memcpy(knot_a[k], a, sizeof a);
    }
}

static int near_count;

static void watch(int k, int pair, const double *one, const double *two, double radii, double smallest, double margin,
                  unsigned mine, unsigned other) {
    double away[3] = {one[0] - two[0], one[1] - two[1], one[2] - two[2]};
    double length = sqrt(dot(away, away) + TINY * TINY), spare = length - radii - smallest;
    if (spare > margin || length < VAGUE || near_count == MAX_NEAR) return;
    double normal[3] = {away[0] / length, away[1] / length, away[2] / length};
    near_row[near_count].knot = k;
    near_row[near_count].pair = pair;
    near_row[near_count].least = fmin(-spare, RETREAT * DT * STRIDE * (k + 1));
    memset(near_row[near_count].normal, 0, sizeof near_row[0].normal);
    add_gradient(axis, origin, normal, one, mine & ~other, 1.0, near_row[near_count].normal);
    add_gradient(axis, origin, normal, two, other & ~mine, -1.0, near_row[near_count].normal);
    near_count++;
}

static void linearise(const double *now, double *knots, const double *limits, double smallest, double margin, const double *items,
                      int item_count) {
    double one[3], two[3];
    const casadi_real *where[1] = {now};
    casadi_real *spreads[2] = {spread, damped};
    wbc_spread_data(where, spreads, work_int, work_real, 0);
    near_count = 0;
    for (int k = 0; k < KNOTS; k++) {
        double *row = knots + ROW * k, reach = 0.5 * DT * DT * STRIDE * STRIDE * (k + 1) * (k + 1);
        memcpy(row + KNOT_Q, knot_q[k], sizeof knot_q[k]);
        for (int i = BASE; i < VARIABLES; i++) { /* no correction asks for more than the drives could do by then */
            double most = reach * limits[3 * VARIABLES + i], q = row[KNOT_Q + i];
            row[KNOT_AIM + i] = fmin(fmax(row[KNOT_AIM + i], q - most), q + most);
        }
        for (int i = 0; i < VARIABLES; i++) {
            double fastest = limits[2 * VARIABLES + i];
            row[KNOT_WANT + i] = fmin(fmax(row[KNOT_WANT + i], -fastest), fastest);
        }
        const casadi_real *arg[1] = {knots + ROW * k};
        casadi_real *res[5] = {G[k], gradient[k], axis, origin, placement};
        wbc_knot_data(arg, res, work_int, work_real, 0);
        place_bodies(placement);
        for (int r = 0; r < PAIRS; r++) {
            int a = pair_first[r], b = pair_second[r];
            double radii = closest(a, b, one, two);
            unsigned other = carries[b < CAPSULES ? capsule_link[b] : box_link[b - CAPSULES]];
            watch(k, r, one, two, radii, smallest, margin, carries[capsule_link[a]], other);
        }
        for (int i = 0; i < item_count; i++)
            for (int w = 0; w < WATCHED; w++) {
                const double *item = items + ITEM * i;
                int a = watched[w];
                segment_box(start[a], end[a], item, item + 9, item + 12, one, two);
                watch(k, PAIRS + i * WATCHED + w, one, two, capsule_radius[a], item[15], margin, carries[capsule_link[a]], 0u);
            }
    }
}

static void condense(const double *knots, const double *jerk, double smooth, double spreading) {
    memset(H, 0, sizeof H);
    memset(linear, 0, sizeof linear);
    for (int b = 0; b < BLOCKS; b++)
        for (int c = b; c < BLOCKS; c++)
            for (int i = 0; i < N; i++) {
                double *row = H + (b * N + i) * SIZE + c * N, diagonal = 0.0;
                for (int k = 0; k < KNOTS; k++) {
                    double share = to_q[k][b] * to_q[k][c];
                    const double *from = G[k] + i * N;
                    if (share == 0.0) continue;
                    for (int j = 0; j < N; j++) row[j] += share * from[j];
                    diagonal += to_v[k][b] * to_v[k][c] * (knots[ROW * k + KNOT_WEIGHT + column[i]] + damped[i]);
                }
                row[i] += diagonal;
            }
    for (int b = 0; b < BLOCKS; b++) {
        for (int k = 0; k < KNOTS; k++)
            for (int i = 0; i < N; i++) {
                double weight = knots[ROW * k + KNOT_WEIGHT + column[i]] , want = knots[ROW * k + KNOT_WANT + column[i]];
                double rate = weight * (knot_v[k][i] - want) + damped[i] * knot_v[k][i] - spreading * spread[i];
                linear[b * N + i] += to_q[k][b] * gradient[k][i] + to_v[k][b] * rate;
            }
        for (int t = block_start[b]; t < block_start[b + 1]; t++)
            for (int i = 0; i < N; i++) {
                linear[b * N + i] += smooth * DT * jerk[t * N + i];
                H[(b * N + i) * (SIZE + 1)] += smooth * DT;
            }
    }
}

/* H = R'R in place, R the upper triangle; four pivots at a time, so that rows are loaded once for four of them. */
static int factorise(void) {
    for (int k = 0; k < SIZE; k += 4) {
        for (int p = k; p < k + 4; p++) {
            double *pivot = H + p * SIZE;
            for (int m = k; m < p; m++) {
                double f = H[m * SIZE + p];
                for (int j = p; j < SIZE; j++) pivot[j] -= f * H[m * SIZE + j];
            }
            if (!(pivot[p] > 0.0)) return -1;
            double scale = 1.0 / sqrt(pivot[p]);
            for (int j = p; j < SIZE; j++) pivot[j] *= scale;
        }
        const double *r0 = H + k * SIZE, *r1 = r0 + SIZE, *r2 = r1 + SIZE, *r3 = r2 + SIZE;
        for (int i = k + 4; i < SIZE; i++) {
            double *row = H + i * SIZE, f0 = r0[i], f1 = r1[i], f2 = r2[i], f3 = r3[i];
            for (int j = i; j < SIZE; j++) row[j] -= f0 * r0[j] + f1 * r1[j] + f2 * r2[j] + f3 * r3[j];
        }
    }
    return 0;
}

/* y := R'^-1 y */
static void forward(double *y, int first) {
    for (int k = first; k < SIZE; k++) {
        const double *row = H + k * SIZE;
        double f = y[k] / row[k];
        y[k] = f;
        for (int j = k + 1; j < SIZE; j++) y[j] -= f * row[j];
    }
}

/* y := R^-1 y */
static void backward(double *y) {
    for (int k = SIZE - 1; k >= 0; k--) {
        const double *row = H + k * SIZE;
        double sum = 0.0;
        for (int j = k + 1; j < SIZE; j++) sum += row[j] * y[j];
        y[k] = (y[k] - sum) / row[k];
    }
}

/* The row just written into M (as A) becomes A R^-1, with A x >= least, scaled to length 1. */
static void add_row(double least, int first) {
    double *row = M + rows * SIZE, square = 0.0, offset = least;
    forward(row, first);
    for (int j = first; j < SIZE; j++) { square += row[j] * row[j]; offset += row[j] * shifted[j]; }
    if (square < VAGUE * VAGUE) return; /* nothing moves it */
    double scale = 1.0 / sqrt(square);
    for (int j = first; j < SIZE; j++) row[j] *= scale;
    lower[rows] = offset * scale;
    upper[rows] = DAQP_INF;
    sense[rows] = SOFT;
    rows++;
}

/* Jerk that the plan has in each block: what is executed next of the first, the mean of the others. */
static double block_jerk[BLOCKS][N];

static void average(const double *jerk) {
    memcpy(block_jerk[0], jerk, sizeof block_jerk[0]);
    for (int b = 1; b < BLOCKS; b++)
        for (int j = 0; j < N; j++) {
            block_jerk[b][j] = 0.0;
            for (int t = block_start[b]; t < block_start[b + 1]; t++)
                block_jerk[b][j] += jerk[t * N + j] / (block_start[b + 1] - block_start[b]);
        }
}

/* Rows that keep a wrist's (pitch, roll) in its disc: of each wrist the knot that leaves it furthest, along its own
 * direction there. wrists: columns of the pairs. */
static void add_discs(const int *wrists, int count, double radius, const double *limits) {
    for (int w = 0; w < count && rows < MAX_ROWS; w++) {
        int a = wrists[2 * w], b = wrists[2 * w + 1], which = -1;
        double worst = BROKEN, across[2] = {0.0, 0.0}, least = 0.0;
        for (int k = 0; k < KNOTS; k++) {
            double p = knot_q[k][column[a]], r = knot_q[k][column[b]], size = hypot(p, r), moved = 0.0;
            if (size < 0.5 * radius || taken_disc[k][w]) continue;
            for (int i = 0; i < BLOCKS; i++) moved += to_q[k][i] * (p * x[i * N + a] + r * x[i * N + b]) / size;
            if (size + moved - radius <= worst) continue;
            worst = size + moved - radius;
            which = k;
            across[0] = p / size;
            across[1] = r / size;
            double t = DT * STRIDE * (k + 1);
            least = fmin(size - radius, limits[3 * VARIABLES + column[a]] * t * t);
        }
        if (which < 0) continue;
        memset(M + rows * SIZE, 0, sizeof(double) * SIZE);
        for (int i = 0; i < BLOCKS; i++) {
            M[rows * SIZE + i * N + a] = -to_q[which][i] * across[0];
            M[rows * SIZE + i * N + b] = -to_q[which][i] * across[1];
        }
        add_row(least, a < b ? a : b);
        taken_disc[which][w] = 1;
    }
}

/* Adds the rows that x breaks and that are not there yet; returns how many. */
static int add_broken(const double *limits, const int *wrists, int wrist_count, double radius) {
    static int worst_row[PAIRS + MAX_ITEMS * WATCHED + 1];
    static double worst_by[PAIRS + MAX_ITEMS * WATCHED + 1];
    int before = rows;
    add_discs(wrists, wrist_count, radius, limits);
    memset(worst_by, 0, sizeof worst_by);
    for (int r = 0; r < near_count; r++) { /* of each pair only the knot that breaks its distance worst */
        int k = near_row[r].knot, pair = near_row[r].pair;
        double moved = 0.0;
        for (int b = 0; b < BLOCKS; b++)
            for (int j = 0; j < N; j++) moved += to_q[k][b] * near_row[r].normal[j] * x[b * N + j];
        double by = near_row[r].least - moved;
        if (taken[r] || by <= fmax(BROKEN, worst_by[pair])) continue;
        worst_by[pair] = by;
        worst_row[pair] = r;
    }
    for (int pair = 0; pair < PAIRS + MAX_ITEMS * WATCHED && rows < MAX_ROWS; pair++) {
        if (worst_by[pair] == 0.0) continue;
        int r = worst_row[pair], k = near_row[r].knot;
        for (int b = 0; b < BLOCKS; b++)
            for (int j = 0; j < N; j++) M[rows * SIZE + b * N + j] = to_q[k][b] * near_row[r].normal[j];
        add_row(near_row[r].least, 0);
        taken[r] = 1;
    }
    const double(*tables[3])[BLOCKS] = {to_q, to_v, to_a};
    for (int j = 0; j < N; j++) {
        int at = column[j];
        const double highest[3] = {limits[VARIABLES + at], limits[2 * VARIABLES + at], limits[3 * VARIABLES + at]};
        const double lowest[3] = {limits[at], -highest[1], -highest[2]};
        for (int kind = j < BASE ? 1 : 0; kind < 3; kind++)
            for (int side = 0; side < 2; side++) { /* of each bound only the knot that breaks it worst */
                double sign = side ? -1.0 : 1.0, worst = BROKEN, least = 0.0;
                int which = -1;
                for (int k = 0; k < KNOTS; k++) {
                    double change = 0.0, value = kind == 0 ? knot_q[k][at] : kind == 1 ? knot_v[k][j] : knot_a[k][j];
                    for (int b = 0; b < BLOCKS; b++) change += tables[kind][k][b] * x[b * N + j];
                    double bound = side ? value - highest[kind] : lowest[kind] - value;
                    if (bound - sign * change <= worst || taken_box[k][j][2 * kind + side]) continue;
                    worst = bound - sign * change;
                    which = k;
                    /* no row asks for more than twice what the drives can do by then: it could not be met */
                    double t = DT * STRIDE * (k + 1), a = limits[3 * VARIABLES + at], h = limits[4 * VARIABLES + at];
                    least = fmin(bound, kind == 0 ? a * t * t : kind == 1 ? 2.0 * a * t : 2.0 * h * t);
                }
                if (which < 0 || rows == MAX_ROWS) continue;
                memset(M + rows * SIZE, 0, sizeof(double) * SIZE);
                for (int b = 0; b < BLOCKS; b++) M[rows * SIZE + b * N + j] = sign * tables[kind][which][b];
                add_row(least, j);
                taken_box[which][j][2 * kind + side] = 1;
            }
        for (int b = 0; b < BLOCKS; b++)
            for (int side = 0; side < 2 && rows < MAX_ROWS; side++) {
                double sign = side ? -1.0 : 1.0, least = -limits[4 * VARIABLES + at] - sign * block_jerk[b][j];
                if (sign * x[b * N + j] >= least - SHARP || taken_jerk[b][j][side]) continue;
                memset(M + rows * SIZE, 0, sizeof(double) * SIZE);
                M[rows * SIZE + b * N + j] = sign;
                add_row(least, b * N + j);
                taken_jerk[b][j][side] = 1;
            }
    }
    return rows - before;
}

/* now: q, v, a (VARIABLES each). knots: targets (KNOTS, ROW), their q is written. limits: lower, upper, fastest,
 * hardest, sharpest (VARIABLES each). numbers: distance of pairs, margin of collision rows, weight of jerk, gain of
 * manipulability, radius of the discs. items: environment. wrists: pairs of columns that stay in a disc, at most two. jerk: the plan (KNOTS * STRIDE, N), one tick old; corrected in place.
 * out: velocity of the next tick (VARIABLES; only the columns are written).
 * Returns the iterations, or the solver's flag below 0: then the plan is only one tick older. */
int wbc_preview(const double *now, double *knots, const double *limits, const double *numbers, const double *items,
                int item_count, const int *wrists, int wrist_count, double *jerk, double *out) {
    int iterations = 0, flag = 0;
    if (!ready) prepare();
    memmove(jerk, jerk + N, sizeof(double) * N * (KNOTS * STRIDE - 1));
    integrate(now, jerk);
    linearise(now, knots, limits, numbers[0], numbers[1], items, item_count);
    condense(knots, jerk, numbers[2], numbers[3]);
    average(jerk);
    if (factorise() < 0) flag = -10;
    if (flag >= 0) {
        memcpy(shifted, linear, sizeof shifted);
        forward(shifted, 0);
        for (int j = 0; j < SIZE; j++) x[j] = -shifted[j];
        backward(x);
        rows = 0;
        memset(taken, 0, sizeof taken);
        memset(taken_box, 0, sizeof taken_box);
        memset(taken_jerk, 0, sizeof taken_jerk);
        memset(taken_disc, 0, sizeof taken_disc);
        for (int round = 0; round < ROUNDS && add_broken(limits, wrists, wrist_count, numbers[4]); round++) {
            workspace.m = rows;
            workspace.n_active = 0;
            workspace.reuse_ind = 0;
            workspace.sing_ind = EMPTY_IND;
            for (int r = 0; r < rows; r++) sense[r] = SOFT;
            flag = daqp_ldp(&workspace);
            if (flag < 0) break;
            iterations += workspace.iterations;
            for (int j = 0; j < SIZE; j++) x[j] = workspace.u[j] - shifted[j];
            backward(x);
        }
    }
    for (int j = 0; j < SIZE; j++)
        if (flag >= 0 && !(fabs(x[j]) < 1e6)) flag = -11;
    if (flag >= 0)
        for (int b = 0; b < BLOCKS; b++)
            for (int t = block_start[b]; t < block_start[b + 1]; t++)
                for (int j = 0; j < N; j++) {
                    double most = limits[4 * VARIABLES + column[j]];
                    jerk[t * N + j] = fmin(fmax(jerk[t * N + j] + x[b * N + j], -most), most);
                }
    for (int j = 0; j < N; j++)
        out[column[j]] = now[VARIABLES + column[j]] + DT * (now[2 * VARIABLES + column[j]] + DT * jerk[j]);
    return flag < 0 ? flag : iterations;
}
