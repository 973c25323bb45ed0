/* The host's console, by system call 64 (write). */
#include "host.h"

#define SYS_WRITE 64
#define STDOUT 1

extern volatile uint64_t tohost, fromhost;

static void write_text(const char *text, uint64_t length) {
  volatile uint64_t call[8] __attribute__((aligned(64))) = { SYS_WRITE, STDOUT, (uint64_t)text, length };
  __asm__ volatile("fence" ::: "memory");
  tohost = (uint64_t)call;
  while (fromhost == 0) {
  }
  fromhost = 0;
}

void print(const char *text) {
  uint64_t length = 0;
  while (text[length] != 0) {
    length++;
  }
  write_text(text, length);
}

void print_number(long number) {
  char digits[24];
  char *first = digits + sizeof digits;
  unsigned long rest = number < 0 ? -(unsigned long)number : (unsigned long)number;
  *--first = 0;
  do {
    *--first = '0' + rest % 10;
    rest /= 10;
  } while (rest != 0);
  if (number < 0) {
    *--first = '-';
  }
  print(first);
}
