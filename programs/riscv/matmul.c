/* C = A * B of DIM x DIM matrices, command by command, compared with the core's own product. */
#include "gemmini.h"
#include "host.h"

#define DIM GEMMINI_DIM

static int8_t a[DIM][DIM], b[DIM][DIM];
static int32_t c[DIM][DIM];

static void fill(void) {
  uint32_t state = 1;
  for (int i = 0; i < DIM; i++) {
    for (int j = 0; j < DIM; j++) {
      state = state * 1664525 + 1013904223;
      a[i][j] = state >> 24;
      b[i][j] = state >> 16;
    }
  }
}

static int wrong(void) {
  int wrong = 0;
  for (int i = 0; i < DIM; i++) {
    for (int j = 0; j < DIM; j++) {
      int32_t sum = 0;
      for (int k = 0; k < DIM; k++) {
        sum += a[i][k] * b[k][j];
      }
      wrong += sum != c[i][j];
    }
  }
  return wrong;
}

int main(void) {
  const gemmini_local_t a_rows = gemmini_spad(0), b_rows = gemmini_spad(DIM);
  fill();
  uint64_t start = cycles();
  gemmini_config_ex(.dataflow = GEMMINI_DATAFLOW_WS);
  gemmini_config_ld(.stride = sizeof a[0]);
  gemmini_config_st(.stride = sizeof c[0]);
  gemmini_mvin(.dram = a, .local = a_rows, .cols = DIM, .rows = DIM);
  gemmini_mvin(.dram = b, .local = b_rows, .cols = DIM, .rows = DIM);
  gemmini_preload(.d = b_rows, .c = gemmini_acc(0));
  gemmini_compute_preloaded(.a = a_rows);
  gemmini_mvout(.dram = c, .local = gemmini_acc_full(0), .cols = DIM, .rows = DIM);
  gemmini_fence();
  uint64_t end = cycles();
  print("matmul: ");
  print_number(wrong());
  print(" wrong elements\ncycles: ");
  print_number((long)(end - start));
  print("\n");
  return wrong() != 0;
}
