/* Calls of C interfaces over and over, so that Python's part of a call is not measured.
 *
 * Each function scores `calls` batches in turn and returns the processor time of a flow, in microseconds. */
#include <stddef.h>
#include <stdint.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* LightGBM, one row at a time, with its configuration prepared. */
double lightgbm_single(int (*score)(void *, const void *, int64_t *, double *), void *prepared,
                       const float *rows, long count, long columns, long calls, double *out) {
    int64_t len;
    double begun = now();
    for (long call = 0; call < calls; call++)
        score(prepared, rows + (size_t)(call % count) * columns, &len, out);
    return (now() - begun) / calls;
}

/* LightGBM, a matrix at a time. */
double lightgbm_matrix(int (*score)(void *, const void *, int, int32_t, int32_t, int, int, int, int,
                                    const char *, int64_t *, double *),
                       void *booster, const float *rows, long count, long columns, long batch,
                       long calls, double *out) {
    int64_t len;
    double begun = now();
    for (long call = 0; call < calls; call++)
        score(booster, rows + (size_t)(call % (count / batch)) * batch * columns, 0, (int32_t)batch,
              (int32_t)columns, 1, 0, 0, -1, "num_threads=1", &len, out);
    return (now() - begun) / calls / batch;
}

/* A model that tl2cgen made C code of: one row at a time, whatever the batch. No value is missing, so
 * a row of its entries is a row of numbers. */
double compiled(void (*score)(void *, int, void *), char *rows, long count, long bytes, long calls,
                void *out) {
    double begun = now();
    for (long call = 0; call < calls; call++)
        score(rows + (size_t)(call % count) * bytes, 0, out);
    return (now() - begun) / calls;
}
