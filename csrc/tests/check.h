/* CHECK(condition) counts, and prints the place of a failure; check_report() ends main(). */
#ifndef EDGEINFER_CHECK_H
#define EDGEINFER_CHECK_H

#include <math.h>
#include <stdio.h>

static unsigned check_passed, check_failed;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (condition) {                                                                                     \
            check_passed++;                                                                                  \
        } else {                                                                                             \
            check_failed++;                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
        }                                                                                                    \
    } while (0)

/* |value / expected - 1| <= tolerance. */
#define CHECK_RELATIVE(value, expected, tolerance)                                                           \
    do {                                                                                                     \
        double check_value = (value), check_expected = (expected);                                           \
        if (fabs(check_value - check_expected) <= (tolerance) * fabs(check_expected)) {                      \
            check_passed++;                                                                                  \
        } else {                                                                                             \
            check_failed++;                                                                                  \
            fprintf(stderr, "%s:%d: %s = %.17g, expected %.17g\n", __FILE__, __LINE__, #value, check_value,  \
                    check_expected);                                                                         \
        }                                                                                                    \
    } while (0)

static inline int check_report(void) {
    printf("%u passed, %u failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
