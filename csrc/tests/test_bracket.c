/* Brackets: wrong inputs, interruption, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/bracket.h"

static int call_bracket(const ei_service *stages, size_t count) {
    double rate = 1, deadline = 5, lower, upper;
    uint8_t lower_method, upper_method;
    return ei_violation_bracket(stages, count, NULL, EI_EFFORT_FAST, 1, &rate, &deadline, &lower, &upper,
                                &lower_method, &upper_method, quiet);
}

static int call_link_bracket(const ei_service *stages, size_t count) {
    double rate = 0.8 / ei_service_mean(&stages[1]), deadline = 20 / rate, lower, upper;
    uint8_t lower_method, upper_method;
    ei_service part[3] = {stages[0], stages[1], stages[2]};
    part[0].time = 0.8 * ei_service_mean(&stages[1]);
    part[2].time = 0.9 * ei_service_mean(&stages[1]);
    int status = ei_violation_bracket(part, count, NULL, EI_EFFORT_FAST, 1, &rate, &deadline, &lower, &upper,
                                      &lower_method, &upper_method, quiet);
    CHECK(status != EI_OK ||
          (upper_method != EI_BRACKET_MOMENTS && lower > 0 && upper < 3 * lower && lower <= upper));
    return status;
}

static void test_interruption(const ei_service *stages) {
    int polled = 0;
    double deadline = 3;
    double rate = 0.7 / ei_service_mean(&stages[1]), lower, upper;
    uint8_t lower_method, upper_method;
    CHECK(ei_violation_bracket(stages + 1, 1, NULL, EI_EFFORT_FAST, 1, &rate, &deadline, &lower, &upper,
                               &lower_method, &upper_method,
                               (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
}

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    check_bad_stages(call_bracket);
    sweep_allocations(call_bracket, "bracket", stages, 3);
    sweep_allocations(call_link_bracket, "bracket of a link", stages, 3);
    test_interruption(stages);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
