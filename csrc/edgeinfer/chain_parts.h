/* What the files of chain.h share: the chain's parts, the laws of sojourn times in runs of them, and ends by
 * each formula. Statuses are those of chain.h, and EI_ERR_ACCURACY and EI_ERR_UNSTABLE (ei_no_bound) where
 * there is no such law; functions that are named ends take these for none. */
#ifndef EDGEINFER_CHAIN_PARTS_H
#define EDGEINFER_CHAIN_PARTS_H

#include <stddef.h>

#include "edgeinfer/ends.h"
#include "edgeinfer/service.h"
#include "edgeinfer/tilted.h"
#include "edgeinfer/walk.h"

enum {
    EI_CHAIN_WALK_POINTS = 131072,  /* of the walk at the bottleneck */
    EI_CHAIN_SHORT_WALK = 32768,    /* of one before it */
    EI_CHAIN_PERIODIC_POINTS = 512, /* over the services beside the bottleneck */
    EI_CHAIN_LINDLEY_POINTS = 8192, /* of a walk behind other arrivals, or with little time to spare */
    EI_CHAIN_SUM_POINTS = 4096      /* lattice of the sum of the other stages' services */
};
static const double EI_CHAIN_COARSE = 1.0 / 32; /* effort of a trial */
static const double EI_CHAIN_TRIAL = 2;         /* times what is known that a trial may be */
static const double EI_CHAIN_FURTHEST = 55;     /* decay times after which a sojourn time's lattice ends */
static const double EI_CHAIN_FURTHER = 30;      /* after how many more a bound of moments has to be small */
static const double EI_CHAIN_NEAR = 1.5; /* times the least decay: parts that a lower end may come from, */
static const double EI_CHAIN_FAR = 3;    /* and an upper end */
static const double EI_CHAIN_CLOSE =
    1.02; /* upper / lower below which no more is tried behind renewal arrivals, */
static const double EI_CHAIN_WIDE = 2;    /* from which on what takes long is tried */
static const double EI_CHAIN_FAIR = 1.05; /* and behind Poisson ones */

/* What a trial comes to at the probes: the sum of its logarithms, and the least ratio to what is known. */
typedef struct {
    double sum, ratio;
} ei_outcome;

/* A random stage, or adjacent deterministic ones. */
typedef struct {
    const ei_service *service; /* NULL: deterministic */
    double once, again;        /* s: all their times, and the longest */
    double mean, decay;        /* s; 1/s, of this part alone */
    size_t end;                /* stages up to the last one of the part */
} ei_part;

typedef struct {
    const ei_batch *batch;
    const ei_service *stages;
    ei_part *parts;
    size_t count;
    const ei_service *leading; /* exponential, but for such as take no time: see chain.h */
    size_t leading_count;
    double constant;       /* s */
    double sum_step;       /* s: of the lattice of a sum, at least */
    double effort;         /* share of the points and the work of an upper end */
    double laws_effort;    /* the same of the laws that are kept */
    size_t pair_points;    /* of the lattice for two stages at once; 0: they are not */
    double pair_less;      /* s: by which their services and the times between arrivals are less */
    int runs;              /* whether what is fed periodically is bounded by runs of tilted.h, too */
    int finer;             /* whether services beside the bottleneck get more points */
    int equal;             /* whether joint.h has ends for it, all its parts being nearly as slow */
    double share;          /* of the largest exponent, that `tilted` takes; 0: the largest */
    int known;             /* whether `tilted` takes the law up to its part and not V */
    ei_outcome *score;     /* not NULL: takes what upper ends come to, which stay */
    const ei_part *before; /* not NULL: what comes first where this is the chain in the opposite order, */
    double floor;          /* s, under its first part */
    ei_upper_law *laws;    /* [count][count], of the sojourn times in a run of parts, as they are asked for */
} ei_chain;

/* ---- chain_parts.c */

/* The laws that are kept alone, as for a trial; or all. */
void ei_chain_free_laws(ei_chain *self);
void ei_chain_free(ei_chain *self);

/* The parts of the chain and what they decay by; of a trial nothing is kept but laws. `self` is to be freed
 * whatever the status. */
EI_WARN_UNUSED int ei_chain_init(ei_chain *self, const ei_batch *batch, const ei_service *stages,
                                 size_t stage_count);

/* The chain behind the exponential stages that come first. Poisson arrivals. */
EI_WARN_UNUSED int ei_chain_init_behind(ei_chain *self, const ei_batch *batch, const ei_service *stages,
                                        size_t stage_count);

