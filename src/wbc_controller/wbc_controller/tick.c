/* The tick's glue: evaluate the generated problem data, add the collision rows that can bind, solve with DAQP.
 *
 * `solver.tick_source` puts the generated function, the defines, the tables and `proximity.c` before this file.
 * `solver.FallbackTick` does the same in numpy, step for step. */
static const int column[N] = COLUMNS;

static double H[N * N], g[N], axis[3 * N], origin[3 * N], placement[12 * LINKS], tangent[3 * TANGENTS + 1];
static double H_alone[N * N], g_alone[N], J[12 * N]; /* of the hands' tasks */
static casadi_real work_real[wbc_tick_data_SZ_W + 1];
static casadi_int work_int[wbc_tick_data_SZ_IW + 1];
#define MAX_ROWS (MAX_KEPT + 12)
static double A[MAX_ROWS * N], upper[N + MAX_ROWS], lower[N + MAX_ROWS];
static int sense[N + MAX_ROWS];
static DAQPProblem qp = {N, N, N, H, g, A, upper, lower, sense};
static DAQPWorkspace workspace;
static int ready = 0;

static void prepare(void) {
    allocate_daqp_settings(&workspace);
    workspace.settings->primal_tol = PRIMAL_TOLERANCE;
    workspace.settings->rho_soft = SOFTNESS;
    workspace.settings->iter_limit = ITERATIONS;
    qp.m = N + MAX_ROWS;
    for (int i = 0; i < N + MAX_ROWS; i++) { sense[i] = i < N ? 0 : SOFT; upper[i] = 1.0; lower[i] = -1.0; }
    for (int i = 0; i < N; i++) H[i * N + i] = 1.0;
    H[1] = H[N] = COUPLING; /* DAQP lays its workspace out for a dense Hessian only if it sees one */
    setup_daqp(&qp, &workspace, 0);
    ready = 1;
}

/* `admittance.advance` and `admittance.move` of one hand. */
static void admit(double *m, double *hand) {
    const double *inertia = m + 1, *damping = m + 7, *own = m + 13, *limit = m + 19, *deadband = m + 25;
    const double *wrench = m + 31, *wanted = m + 37, *given = m + 43, *asked = m + 49;
    double *offset = m + 55, *rate = m + 61, angle = 0.0, turned[9];
    if (m[0] == 0.0) return;
    m[0] = 0.0;
    for (int i = 0; i < 6; i++) {
        double spring = asked[i] > 0.0 ? asked[i] : wanted[i] != 0.0 ? 0.0 : own[i];
        double push = fmax(fabs(wrench[i]) - deadband[i], 0.0), more = fmin(fmax(wanted[i], -limit[i]), limit[i]);
        double back = fmin(fmax(spring * (offset[i] + given[i]), -limit[i]), limit[i]);
        if (wrench[i] < 0.0) push = -push;
        rate[i] = (inertia[i] * rate[i] + DT * (push + more - back)) / (inertia[i] + DT * damping[i] + DT * DT * spring);
        offset[i] += DT * rate[i];
    }
    for (int i = 3; i < 6; i++) angle += offset[i] * offset[i];
    angle = fmax(sqrt(angle), 1e-9);
    double x = offset[3] / angle, y = offset[4] / angle, z = offset[5] / angle, s = sin(angle), c = 1.0 - cos(angle);
    const double turn[9] = {1.0 - c * (y * y + z * z), c * x * y - s * z, c * x * z + s * y,
                            c * x * y + s * z, 1.0 - c * (x * x + z * z), c * y * z - s * x,
                            c * x * z - s * y, c * y * z + s * x, 1.0 - c * (x * x + y * y)};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            turned[3 * i + j] = turn[3 * i] * hand[j] + turn[3 * i + 1] * hand[3 + j] + turn[3 * i + 2] * hand[6 + j];
    memcpy(hand, turned, sizeof turned);
    for (int i = 0; i < 3; i++) hand[9 + i] += offset[i];
    for (int i = 0; i < 6; i++) hand[12 + i] += rate[i];
}

/* Take the steps of both hands' admittances that were asked for, and move their targets in p. */
void wbc_admit(double *p, double *memory) {
    admit(memory, p + LEFT_HAND);
    admit(memory + MEMORY, p + RIGHT_HAND);
}

