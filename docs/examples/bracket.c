/* P(W > T) of an edge, a link and a device, from C. */
#include <stdint.h>
#include <stdio.h>

#include "edgeinfer/bracket.h"
#include "edgeinfer/transfer.h"

int main(void) {
    ei_transfer *downlink;
    const ei_monitor none = {NULL, NULL};
    int status = ei_transfer_new(&downlink, 1e6, 10e6, 1.26, 0.01, none); /* bit, Hz, linear SNR, s */
    if (status == EI_OK) {
        const ei_service stages[] = {
            {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.4},
            {.kind = EI_SERVICE_TRANSFER, .transfer = downlink},
            {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.3},
        };
        const double arrival_rate[] = {1.2, 1.2}, deadline[] = {2, 4};
        double lower[2], upper[2];
        uint8_t lower_method[2], upper_method[2];
        status = ei_violation_bracket(stages, 3, NULL, EI_EFFORT_FAST, 2, arrival_rate, deadline, lower,
                                      upper, lower_method, upper_method, none);
        for (int i = 0; status == EI_OK && i < 2; i++)
            printf("%.6e <= P(W > %g s) <= %.6e\n", lower[i], deadline[i], upper[i]);
    }
    ei_transfer_free(downlink);
    if (status != EI_OK)
        fprintf(stderr, "%s\n", ei_status_text(status));
    return status == EI_OK ? 0 : 1;
}