/* The stages, the slowest of neighbouring exponential ones first, see chain.h: the caller's to free; NULL: no
 * memory. */
ei_service *ei_chain_slowest_first(const ei_service *given, size_t stage_count);
int ei_part_is_exponential(const ei_part *self);
/* s: its shortest service. */
double ei_part_shortest(const ei_part *self);
/* s: a time that its services are hardly ever shorter than, as ei_added_stage.less. */
double ei_part_least(const ei_part *self);
/* To be added as in walk.h or lindley.h. */
ei_added_stage ei_part_stage(const ei_part *self, double floor);

/* Time that the service exceeds with probability `chance`. */
double ei_chain_quantile(const ei_service *service, double chance);

/* The part from `first` to before `last` whose queue decays the slowest; the number of parts: none. */
size_t ei_chain_slowest(const ei_chain *self, size_t first, size_t last, int exponential_too);

/* The part whose queue decays the slowest of those not yet `used`. */
size_t ei_chain_next_bottleneck(const ei_chain *self, const unsigned char *used);

/* The law of Y, bounded from one side, with the sojourn time in an exponential stage added. */
void ei_chain_add_sojourn(const ei_chain *self, const ei_service *stage, ei_end end, ei_lattice *law);
/* The same of all exponential stages that come first. */
void ei_chain_add_leading(const ei_chain *self, ei_end end, ei_lattice *law);

/* The sum of one service of every random part but `except`, rounded down. Empty: 0. */
EI_WARN_UNUSED int ei_chain_sum_of_others(const ei_chain *self, size_t except, ei_lattice *sum);

/* One service of every random part from `first` to before `last`, rounded down; empty: 0. */
EI_WARN_UNUSED int ei_chain_sum(const ei_chain *self, size_t first, size_t last, ei_lattice *sum);

/* A lattice up to the horizon, of that step where the law is empty. */
EI_WARN_UNUSED int ei_chain_lengthen(ei_lattice *law, double step, double horizon);

/* A lattice on which deterministic services and floors are not rounded; of a deterministic one it reaches
 * further by a service, back to which goes what is beyond it. */
double ei_chain_lindley_step(const ei_added_stage *stage, double horizon, size_t points);

/* Raises lower ends by the sum of independent times of these laws and of all constants, and cuts upper ends
 * so, or takes what that comes to for the score of a trial. */
void ei_chain_raise(const ei_chain *self, const ei_lattice *sojourn, const ei_lattice *others, int method);
void ei_chain_cut(const ei_chain *self, const ei_upper_law *before, const ei_upper_law *after, int method);

/* The chain with little effort for all of its laws, for a trial. */
EI_WARN_UNUSED int ei_chain_begin_trial(ei_chain *self, const ei_chain *whole);

/* ---- chain_lower.c */

/* Of exponential stages' sojourn times alone. */
EI_WARN_UNUSED int ei_chain_lower_exponential(const ei_chain *self);

/* queue, link: by part b. */
EI_WARN_UNUSED int ei_chain_lower(const ei_chain *self, size_t b);

/* queue, link: by the wait for part b as lundberg.h has it without a lattice. */
EI_WARN_UNUSED int ei_chain_lower_lundberg(const ei_chain *self, size_t b);

/* two_stages: b with the slowest one before it and the slowest one behind it. Exponential stages before b
 * have all their sojourn times where those before them have one service. */
EI_WARN_UNUSED int ei_chain_lower_pairs(const ei_chain *self, size_t b);

/* queue, link behind renewal and Markov-modulated arrivals. */
EI_WARN_UNUSED int ei_chain_lower_renewal(const ei_chain *self, size_t b);

/* exponential: the slowest exponential parts at once, of exponentials.h behind renewal arrivals, two of
 * two_modulated.h behind Markov-modulated ones. */
EI_WARN_UNUSED int ei_chain_lower_exponentials(const ei_chain *self);

/* exponential: part b and the slowest behind it. */
EI_WARN_UNUSED int ei_chain_lower_geometric(const ei_chain *self, size_t b);

/* ---- chain_law.c */

/* Chernoff's bound on the sojourn time in the parts from `first` to `last` beyond `time`, delays left out,
 * and its exponent. */
EI_WARN_UNUSED int ei_chain_bound_beyond(const ei_chain *self, size_t first, size_t last, double time,
                                         double *bound, double *theta);

/* log of how much more of the requests that meet a phase than of all may be late, at most. */
double ei_chain_log_of_any_phase(const ei_chain *self);

