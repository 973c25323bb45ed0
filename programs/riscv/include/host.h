/* What the host of a bare-metal program can do: text on the console, and the clock. */
#ifndef HOST_H
#define HOST_H

#include <stdint.h>

/* Ends the program with a code; 0 is success. */
void exit(int code) __attribute__((noreturn));

/* Prints text. */
void print(const char *text);

/* Prints a number in decimal. */
void print_number(long number);

/* Cycles since the start. */
static inline uint64_t cycles(void) {
  uint64_t cycles;
  __asm__ volatile("rdcycle %0" : "=r"(cycles));
  return cycles;
}

#endif
