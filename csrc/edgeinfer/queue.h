/* Stationary waiting times of single-server FIFO queues with Poisson or periodic arrivals. Seconds; rates in
 * 1/s. */
#ifndef EDGEINFER_QUEUE_H
#define EDGEINFER_QUEUE_H

#include <stddef.h>

#include "edgeinfer/lattice.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

/* M/D/1, exactly: P(Wq > k d + u) = sum_j Poisson(j; lambda (d - u)) P(N > k - j + 1), N the number in the
 * system, whose law comes from level crossings, so that every term is positive and small probabilities keep
 * their relative accuracy (about 1e-13; cf. Franx, Oper. Res. Letters 29, 2001). */
typedef struct {
    double arrival_rate, service_time;
    size_t levels;
    double *tail; /* [levels], P(N > i + 1); owned */
    double decay; /* ratio of successive tails beyond them */
} ei_md1;

/* Given: load arrival_rate * service_time < 1; service_time 0 is a queue that never waits; horizon, s, the
 * largest time asked of ei_md1_waiting_sf: times beyond it, or beyond 65536 service times, take the law to be
 * geometric. Status: EI_ERR_UNSTABLE, EI_ERR_DOMAIN, EI_ERR_NO_MEMORY. free is legal after a failed init. */
EI_WARN_UNUSED int ei_md1_init(ei_md1 *self, double arrival_rate, double service_time, double horizon);
void ei_md1_free(ei_md1 *self);
double ei_md1_waiting_sf(const ei_md1 *self, double time);

/* M/G/1 sojourn time S + Wq, from the defective renewal equation sf(t) = (1 - rho) g(t) + lambda int_t^inf g
 * + int_0^t lambda g(u) sf(t - u) du, g the service's survival function, with every cell's mass and place
 * rounded one way: never below (upper) or above (lower) the truth, at `count` points. service: g on a lattice
 * EI_MG1_FINE times as fine, up to where it is negligible, since the mass counts more than the place. upper
 * with a rounded load >= 1: EI_ERR_UNSTABLE. */
enum { EI_MG1_FINE = 8 };
EI_WARN_UNUSED int ei_mg1_sojourn(ei_lattice *self, const ei_lattice *service, double arrival_rate,
                                  size_t count, ei_end end, ei_monitor monitor);

/* Lower bounds of the law of the sojourn time with a job every `interval` seconds, from Lindley's recursion:
 * the laws of successive jobs that begin with an empty queue grow, so that any of them is one. Services are
 * rounded down, the interval is a whole number of steps. *self is the caller's to free, also after an error.
 */
EI_WARN_UNUSED int ei_periodic_sojourn_lower(ei_lattice *self, const ei_service *law, double interval);

#endif
