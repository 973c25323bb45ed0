/* C = A * B + D of any shape by the hardware's loop (LOOP_WS), with ReLU, and the bytes that were moved. */
#include "gemmini.h"
#include "host.h"

#define DIM GEMMINI_DIM
#define ROWS 40
#define INNER 52
#define COLS 36
#define BLOCKS(extent) (((extent) + DIM - 1) / DIM)
#define PAD(extent) (BLOCKS(extent) * DIM - (extent))

/* External values of the counters (CounterExternal, CounterFile.scala). */
#define RDMA_BYTES_REC 4
#define WDMA_BYTES_SENT 5

static int8_t a[ROWS][INNER], b[INNER][COLS], c[ROWS][COLS];
static int32_t d[ROWS][COLS];

static int8_t next(void) {
  static uint32_t state = 7;
  state = state * 1664525 + 1013904223;
  return (int8_t)(state >> 28) - 8;
}

static void fill(void) {
  for (int i = 0; i < ROWS; i++) {
    for (int k = 0; k < INNER; k++) a[i][k] = next();
    for (int j = 0; j < COLS; j++) d[i][j] = 10 * next();
  }
  for (int k = 0; k < INNER; k++) {
    for (int j = 0; j < COLS; j++) b[k][j] = next();
  }
}

static int wrong(void) {
  int wrong = 0;
  for (int i = 0; i < ROWS; i++) {
    for (int j = 0; j < COLS; j++) {
      int32_t sum = d[i][j];
      for (int k = 0; k < INNER; k++) sum += a[i][k] * b[k][j];
      int32_t expected = sum < 0 ? 0 : sum > 127 ? 127 : sum;
      wrong += expected != c[i][j];
    }
  }
  return wrong;
}

int main(void) {
  fill();
  gemmini_flush();
  gemmini_counter(.reset = true);
  gemmini_counter(.configure = true, .index = 0, .event = RDMA_BYTES_REC, .external = true);
  gemmini_counter(.configure = true, .index = 1, .event = WDMA_BYTES_SENT, .external = true);
  gemmini_config_ex(.dataflow = GEMMINI_DATAFLOW_WS);
  gemmini_config_st(.stride = COLS, .activation = GEMMINI_ACTIVATION_RELU);
  gemmini_config_ld(.state_id = 0, .stride = INNER);
  gemmini_config_ld(.state_id = 1, .stride = COLS);
  gemmini_config_ld(.state_id = 2, .stride = sizeof d[0]);
  gemmini_loop_ws_config_bounds(.i = BLOCKS(ROWS), .j = BLOCKS(COLS), .k = BLOCKS(INNER), .pad_i = PAD(ROWS),
                                .pad_j = PAD(COLS), .pad_k = PAD(INNER));
  gemmini_loop_ws_config_addrs_ab(.a = a, .b = b);
  gemmini_loop_ws_config_addrs_dc(.d = d, .c = c);
  gemmini_loop_ws_config_strides_ab(.a_stride = INNER, .b_stride = COLS);
  gemmini_loop_ws_config_strides_dc(.d_stride = COLS, .c_stride = COLS);
  gemmini_loop_ws(.ex_accumulate = true, .act = GEMMINI_ACT_RELU);
  gemmini_fence();
  long bytes_in = (long)gemmini_counter(.index = 0), bytes_out = (long)gemmini_counter(.index = 1);
  print("loop_matmul: ");
  print_number(wrong());
  print(" wrong elements, ");
  print_number(bytes_in > 0 && bytes_out > 0);
  print(" (bytes were counted)\n");
  return wrong() != 0;
}
