#include "edgeinfer/status.h"

const char *ei_status_text(int status) {
    switch (status) {
    case EI_OK:
        return "success";
    case EI_ERR_NO_MEMORY:
        return "out of memory";
    case EI_ERR_INTERRUPTED:
        return "interrupted by the caller";
    case EI_ERR_DOMAIN:
        return "an argument is not finite or outside its range";
    case EI_ERR_EMPTY:
        return "an array or a pipeline is empty";
    case EI_ERR_UNSTABLE:
        return "the load of a stage is not below 1";
    case EI_ERR_ACCURACY:
        return "the requested accuracy was not reached";
    case EI_ERR_TOO_LARGE:
        return "the computation would exceed its memory limit";
    default:
        return "unknown status";
    }
}
