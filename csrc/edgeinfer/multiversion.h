/* Hot loops compiled once for each instruction set and chosen at run time. Without contraction to FMA all
 * give the same bits. Loops that the compiler makes vectors of are marked EI_MULTIVERSION; those over lanes
 * choose their vectors themselves (lanes.h). */
#ifndef EDGEINFER_MULTIVERSION_H
#define EDGEINFER_MULTIVERSION_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EI_INSTRUCTION_SETS 1
#endif

#if defined(EI_INSTRUCTION_SETS) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__)
#define EI_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EI_MULTIVERSION
#endif

#endif
