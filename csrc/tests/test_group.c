/* Stages as bounds by moments see them: what is merged, tabulated transforms, and where they end. */
#include "inputs.h"

#include "edgeinfer/group.h"

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    ei_service chain[4] = {stages[0], stages[2], stages[1], stages[0]};
    ei_groups groups;
    CHECK(ei_groups_init(&groups, chain, 4) == EI_OK && groups.count == 3);
    CHECK(groups.groups[0].service == NULL && groups.groups[1].service == &chain[2]);
    CHECK_RELATIVE(groups.groups[0].once, 0.7, 1e-15);
    CHECK(groups.groups[0].again == 0.4 && groups.groups[2].again == 0.3);
    /* Of the table as of the transform itself, but for the error of cubic interpolation, which is larger
     * where one bound of the transfer's far tail takes the place of another. */
    ei_group *link = &groups.groups[1];
    CHECK(ei_group_tabulate(link) == EI_OK);
    for (double theta = 1e-3; theta < fmin(1e6, 0.9 * link->abscissa); theta *= 1.3) {
        double value, slope, quick, quick_slope;
        CHECK(ei_group_log_mgf(link, theta, &value, &slope) == EI_OK);
        CHECK(ei_group_quick_log_mgf(link, theta, &quick, &quick_slope) == EI_OK);
        const double kink = theta * ei_transfer_extent(law) < 30 ? 1 : 200;
        CHECK_RELATIVE(quick, value, 1e-6 * kink);
        CHECK_RELATIVE(quick_slope, slope, 1e-4 * kink);
    }
    double value;
    CHECK(ei_group_log_mgf(link, NAN, &value, NULL) == EI_ERR_DOMAIN);
    ei_groups_free(&groups);
    /* M/M/1: mu - lambda; an unstable stage: 0; no work at all: infinite. */
    ei_service alone = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    CHECK(ei_groups_init(&groups, &alone, 1) == EI_OK);
    CHECK(ei_groups_decay_rate(&groups, &(ei_arrival){.parameter = {1.2}}, &value) == EI_OK);
    CHECK_RELATIVE(value, 0.8, 1e-9);
    CHECK(ei_groups_decay_rate(&groups, &(ei_arrival){.parameter = {2.5}}, &value) == EI_OK && value == 0);
    ei_groups_free(&groups);
    alone = (ei_service){.kind = EI_SERVICE_DETERMINISTIC, .time = 0};
    CHECK(ei_groups_init(&groups, &alone, 1) == EI_OK);
    CHECK(ei_groups_decay_rate(&groups, &(ei_arrival){.parameter = {1}}, &value) == EI_OK && isinf(value));
    ei_groups_free(&groups);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