/* Keep the row just written at `count` if some velocity in the box breaks it; notes whether the one in v does. */
static int keep(const double *v, double least, int count, int *broken) {
    const double *row = A + count * N;
    double worst = 0.0, here = 0.0;
    for (int i = 0; i < N; i++) {
        worst += fmin(row[i] * lower[i], row[i] * upper[i]);
        here += row[i] * v[column[i]];
    }
    if (worst >= least) return 0;
    *broken |= here < least;
    lower[N + count] = least;
    upper[N + count] = DAQP_INF;
    sense[N + count] = SOFT;
    return 1;
}

/* Minimise 1/2 x'Qx + f'x within the box and the first `rows` rows, into workspace.x; DAQP's exit flag. */
static int solve(double *Q, double *f, int rows) {
    qp.H = Q;
    qp.f = f;
    qp.m = workspace.m = N + rows;
    workspace.n_active = 0;
    workspace.reuse_ind = 0;
    workspace.sing_ind = EMPTY_IND;
    int flag = update_ldp(UPDATE_Rinv + UPDATE_M + UPDATE_v + UPDATE_d + UPDATE_sense, &workspace);
    if (flag < 0) return flag;
    if ((flag = daqp_ldp(&workspace)) < 0) return flag;
    ldp2qp_solution(&workspace);
    return flag;
}

/* p: parameters. memory: of both hands' admittances. smallest: distance of pairs. items: environment (count, ITEM).
 * out: v, low, high (VARIABLES each), info (6), distance (PAIRS + count * WATCHED).
 * bound: indices of the rows that bind, -1 after the last.
 * Returns the iterations (0 where none were needed), or the solver's exit flag below 0. */
int wbc_tick(double *p, double *memory, double smallest, const double *items, int item_count, double *out, int *bound) {
    double *v = out, *low = out + VARIABLES, *high = out + 2 * VARIABLES, *distance = out + 3 * VARIABLES + 6;
    const casadi_real *arg[wbc_tick_data_SZ_ARG + 1] = {p};
    casadi_real *res[wbc_tick_data_SZ_RES + 1] = {H, g, low, high, out + 3 * VARIABLES, axis, origin, placement,
                                                  tangent, H_alone, g_alone, J};
    if (!ready) prepare();
    wbc_admit(p, memory);
    wbc_tick_data(arg, res, work_int, work_real, 0);

    int diagonal = 1;
    for (int i = 0; i < N && diagonal; i++)
        for (int j = 0; j < i; j++)
            if (H[i * N + j] != 0.0) { diagonal = 0; break; }
    for (int i = 0; i < VARIABLES; i++) v[i] = fmin(fmax(p[WANT + i], low[i]), high[i]);
    for (int i = 0; i < N; i++) { lower[i] = low[column[i]]; upper[i] = high[column[i]]; sense[i] = 0; }

    place_bodies(placement);
    int count = 0, broken = 0, near;
    double one[3], two[3], radii, least;
    for (int r = 0; r < PAIRS && count < MAX_KEPT; r++) {
        int a = pair_first[r], b = pair_second[r];
        radii = closest(a, b, one, two);
        unsigned other = carries[b < CAPSULES ? capsule_link[b] : box_link[b - CAPSULES]];
        distance[r] = separate(axis, origin, one, two, radii, smallest, carries[capsule_link[a]], other, A + count * N,
                               &least, &near);
        if (near && keep(v, least, count, &broken)) bound[count++] = r;
    }
    for (int k = 0, r = PAIRS; k < item_count; k++)
        for (int w = 0; w < WATCHED && count < MAX_KEPT; w++, r++) {
            const double *item = items + ITEM * k;
            int a = watched[w];
            segment_box(start[a], end[a], item, item + 9, item + 12, one, two);
            distance[r] = separate(axis, origin, one, two, capsule_radius[a], item[15], carries[capsule_link[a]], 0u,
                                   A + count * N, &least, &near);
            if (near && keep(v, least, count, &broken)) bound[count++] = r;
        }
    for (int k = 0; k < TANGENTS && count < MAX_KEPT; k++) {
        double *row = A + count * N;
        memset(row, 0, N * sizeof *row);
        row[tangent_first[k]] = -tangent[3 * k];
        row[tangent_second[k]] = -tangent[3 * k + 1];
        if (keep(v, tangent[3 * k + 2], count, &broken)) bound[count++] = PAIRS + item_count * WATCHED + tangent_disc[k];
    }
    bound[count] = -1;
    if (diagonal && !broken) { bound[0] = -1; return 0; }
    if (diagonal) H[1] = H[N] = COUPLING;

    int led = 0, flag;
    if (!diagonal && p[LEEWAY] < LOOSE) {
        if ((flag = solve(H_alone, g_alone, count)) < 0) return flag;
        for (int r = 0; r < 12; r++) {
            if (p[(r < 6 ? LEFT_HAND : RIGHT_HAND) + HAND - 2] <= 0.0) continue;
            int at = count + led++;
            double rate = 0.0;
            for (int i = 0; i < N; i++) rate += (A[at * N + i] = J[r * N + i]) * workspace.x[i];
            lower[N + at] = rate - fmax(p[LEEWAY], BINDING); /* equal bounds would bind whatever the limits say */
            upper[N + at] = rate + fmax(p[LEEWAY], BINDING);
            sense[N + at] = SOFT;
        }
    }
    if ((flag = solve(H, g, count + led)) < 0) return flag;
    for (int i = 0; i < N; i++) v[column[i]] = fmin(fmax(workspace.x[i], lower[i]), upper[i]);
    int binding = 0;
    for (int r = 0; r < count; r++) {
        double rate = 0.0;
        for (int i = 0; i < N; i++) rate += A[r * N + i] * v[column[i]];
        if (rate <= lower[N + r] + BINDING) bound[binding++] = bound[r];
    }
    bound[binding] = -1;
    return workspace.iterations;
}

