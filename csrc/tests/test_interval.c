/* Student's quantiles: outside their domain, and one in closed form. */
#include "inputs.h"

#include "edgeinfer/interval.h"

int main(void) {
    CHECK(isnan(ei_student_quantile(0, 3)) && isnan(ei_student_quantile(0.5, 0)));
    CHECK_RELATIVE(ei_student_quantile(0.975, 1), 12.706204736, 1e-8);
    return check_report();
}
