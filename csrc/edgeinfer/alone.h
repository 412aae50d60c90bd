/* Both ends where requests seldom meet: what one request takes alone, and what the others may add. Any
 * arrivals, renewal ones for the upper end.
 *
 * W is at least C, the sum of one service X_k of every stage, and beyond T only if C is, or one of the paths
 * that begin at an earlier job. Such a path goes back n >= 1 jobs, has c_k >= 1 services of each stage with
 * sum_k (c_k - 1) = n, and is shorter by n times t between arrivals; for each of them Markov's inequality
 * holds, and with M_k = E e^{theta X_k}, phi = E e^{-theta t}, phi M_k < 1,
 *   P(C > T) <= P(W > T) <= P(C > T) + e^{-theta T} prod_k M_k [prod_k 1 / (1 - phi M_k) - 1].
 * The last term has a factor phi more than the bound of all paths, which falls with theta faster than M_k
 * grows where times between arrivals are long beside services, or services vary little and arrivals are even.
 *
 * C's law is taken on a lattice, services rounded up or down, each but one by a step; that of one random
 * service is taken where it is asked for. */
#ifndef EDGEINFER_ALONE_H
#define EDGEINFER_ALONE_H

#include "edgeinfer/ends.h"

/* Raises lower and cuts upper ends. Status: EI_ERR_NO_MEMORY, and of ei_service_log_mgf. */
EI_WARN_UNUSED int ei_alone_ends(const ei_batch *self, const ei_service *stages, size_t stage_count);

#endif
