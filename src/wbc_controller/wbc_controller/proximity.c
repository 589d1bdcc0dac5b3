/* Distances between bodies and the rows that keep them apart: `proximity.py` in loops, number for number.
 *
 * Needs the tables of `proximity.c_tables` and N. */

static double unit(double x) { return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x; }
static double dot(const double *x, const double *y) { return x[0] * y[0] + x[1] * y[1] + x[2] * y[2]; }

static void place(const double *at, const double *local, double *out) {
    for (int i = 0; i < 3; i++) out[i] = at[9 + i] + dot(at + 3 * i, local);
}

static void segment_segment(const double *a0, const double *a1, const double *b0, const double *b1, double *one,
                            double *two) {
    double u[3], v[3], w[3];
    for (int i = 0; i < 3; i++) { u[i] = a1[i] - a0[i]; v[i] = b1[i] - b0[i]; w[i] = a0[i] - b0[i]; }
    double a = dot(u, u) + TINY, b = dot(u, v), c = dot(v, v) + TINY, d = dot(u, w), e = dot(v, w);
    double s = unit((b * e - c * d) / fmax(a * c - b * b, TINY * TINY));
    double t = unit((b * s + e) / c);
    s = unit((b * t - d) / a);
    for (int i = 0; i < 3; i++) { one[i] = a0[i] + s * u[i]; two[i] = b0[i] + t * v[i]; }
}

/* rotation: row-major, columns the box's axes */
static void segment_box(const double *a0, const double *a1, const double *rotation, const double *centre,
                        const double *half, double *one, double *two) {
    double start[3] = {0}, along[3] = {0}, bends[8] = {0.0, 1.0};
    for (int j = 0; j < 3; j++)
        for (int i = 0; i < 3; i++) {
            start[i] += rotation[3 * j + i] * (a0[j] - centre[j]);
            along[i] += rotation[3 * j + i] * (a1[j] - a0[j]);
        }
    for (int i = 0; i < 3; i++) {
        double divisor = 1.0 / (fabs(along[i]) < PARALLEL ? PARALLEL : along[i]);
        bends[2 + i] = unit((-half[i] - start[i]) * divisor);
        bends[5 + i] = unit((half[i] - start[i]) * divisor);
    }
    double low = 0.0, high = 1.0, below = -STEEP, above = STEEP;
    for (int k = 0; k < 8; k++) {
        double s = bends[k], g = 0.0;
        for (int i = 0; i < 3; i++) {
            double point = start[i] + s * along[i];
            g += (point - fmin(fmax(point, -half[i]), half[i])) * along[i];
        }
        if (g <= 0.0) { low = fmax(low, s); below = fmax(below, g); }
        if (g >= 0.0) { high = fmin(high, s); above = fmin(above, g); }
    }
    double s = low - below * (high - low) / fmax(above - below, TINY * TINY), on_box[3];
    for (int i = 0; i < 3; i++) on_box[i] = fmin(fmax(start[i] + s * along[i], -half[i]), half[i]);
    for (int i = 0; i < 3; i++) {
        one[i] = a0[i] + s * (a1[i] - a0[i]);
        two[i] = centre[i] + dot(rotation + 3 * i, on_box);
    }
}

static double start[CAPSULES + 1][3], end[CAPSULES + 1][3], turn[BOXES + 1][9], centre[BOXES + 1][3];

static void place_bodies(const double *at) {
    for (int c = 0; c < CAPSULES; c++) {
        place(at + 12 * capsule_link[c], capsule_start + 3 * c, start[c]);
        place(at + 12 * capsule_link[c], capsule_end + 3 * c, end[c]);
    }
    for (int b = 0; b < BOXES; b++) {
        const double *own = at + 12 * box_link[b], *local = box_rotation + 9 * b;
        place(own, box_centre + 3 * b, centre[b]);
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                turn[b][3 * i + j] =
                    own[3 * i] * local[j] + own[3 * i + 1] * local[3 + j] + own[3 * i + 2] * local[6 + j];
    }
}

/* Closest points of capsule a and body b; returns the radii to subtract. */
static double closest(int a, int b, double *one, double *two) {
    if (b < CAPSULES) {
        segment_segment(start[a], end[a], start[b], end[b], one, two);
        return capsule_radius[a] + capsule_radius[b];
    }
    b -= CAPSULES;
    segment_box(start[a], end[a], turn[b], centre[b], box_half + 3 * b, one, two);
    return capsule_radius[a];
}

static double stopping_speed(double distance, double acceleration) {
    double step = acceleration * DT * DT;
    if (distance < 0.0) distance = 0.0;
    double m = floor(0.5 * (sqrt(1.0 + 8.0 * distance / step) - 1.0));
    return (distance + 0.5 * step * m * (m + 1.0)) / ((m + 1.0) * DT);
}

/* Adds sign * n'J of a point moved by the variables in mask to row. */
static void add_gradient(const double *axis, const double *origin, const double *normal, const double *point,
                         unsigned mask, double sign, double *row) {
    for (int j = 0; j < N; j++) {
        if (!(mask >> j & 1u)) continue;
        const double *a = axis + 3 * j, *o = origin + 3 * j;
        if (TURNING >> j & 1u) {
            double x = point[0] - o[0], y = point[1] - o[1], z = point[2] - o[2];
            row[j] += sign * (normal[0] * (a[1] * z - a[2] * y) + normal[1] * (a[2] * x - a[0] * z) +
                              normal[2] * (a[0] * y - a[1] * x));
        } else
            row[j] += sign * dot(normal, a);
    }
}

/* One row of A and its least rate, when the bodies are near; returns the distance. */
static double separate(const double *axis, const double *origin, const double *one, const double *two, double radii,
                       double smallest, unsigned mine, unsigned other, double *row, double *least, int *near) {
    double away[3] = {one[0] - two[0], one[1] - two[1], one[2] - two[2]};
    double length = sqrt(dot(away, away) + TINY * TINY), distance = length - radii;
    *near = distance < smallest + WATCH;
    if (!*near) return distance;
    double normal[3] = {away[0] / length, away[1] / length, away[2] / length}, spare = distance - smallest;
    memset(row, 0, sizeof(double) * N);
    add_gradient(axis, origin, normal, one, mine & ~other, 1.0, row);
    add_gradient(axis, origin, normal, two, other & ~mine, -1.0, row);
    *least = spare > 0.0 ? -fmin(GAIN * spare, stopping_speed(spare, BRAKE)) : fmin(-GAIN * spare, RETREAT);
    return distance;
}
