/* Hot loops compiled once for each instruction set and chosen at run time. Without contraction to FMA all
 * give the same bits. */
#ifndef EDGEINFER_MULTIVERSION_H
#define EDGEINFER_MULTIVERSION_H

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) &&             \
    !defined(__SANITIZE_ADDRESS__)
#define EI_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EI_MULTIVERSION
#endif

#endif
