#include "edgeinfer/service.h"

#include "edgeinfer/compound.h"

#include <math.h>

static const double TAIL_END = 1e-20; /* what ei_service_extent leaves out */

int ei_service_verify(const ei_service *self) {
    switch (self->kind) {
    case EI_SERVICE_DETERMINISTIC:
        return self->time >= 0 && isfinite(self->time) ? EI_OK : EI_ERR_DOMAIN;
    case EI_SERVICE_EXPONENTIAL:
        return self->time > 0 && isfinite(self->time) ? EI_OK : EI_ERR_DOMAIN;
    case EI_SERVICE_TRANSFER:
        return self->transfer != NULL ? EI_OK : EI_ERR_DOMAIN;
    case EI_SERVICE_SAMPLES:
        if (self->sample_count == 0)
            return EI_ERR_EMPTY;
        for (size_t i = 0; i < self->sample_count; i++)
            if (!(self->samples[i] >= (i == 0 ? 0 : self->samples[i - 1])) || !isfinite(self->samples[i]))
                return EI_ERR_DOMAIN;
        return EI_OK;
    case EI_SERVICE_CHANNEL:
        return self->bits > 0 && isfinite(self->bits) ? ei_channel_verify(&self->channel) : EI_ERR_DOMAIN;
    case EI_SERVICE_COMPOUND:
        return self->compound != NULL ? EI_OK : EI_ERR_DOMAIN;
    case EI_SERVICE_REPETITION:
        return self->repetition != NULL ? EI_OK : EI_ERR_DOMAIN;
    }
    return EI_ERR_DOMAIN;
}

int ei_service_verify_independent(const ei_service *self) {
    return self->kind == EI_SERVICE_CHANNEL ? EI_ERR_DOMAIN : ei_service_verify(self);
}

double ei_service_mean(const ei_service *self) {
    double sum = 0;
    switch (self->kind) {
    case EI_SERVICE_TRANSFER:
        return ei_transfer_mean(self->transfer);
    case EI_SERVICE_SAMPLES:
        for (size_t i = 0; i < self->sample_count; i++)
            sum += self->samples[i];
        return sum / (double)self->sample_count;
    case EI_SERVICE_CHANNEL:
        return self->bits / self->channel.mean_rate;
    case EI_SERVICE_COMPOUND:
        return ei_compound_mean(self->compound);
    case EI_SERVICE_REPETITION:
        return ei_repetition_mean(self->repetition);
    default:
        return self->time;
    }
}

double ei_service_variance(const ei_service *self) {
    double sum = 0, mean;
    switch (self->kind) {
    case EI_SERVICE_EXPONENTIAL:
        return self->time * self->time;
    case EI_SERVICE_TRANSFER:
        return ei_transfer_variance(self->transfer);
    case EI_SERVICE_SAMPLES:
        mean = ei_service_mean(self);
        for (size_t i = 0; i < self->sample_count; i++)
            sum += (self->samples[i] - mean) * (self->samples[i] - mean);
        return sum / (double)self->sample_count;
    case EI_SERVICE_CHANNEL:
        return self->bits / self->channel.mean_rate * self->channel.spread / self->channel.mean_rate /
               self->channel.mean_rate;
    case EI_SERVICE_COMPOUND:
        return ei_compound_variance(self->compound);
    case EI_SERVICE_REPETITION:
        return ei_repetition_variance(self->repetition);
    default:
        return 0;
    }
}

/* Number of samples > time. */
static size_t samples_above(const ei_service *self, double time) {
    size_t low = 0, high = self->sample_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (self->samples[middle] > time)
            high = middle;
        else
            low = middle + 1;
    }
    return self->sample_count - low;
}

double ei_service_sf(const ei_service *self, double time) {
    if (isnan(time))
        return NAN;
    switch (self->kind) {
    case EI_SERVICE_EXPONENTIAL:
        return time > 0 ? exp(-time / self->time) : 1;
    case EI_SERVICE_TRANSFER:
        return ei_transfer_sf(self->transfer, time);
    case EI_SERVICE_SAMPLES:
        return (double)samples_above(self, time) / (double)self->sample_count;
    case EI_SERVICE_COMPOUND:
        return ei_compound_upper(self->compound, time);
    case EI_SERVICE_REPETITION:
        return ei_repetition_sf(self->repetition, time);
    default:
        return self->time > time;
    }
}

void ei_service_accuracy(const ei_service *self, double *relative, double *absolute) {
    *relative = 1e-14;
    *absolute = 0;
    if (self->kind == EI_SERVICE_TRANSFER) {
        *relative = ei_transfer_accuracy(self->transfer);
        *absolute = TAIL_END;
    }
    if (self->kind == EI_SERVICE_REPETITION)
        *relative = ei_repetition_accuracy(self->repetition);
}

