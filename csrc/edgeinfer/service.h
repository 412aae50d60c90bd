/* A stage's service time: independent from job to job and from the other stages, but on a channel. */
#ifndef EDGEINFER_SERVICE_H
#define EDGEINFER_SERVICE_H

#include <stddef.h>

#include "edgeinfer/channel.h"
#include "edgeinfer/repetition.h"
#include "edgeinfer/status.h"
#include "edgeinfer/transfer.h"

typedef enum {
    EI_SERVICE_DETERMINISTIC, /* `time`, >= 0 */
    EI_SERVICE_EXPONENTIAL,   /* mean `time`, > 0 */
    EI_SERVICE_TRANSFER,      /* the law `transfer` */
    EI_SERVICE_SAMPLES,       /* the empirical law of `samples` */
    EI_SERVICE_CHANNEL,       /* `bits` over `channel` on the wall clock, dependent from job to job */
    EI_SERVICE_COMPOUND,      /* a random number of rounds: the law `compound` */
    EI_SERVICE_REPETITION     /* blocks repeated until they get through: the law `repetition` */
} ei_service_kind;

typedef struct ei_compound ei_compound; /* compound.h */

typedef struct {
    ei_service_kind kind;
    double time;                 /* s */
    const ei_transfer *transfer; /* not owned */
    const double *samples;       /* s, ascending, finite, >= 0; not owned */
    size_t sample_count;
    double bits; /* > 0 */
    ei_channel channel;
    const ei_compound *compound;     /* not owned */
    const ei_repetition *repetition; /* not owned */
} ei_service;

/* Checks the fields that `kind` uses: EI_ERR_DOMAIN, EI_ERR_EMPTY (no samples, no states). */
EI_WARN_UNUSED int ei_service_verify(const ei_service *self);
/* The same for what is proved for independent services: EI_ERR_DOMAIN for a channel, too, to which none of
 * the functions below but mean and variance applies. */
EI_WARN_UNUSED int ei_service_verify_independent(const ei_service *self);
/* s and s^2. Of a channel, those of J bits within many: the mean J / E[R], which decides whether a queue is
 * stable, and the variance J v / E[R]^3 that its share of the sum has, v the channel's spread. */
double ei_service_mean(const ei_service *self);
double ei_service_variance(const ei_service *self);
/* Of a compound an upper bound, see compound.h. */
double ei_service_sf(const ei_service *self, double time);
/* The relative and the absolute error of that. */
void ei_service_accuracy(const ei_service *self, double *relative, double *absolute);
double ei_service_minimum(const ei_service *self); /* infimum of the support, s */
double ei_service_maximum(const ei_service *self); /* supremum of the support, s */
double ei_service_extent(const ei_service *self);  /* time with P(S > time) < 1e-20, s */
EI_WARN_UNUSED int ei_service_log_mgf(const ei_service *self, double theta, double *value,
                                      double *derivative);
#define EI_SERVICE_MGF_ERROR 1e-5                   /* relative, of that value */
double ei_service_abscissa(const ei_service *self); /* supremum of theta with a finite MGF, 1/s */
/* Relative error of the mean. */
double ei_service_mean_error(const ei_service *self);
/* An upper bound of E (S - time)^+, s: e^{-theta time} M(theta) / theta for the best of some theta. */
EI_WARN_UNUSED int ei_service_excess(const ei_service *self, double time, double *value);

#endif
