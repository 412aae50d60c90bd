#include "check.h"
#include "edgeinfer/status.h"

#include <string.h>

int main(void) {
    static const int codes[] = {EI_OK,        EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_DOMAIN,
                                EI_ERR_EMPTY, EI_ERR_UNSTABLE,  EI_ERR_ACCURACY,    EI_ERR_TOO_LARGE};
    const size_t count = sizeof codes / sizeof *codes;
    const char *unknown = ei_status_text(1);
    for (size_t i = 0; i < count; i++) {
        CHECK(strcmp(ei_status_text(codes[i]), unknown) != 0);
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(ei_status_text(codes[i]), ei_status_text(codes[j])) != 0);
    }
    return check_report();
}