/* Puts Chernoff's bound behind a law's lattice. */
EI_WARN_UNUSED int ei_chain_bound_tail(const ei_chain *self, size_t first, size_t last, ei_upper_law *law);

/* The better one of two bounds of one law, at each point. */
void ei_chain_take_better(ei_upper_law *law, const ei_upper_law *other);

/* Whether a lattice of the first order costs more than some share of a probability, as the server of a part
 * has little time to spare. */
int ei_chain_is_rough(const ei_chain *self, const ei_part *one, double floor, double horizon, double step);

/* Whether two parts are for two_exponentials.h. */
int ei_chain_has_two_exponentials(const ei_chain *self, size_t first, size_t other);
/* An end of the law of the sojourn time in both, on a lattice over `horizon`. */
EI_WARN_UNUSED int ei_chain_two_exponentials_law(const ei_chain *self, size_t first, size_t other, ei_end end,
                                                 double horizon, ei_upper_law *law);

/* The law of part k alone, on a lattice over `horizon`: waiting time or sojourn time. */
EI_WARN_UNUSED int ei_chain_first_law(const ei_chain *self, size_t k, double floor, double horizon,
                                      ei_upper_law *law);

/* The lattice of a walk of a random part, of so many points or of as many as its services allow. */
double ei_chain_walk_step(const ei_chain *self, const ei_part *one, double floor, double horizon,
                          double points);

/* Adds part k to the law of the parts before it, which is replaced. */
EI_WARN_UNUSED int ei_chain_add_part(const ei_chain *self, size_t k, double floor, double horizon,
                                     double points, ei_upper_law *law);

/* What is known of the sojourn time in the parts from `first` to `last` beyond times up to the furthest:
 * Chernoff's bounds at some of these, which hold at all others. */
EI_WARN_UNUSED int ei_chain_choose_tail(const ei_chain *self, size_t first, size_t last, ei_tail *tail);

/* exponential: the parts from `first` to `last` by the exponential part b between them. */
EI_WARN_UNUSED int ei_chain_exponential_law(const ei_chain *self, size_t first, size_t b, size_t last,
                                            double horizon, double points, ei_upper_law *law);

/* Whether to take part b of those from `first` to `last`, not the last, for their bottleneck. */
int ei_chain_is_candidate(const ei_chain *self, size_t first, size_t b, size_t last);

/* The sojourn time in the parts from `first` to `last`, fed by the chain's own arrivals; *law is empty. */
EI_WARN_UNUSED int ei_chain_law(const ei_chain *self, size_t first, size_t last, ei_upper_law *law);

/* The sojourn time in the parts from `first` to `last`, upwards or downwards, fed every `period`. */
EI_WARN_UNUSED int ei_chain_fed_periodically(const ei_chain *self, size_t first, size_t last, double period,
                                             size_t finest, ei_upper_law *law);

/* log E e^{theta Q} of the parts behind b, fed by Poisson arrivals of that rate. */
EI_WARN_UNUSED int ei_chain_log_moment_behind(const ei_chain *self, size_t b, size_t last, double rate,
                                              double theta, double *value);

/* The decay of part b with a floor under it, from below; 0 where it is unstable. */
EI_WARN_UNUSED int ei_chain_floored_decay(const ei_chain *self, size_t b, double floor, double *decay);

/* ---- chain_tilted.c */

/* Chernoff's bound on the sum of exchange.h beyond `time`, all parts, delays left out, and its exponent. */
EI_WARN_UNUSED int ei_chain_bound_sum(const ei_chain *self, double time, double *bound, double *theta);

/* The better one of the law that is known and `tilted`'s by part b, if a trial says so. */
EI_WARN_UNUSED int ei_chain_cut_by_tilted(const ei_chain *self, size_t first, size_t b, size_t last,
                                          double horizon, ei_upper_law *law);

/* Whether to take part b of those from `first` to `last`, not the last, for one whose services are tilted: it
 * has to be slower than those behind it. */
int ei_chain_may_be_tilted(const ei_chain *self, size_t first, size_t b, size_t last);

/* tilted, for the random part b with others behind it. */
EI_WARN_UNUSED int ei_chain_tilted_ends(const ei_chain *self, size_t b);

/* tilted, for each part near to the slowest, by smaller exponents: parts behind it may be as slow. */
EI_WARN_UNUSED int ei_chain_less_tilted_ends(const ei_chain *self);

/* tilted, for the random part b with others behind it, by what is known of the law up to it. */
EI_WARN_UNUSED int ei_chain_known_ends(const ei_chain *self, size_t b);