/* Smallest distance of all pairs at q. */
double wbc_nearest(const double *q) {
    static casadi_real work[wbc_places_data_SZ_W + 1];
    static casadi_int integers[wbc_places_data_SZ_IW + 1];
    static double at[12 * LINKS + 1];
    const casadi_real *arg[1] = {q};
    casadi_real *res[1] = {at};
    double nearest = 1e3;
    wbc_places_data(arg, res, integers, work, 0);
    place_bodies(at);
    for (int r = 0; r < PAIRS; r++) {
        double one[3], two[3], radii = closest(pair_first[r], pair_second[r], one, two);
        double away[3] = {one[0] - two[0], one[1] - two[1], one[2] - two[2]};
        nearest = fmin(nearest, sqrt(dot(away, away)) - radii);
    }
    return nearest;
}

/* `solver.clear`: whether the joints stay `least` apart on the way to rest under full braking. */
int wbc_clear(const double *q, const double *velocity, const double *hardest, const double *levers, double least,
              double deepest) {
    double stop[VARIABLES], posture[VARIABLES], last = 0.0, after = 0.0;
    memcpy(posture, q, sizeof posture);
    for (int i = BASE; i < VARIABLES; i++) { stop[i] = fabs(velocity[i]) / hardest[i]; last = fmax(last, stop[i]); }
    for (int look = 0; look < LOOKS; look++) {
        double closing = 0.0;
        for (int i = BASE; i < VARIABLES; i++) {
            double t = fmin(after, stop[i]), sign = velocity[i] > 0.0 ? 1.0 : velocity[i] < 0.0 ? -1.0 : 0.0;
            posture[i] = q[i] + velocity[i] * (DT + t) - 0.5 * sign * hardest[i] * t * (t + DT);
            closing += levers[i] * fmax(fabs(velocity[i]) - hardest[i] * after, 0.0);
        }
        double distance = wbc_nearest(posture);
        if (distance < least) return 0;
        if (after >= last) return 1;
        after = fmin(after + fmax(distance - deepest, PACE) / fmax(closing, 1e-9), last);
    }
    return 0;
}

/* Speeds, with the sign of the errors, that can still stop within them: `viability.stopping_speed`. */
void wbc_approach(const double *error, const double *hardest, int count, double *speed) {
    for (int i = 0; i < count; i++) speed[i] = copysign(stopping_speed(fabs(error[i]), hardest[i]), error[i]);
}
