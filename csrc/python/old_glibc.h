/* Included before every source of the wheel, GSL's as well: functions that newer C libraries gave a second
 * version keep the first one, so that the wheel loads with glibc 2.17 and later. */
#ifndef EDGEINFER_OLD_GLIBC_H
#define EDGEINFER_OLD_GLIBC_H

#if defined(__linux__) && defined(__x86_64__)
#define EI_FIRST(name) __asm__(".symver " #name "," #name "@GLIBC_2.2.5");
#elif defined(__linux__) && defined(__aarch64__)
#define EI_FIRST(name) __asm__(".symver " #name "," #name "@GLIBC_2.17");
#else
#define EI_FIRST(name)
#endif

EI_FIRST(exp)
EI_FIRST(exp2)
EI_FIRST(log)
EI_FIRST(log2)
EI_FIRST(pow)
EI_FIRST(hypot)
EI_FIRST(lgamma)
EI_FIRST(fmod)
EI_FIRST(pthread_create)
EI_FIRST(pthread_join)

#endif