/* tilted, for the random part b by the chain up to it in the opposite order, exchange.h, or bottleneck_first
 * where others are behind it. Exponential parts that follow b are put before it where b is one of them. */
EI_WARN_UNUSED int ei_chain_exchanged_ends(const ei_chain *self, size_t b);

/* ---- chain_pair.c */

/* The better one of the law that is known and that of two parts at once, which may not exist. */
EI_WARN_UNUSED int ei_chain_cut_by_pair(const ei_chain *self, size_t first, size_t last, double horizon,
                                        ei_upper_law *law);

/* Whether there are two parts that are nearly as slow as each other. */
int ei_chain_has_pair(const ei_chain *self);
/* The same where arrivals are not Poisson and two_stages may be worth what it takes: not behind bursts whose
 * times between arrivals have no bounded density. */
int ei_chain_may_have_pair(const ei_chain *self);

/* Two parts at once behind renewal arrivals, services and times between these less some time. */
typedef struct {
    ei_arrival arrival;
    double less, horizon, leads; /* s: by how many one may lead */
    double apart;                /* what ends come to, about, at best; 1: not known */
    size_t points;               /* 0: too few */
} ei_pair_lattice;

/* A lattice up to the horizon that costs no more than it may, of at most so many points, less no more than
 * `least` where they are periodic; the horizon is that of `count` services more. */
ei_pair_lattice ei_chain_pair_lattice(const ei_chain *self, double horizon, double least, size_t count,
                                      size_t most);

/* two_stages, for the deadlines of one class after the other, whose ends are still wide. */
EI_WARN_UNUSED int ei_chain_pair_ends(const ei_chain *self);

/* ---- chain_upper.c */

/* bottleneck_first, with the parts before b fed by Poisson arrivals, added_stage where b is the last part, or
 * periodically. */
EI_WARN_UNUSED int ei_chain_upper(const ei_chain *self, size_t b, double floor, int periodic);

/* The best floor under a random bottleneck, found with little effort, with all of it if that may cut ends. */
EI_WARN_UNUSED int ei_chain_bottleneck_ends(const ei_chain *self, size_t b, int periodic);

/* added_stage, if a trial may cut ends or comes to nothing. */
EI_WARN_UNUSED int ei_chain_added_ends(const ei_chain *self);

/* exponential, for the exponential part b with others behind it. */
EI_WARN_UNUSED int ei_chain_exponential_ends(const ei_chain *self, size_t b);

/* Exponential stages alone. */
EI_WARN_UNUSED int ei_chain_upper_exponential(const ei_chain *self);

/* ---- chain_heavy.c */

/* Ends by lundberg.h where the queue decays slowly for what a service lasts: part b and one service of each
 * other part, *found whether by a lattice, too; and bottleneck_first where the parts beside it are quick for
 * what its shortest services feed. */
EI_WARN_UNUSED int ei_chain_lower_heavy(const ei_chain *self, size_t b, int *found);
EI_WARN_UNUSED int ei_chain_upper_heavy(const ei_chain *self, size_t b);

/* ---- chain_periodic.c */

/* As ei_chain_fed_periodically from the first part to the last, with the equation that a part adds solved
 * where requests wait for it (lindley.h); exits: constant parts by last_exit.h, too. EI_ERR_ACCURACY and the
 * like where it cannot be. */
EI_WARN_UNUSED int ei_chain_periodic_upper(const ei_chain *self, int exits, ei_upper_law *law);

/* All ends behind periodic arrivals. */
EI_WARN_UNUSED int ei_chain_periodic_ends(const ei_chain *self);

/* ---- chain_renewal.c */

/* Whether the law of a sojourn time may be drawn afresh at each request: lindley.h. */
int ei_chain_may_be_drawn(const ei_chain *self);

/* exponential, of two exponential parts and more alone; *found: nothing else need be tried. */
EI_WARN_UNUSED int ei_chain_exponentials_ends(const ei_chain *self, int *found);

/* exponential, of one or two exponential parts alone behind Markov-modulated arrivals, if there are such
 * ends; whether no others are needed. */
EI_WARN_UNUSED int ei_chain_modulated_ends(const ei_chain *self, int *found);

/* exponential, for each part near to the slowest with others behind it. */
EI_WARN_UNUSED int ei_chain_geometric_ends(const ei_chain *self);

/* All ends behind other renewal arrivals, and Markov-modulated ones. */
EI_WARN_UNUSED int ei_chain_ends_behind_renewal(const ei_chain *self);

#endif
