#include "edgeinfer/cell_state.h"

/* Parts of a terminal's own: requests meet all servers in order of time, so that a request's times in them
 * follow from the servers' ends at once, without events. A fork that waits for any number of branches whose
 * requests leave in order lets them leave in order, since the k-th smallest of sequences that do not fall
 * does not fall. */

/* Forks within forks. */
enum { MOST_DEEP = 64 };

static int has_service(const ei_cell *self, const ei_cell_part *part) {
    return part->service < self->service_count && self->services[part->service].kind != EI_SERVICE_CHANNEL;
}

/* Checks `count` parts that follow each other from *at on, with those within them. */
static int verify_path(const ei_cell *self, const ei_cell_class *class, const ei_cell_stage *stage,
                       size_t *at, size_t count, int deep, int *ordered) {
    *ordered = 1;
    for (; count > 0; count--) {
        if (*at >= stage->part_count || deep > MOST_DEEP)
            return EI_ERR_DOMAIN;
        const ei_cell_part *part = &stage->parts[(*at)++];
        if (part->kind == EI_NODE_DELAY) {
            if (!has_service(self, part))
                return EI_ERR_DOMAIN;
            *ordered = *ordered && self->services[part->service].kind == EI_SERVICE_DETERMINISTIC;
            continue;
        }
        if (!*ordered)
            return EI_ERR_DOMAIN;
        if (part->kind == EI_NODE_SERVER || part->kind == EI_NODE_REVIEW) {
            if (!has_service(self, part) || part->server >= class->server_count ||
                (part->kind == EI_NODE_REVIEW && !(part->probability >= 0 && part->probability <= 1)))
                return EI_ERR_DOMAIN;
            *ordered = part->kind == EI_NODE_SERVER;
            continue;
        }
        if (part->kind != EI_NODE_FORK || part->count == 0 || part->count > EI_MOST_BRANCHES ||
            part->needed == 0 || part->needed > part->count)
            return EI_ERR_DOMAIN;
        int all = 1;
        for (size_t b = 0; b < part->count; b++) {
            int branch;
            if (*at >= stage->part_count || stage->parts[*at].kind != EI_NODE_BRANCH)
                return EI_ERR_DOMAIN;
            const size_t length = stage->parts[(*at)++].count;
            int status = verify_path(self, class, stage, at, length, deep + 1, &branch);
            if (status != EI_OK)
                return status;
            all = all && branch;
        }
        *ordered = all;
    }
    return EI_OK;
}

int ei_cell_parts_verify(const ei_cell *self, const ei_cell_class *class, const ei_cell_stage *stage,
                         int *ordered) {
    size_t at = 0;
    int status = verify_path(self, class, stage, &at, 1, 0, ordered);
    return status == EI_OK && at != stage->part_count ? EI_ERR_DOMAIN : status;
}

/* The k-th smallest of `count` numbers, from 0; they are sorted. */
static double smallest(double *values, size_t count, size_t k) {
    for (size_t i = 1; i < count; i++) {
        const double value = values[i];
        size_t place = i;
        for (; place > 0 && values[place - 1] > value; place--)
            values[place] = values[place - 1];
        values[place] = value;
    }
    return values[k];
}

static double pass_part(ei_cell_state *self, const ei_cell_part **at, size_t own, double time, double *alone);

static double pass_fork(ei_cell_state *self, const ei_cell_part *fork, const ei_cell_part **at, size_t own,
                        double time, double *alone) {
    double ends[EI_MOST_BRANCHES] = {0}, times[EI_MOST_BRANCHES] = {0};
    for (size_t b = 0; b < fork->count; b++) {
        const ei_cell_part *branch = (*at)++;
        ends[b] = time;
        for (size_t i = 0; i < branch->count; i++) {
            double one;
            ends[b] = pass_part(self, at, own, ends[b], &one);
            times[b] += one;
        }
    }
    *alone = smallest(times, fork->count, fork->needed - 1);
    return smallest(ends, fork->count, fork->needed - 1);
}

static double pass_part(ei_cell_state *self, const ei_cell_part **at, size_t own, double time,
                        double *alone) {
    const ei_cell_part *part = (*at)++;
    if (part->kind == EI_NODE_FORK)
        return pass_fork(self, part, at, own, time, alone);
    *alone = 0;
    if (part->kind == EI_NODE_REVIEW && ei_rng_uniform(&self->rng) > part->probability)
        return time;
    *alone = ei_sampler_draw(&self->samplers[part->service], &self->rng);
    if (part->kind == EI_NODE_DELAY)
        return time + *alone;
    double *free_at = &self->free_at[own + part->server];
    return *free_at = (*free_at > time ? *free_at : time) + *alone;
}

double ei_cell_parts_pass(ei_cell_state *self, const ei_cell_stage *stage, size_t own, double time,
                          double *alone) {
    const ei_cell_part *at = stage->parts;
    return pass_part(self, &at, own, time, alone);
}