double ei_service_minimum(const ei_service *self) {
    switch (self->kind) {
    case EI_SERVICE_DETERMINISTIC:
        return self->time;
    case EI_SERVICE_SAMPLES:
        return self->samples[0];
    case EI_SERVICE_COMPOUND:
        return ei_compound_minimum(self->compound);
    case EI_SERVICE_REPETITION:
        return ei_repetition_minimum(self->repetition);
    default:
        return 0;
    }
}

double ei_service_maximum(const ei_service *self) {
    switch (self->kind) {
    case EI_SERVICE_DETERMINISTIC:
        return self->time;
    case EI_SERVICE_SAMPLES:
        return self->samples[self->sample_count - 1];
    case EI_SERVICE_COMPOUND:
        return ei_compound_maximum(self->compound);
    case EI_SERVICE_REPETITION:
        return isinf(ei_repetition_abscissa(self->repetition)) ? ei_repetition_minimum(self->repetition)
                                                               : INFINITY;
    default:
        return INFINITY;
    }
}

double ei_service_extent(const ei_service *self) {
    switch (self->kind) {
    case EI_SERVICE_EXPONENTIAL:
        return -log(TAIL_END) * self->time;
    case EI_SERVICE_TRANSFER:
        return ei_transfer_extent(self->transfer);
    case EI_SERVICE_SAMPLES:
        return self->samples[self->sample_count - 1];
    case EI_SERVICE_COMPOUND:
        return ei_compound_extent(self->compound);
    case EI_SERVICE_REPETITION:
        return ei_repetition_extent(self->repetition);
    default:
        return self->time;
    }
}

int ei_service_log_mgf(const ei_service *self, double theta, double *value, double *derivative) {
    double log_value, slope;
    if (isnan(theta))
        return EI_ERR_DOMAIN;
    switch (self->kind) {
    case EI_SERVICE_EXPONENTIAL:
        log_value = theta * self->time < 1 ? -log1p(-theta * self->time) : INFINITY;
        slope = theta * self->time < 1 ? self->time / (1 - theta * self->time) : INFINITY;
        break;
    case EI_SERVICE_TRANSFER:
        return ei_transfer_log_mgf(self->transfer, theta, value, derivative);
    case EI_SERVICE_SAMPLES: {
        double peak = theta * self->samples[theta > 0 ? self->sample_count - 1 : 0], sum = 0, moment = 0;
        for (size_t i = 0; i < self->sample_count; i++) {
            double term = exp(theta * self->samples[i] - peak);
            sum += term;
            moment += term * self->samples[i];
        }
        log_value = peak + log(sum / (double)self->sample_count);
        slope = moment / sum;
        break;
    }
    case EI_SERVICE_COMPOUND:
        return ei_compound_log_mgf(self->compound, theta, value, derivative);
    case EI_SERVICE_REPETITION:
        return ei_repetition_log_mgf(self->repetition, theta, value, derivative);
    default:
        log_value = theta * self->time;
        slope = self->time;
    }
    if (value != NULL)
        *value = log_value;
    if (derivative != NULL)
        *derivative = slope;
    return EI_OK;
}

double ei_service_abscissa(const ei_service *self) {
    switch (self->kind) {
    case EI_SERVICE_EXPONENTIAL:
        return 1 / self->time;
    case EI_SERVICE_TRANSFER:
        return ei_transfer_abscissa(self->transfer);
    case EI_SERVICE_COMPOUND:
        return ei_compound_abscissa(self->compound);
    case EI_SERVICE_REPETITION:
        return ei_repetition_abscissa(self->repetition);
    default:
        return INFINITY;
    }
}

double ei_service_mean_error(const ei_service *self) {
    double relative, absolute, most;
    size_t count = 1;
    const ei_service *parts =
        self->kind == EI_SERVICE_COMPOUND ? ei_compound_stages(self->compound, &count) : self;
    ei_service_accuracy(parts, &most, &absolute);
    for (size_t k = 1; k < count; k++) {
        ei_service_accuracy(&parts[k], &relative, &absolute);
        most = fmax(most, relative);
    }
    return most + 1e-12;
}

int ei_service_excess(const ei_service *self, double time, double *value) {
    double abscissa = ei_service_abscissa(self), mean = ei_service_mean(self);
    *value = INFINITY;
    if (ei_service_sf(self, time) == 0) {
        *value = 0;
        return EI_OK;
    }
    for (int i = 0; i < 12; i++) {
        double theta = isfinite(abscissa) ? abscissa * (1 - ldexp(1, -i - 1)) : ldexp(0.5, i) / mean, moment;
        int status = ei_service_log_mgf(self, theta, &moment, NULL);
        if (status != EI_OK)
            return status;
        if (moment < INFINITY)
            *value = fmin(*value, exp(moment + EI_SERVICE_MGF_ERROR - theta * time) / theta);
    }
    return EI_OK;
}
