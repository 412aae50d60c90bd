/* The M/D/1 queue: wrong inputs, its law within and beyond the horizon. */
#include "inputs.h"

#include "edgeinfer/queue.h"

int main(void) {
    ei_md1 queue;
    CHECK(ei_md1_init(&queue, 1, 1, 5) == EI_ERR_UNSTABLE);
    ei_md1_free(&queue);
    CHECK(ei_md1_init(&queue, NAN, 1, 5) == EI_ERR_DOMAIN);
    CHECK(ei_md1_init(&queue, 1, -1, 5) == EI_ERR_DOMAIN);
    /* Beyond the horizon the law goes on geometrically, to nothing at last. */
    double beyond[2];
    for (int i = 0; i < 2; i++) {
        CHECK(ei_md1_init(&queue, 1, 0.9, i * 300) == EI_OK);
        beyond[i] = ei_md1_waiting_sf(&queue, 250);
        CHECK(ei_md1_waiting_sf(&queue, 1e300) == 0);
        ei_md1_free(&queue);
    }
    CHECK(beyond[1] > 0);
    CHECK_RELATIVE(beyond[0], beyond[1], 1e-10);
    CHECK(ei_md1_init(&queue, 1, 0, 5) == EI_OK);
    CHECK(ei_md1_waiting_sf(&queue, 0) == 0 && ei_md1_waiting_sf(&queue, -1) == 1);
    ei_md1_free(&queue);
    CHECK(ei_md1_init(&queue, 1, 0.5, 20) == EI_OK);
    CHECK_RELATIVE(ei_md1_waiting_sf(&queue, 0), 0.5, 1e-12);
    ei_md1_free(&queue);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
