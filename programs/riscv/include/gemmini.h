/* Gemmini's instructions as C functions. Made by `pollux isa --header`: do not edit.
 *
 * Operands are written by name, as in Pollux's assembly; those with a default may be left out:
 *
 *     gemmini_config_ld(.stride = 16);
 *     gemmini_mvin(.dram = a, .local = gemmini_spad(0), .cols = 16, .rows = 16);
 *
 * Operands without a default are 0 if they are left out. C99 or later, not C++.
 * Define GEMMINI_DIM before the header for an array that is not 16 x 16.
 */
#ifndef GEMMINI_H
#define GEMMINI_H

#include <stdbool.h>
#include <stdint.h>

#ifndef GEMMINI_DIM
#define GEMMINI_DIM 16
#endif

/* Parts of a local address. */
#define GEMMINI_ACC UINT32_C(0x80000000)
#define GEMMINI_ACCUMULATE UINT32_C(0x40000000)
#define GEMMINI_FULL UINT32_C(0x20000000)
#define GEMMINI_GARBAGE UINT32_C(0xffffffff)

/* Values of operands. */
#define GEMMINI_DATAFLOW_OS 0
#define GEMMINI_DATAFLOW_WS 1
#define GEMMINI_ACTIVATION_NONE 0
#define GEMMINI_ACTIVATION_RELU 1
#define GEMMINI_ACTIVATION_LAYERNORM 2
#define GEMMINI_ACTIVATION_IGELU 3
#define GEMMINI_ACT_NONE 0
#define GEMMINI_ACT_RELU 1
#define GEMMINI_ACT_LAYERNORM 2
#define GEMMINI_ACT_IGELU 3
#define GEMMINI_ACT_SOFTMAX 4

#define GEMMINI_STRING_(text) #text
#define GEMMINI_STRING(text) GEMMINI_STRING_(text)

/* The array's size, for whoever loads the program. */
__asm__(".pushsection .gemmini.dim,\"\",@progbits\n\t.2byte " GEMMINI_STRING(GEMMINI_DIM) "\n\t.popsection");

/* A row of the scratchpad or of the accumulator. */
typedef uint32_t gemmini_local_t;

/* Row of the scratchpad. */
static inline gemmini_local_t gemmini_spad(uint32_t row) { return row; }

/* Row of the accumulator: written over, and read as input elements. */
static inline gemmini_local_t gemmini_acc(uint32_t row) { return GEMMINI_ACC | row; }

/* Row of the accumulator: added to. */
static inline gemmini_local_t gemmini_acc_add(uint32_t row) { return GEMMINI_ACC | GEMMINI_ACCUMULATE | row; }

/* Row of the accumulator: read in full width. */
static inline gemmini_local_t gemmini_acc_full(uint32_t row) { return GEMMINI_ACC | GEMMINI_FULL | row; }

/* Waits until Gemmini is idle and its stores are visible. */
static inline void gemmini_fence(void) { __asm__ volatile("fence" ::: "memory"); }

static inline uint64_t gemmini_float_bits(float value) {
  union { float value; uint32_t bits; } u = { .value = value };
  return u.bits;
}

/* Configure the execute controller: dataflow, transposes, strides, shift. */
struct gemmini_config_ex {
  uint8_t dataflow; /* Dataflow; ignored unless the build has both. */
  uint8_t activation; /* Activation of operands read from the accumulator. */
  bool set_only_strides; /* Change only a_stride and c_stride. */
  bool a_transpose; /* Transpose A. */
  bool b_transpose; /* Transpose B (OS: the BD operand, WS: the preloaded one). */
  uint16_t a_stride; /* Local rows from one row of A to the next. */
  float acc_scale; /* Scale of operands read from the accumulator. */
  uint32_t in_shift; /* Right shift of OS results. */
  uint16_t relu6_shift; /* Not used by the hardware. */
  uint16_t c_stride; /* Local rows from one row of C to the next. */
};

static inline void gemmini_config_ex_(struct gemmini_config_ex o) {
  uint64_t rs1 = ((uint64_t)o.dataflow & 0x1) << 2 | ((uint64_t)o.activation & 0x3) << 3 | (uint64_t)o.set_only_strides << 7 | (uint64_t)o.a_transpose << 8 | (uint64_t)o.b_transpose << 9 | (uint64_t)o.a_stride << 16 | gemmini_float_bits(o.acc_scale) << 32;
  uint64_t rs2 = (uint64_t)o.in_shift | (uint64_t)o.relu6_shift << 32 | (uint64_t)o.c_stride << 48;
  __asm__ volatile(".insn r 0x7b, 3, 0, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_config_ex(...) gemmini_config_ex_((struct gemmini_config_ex){ .a_stride = 1, .acc_scale = 1.0f, .c_stride = 1, __VA_ARGS__ })

/* Configure one of the three load channels. */
struct gemmini_config_ld {
  bool shrink; /* Accumulator loads: memory holds input elements, not accumulator elements. */
  uint8_t state_id; /* Channel: 0 for mvin, 1 for mvin2, 2 for mvin3. */
  uint8_t pixel_repeats; /* Copies of each pixel; 0 is read as 1. */
  uint16_t block_stride; /* Local rows from one block of DIM columns to the next. */
  float scale; /* Scale of the elements. */
  uint64_t stride; /* Bytes from one row in memory to the next. */
};

static inline void gemmini_config_ld_(struct gemmini_config_ld o) {
  uint64_t rs1 = UINT64_C(1) | (uint64_t)o.shrink << 2 | ((uint64_t)o.state_id & 0x3) << 3 | (uint64_t)o.pixel_repeats << 8 | (uint64_t)o.block_stride << 16 | gemmini_float_bits(o.scale) << 32;
  uint64_t rs2 = (uint64_t)o.stride;
  __asm__ volatile(".insn r 0x7b, 3, 0, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_config_ld(...) gemmini_config_ld_((struct gemmini_config_ld){ .pixel_repeats = 1, .block_stride = GEMMINI_DIM, .scale = 1.0f, __VA_ARGS__ })

/* Configure stores: stride, activation, scale, pooling. */
struct gemmini_config_st {
  uint8_t activation; /* Activation; clears the bit that config_norm sets. */
  uint8_t pool_stride; /* Steps of the pooling window; 0 is no pooling. */
  uint8_t pool_size; /* Edge of the pooling window; without pooling: not 0 selects 1-D stores. */
  uint8_t upad; /* Rows of padding above the pooled image. */
  uint8_t lpad; /* Columns of padding left of the pooled image. */
  uint8_t pool_out_dim; /* Pixels from one row of the stored image to the next. */
  uint8_t porows; /* Rows of the pooled image. */
  uint8_t pocols; /* Columns of the pooled image. */
  uint8_t orows; /* Rows of the image before pooling. */
  uint8_t ocols; /* Columns of the image before pooling. */
  uint32_t stride; /* Bytes from one row (or pixel) in memory to the next. */
  float acc_scale; /* Scale of elements read from the accumulator; all ones keeps the old one. */
};

static inline void gemmini_config_st_(struct gemmini_config_st o) {
  uint64_t rs1 = UINT64_C(2) | ((uint64_t)o.activation & 0x3) << 2 | ((uint64_t)o.pool_stride & 0x3) << 4 | ((uint64_t)o.pool_size & 0x3) << 6 | ((uint64_t)o.upad & 0x3) << 8 | ((uint64_t)o.lpad & 0x3) << 10 | (uint64_t)o.pool_out_dim << 24 | (uint64_t)o.porows << 32 | (uint64_t)o.pocols << 40 | (uint64_t)o.orows << 48 | (uint64_t)o.ocols << 56;
  uint64_t rs2 = (uint64_t)o.stride | gemmini_float_bits(o.acc_scale) << 32;
  __asm__ volatile(".insn r 0x7b, 3, 0, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_config_st(...) gemmini_config_st_((struct gemmini_config_st){ .acc_scale = 1.0f, __VA_ARGS__ })

/* Configure normalization: statistics register, constants, softmax. */
struct gemmini_config_norm {
  uint8_t norm_stats_id; /* Statistics register. */
  bool act_msb; /* Bit 2 of the activation: softmax. */
  bool set_stats_id_only; /* Change only norm_stats_id. */
  bool q_const_type; /* Which constant q_const is: 0 qln2, 1 qln2_inv. */
  int32_t q_const; /* Constant of the integer exponential. */
  int32_t qb; /* Constant b of the integer polynomial. */
  int32_t qc; /* Constant c of the integer polynomial. */
};

static inline void gemmini_config_norm_(struct gemmini_config_norm o) {
  uint64_t rs1 = UINT64_C(3) | (uint64_t)o.norm_stats_id << 8 | (uint64_t)o.act_msb << 16 | (uint64_t)o.set_stats_id_only << 17 | (uint64_t)o.q_const_type << 18 | (uint64_t)(uint32_t)o.q_const << 32;
  uint64_t rs2 = (uint64_t)(uint32_t)o.qb | (uint64_t)(uint32_t)o.qc << 32;
  __asm__ volatile(".insn r 0x7b, 3, 0, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_config_norm(...) gemmini_config_norm_((struct gemmini_config_norm){ __VA_ARGS__ })

/* Load a matrix from main memory with channel 0. */
struct gemmini_mvin {
  const volatile void *dram; /* Main memory address; loads: 0 stands for zeros. */
  gemmini_local_t local; /* First local row. */
  uint16_t cols; /* Columns (elements). */
  uint16_t rows; /* Rows; not used by pooled and 1-D stores. */
};

static inline void gemmini_mvin_(struct gemmini_mvin o) {
  uint64_t rs1 = (uint64_t)(uintptr_t)o.dram;
  uint64_t rs2 = (uint64_t)o.local | (uint64_t)o.cols << 32 | (uint64_t)o.rows << 48;
  __asm__ volatile(".insn r 0x7b, 3, 2, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_mvin(...) gemmini_mvin_((struct gemmini_mvin){ __VA_ARGS__ })

/* Load a matrix from main memory with channel 1. */
struct gemmini_mvin2 {
  const volatile void *dram; /* Main memory address; loads: 0 stands for zeros. */
  gemmini_local_t local; /* First local row. */
  uint16_t cols; /* Columns (elements). */
  uint16_t rows; /* Rows; not used by pooled and 1-D stores. */
};

static inline void gemmini_mvin2_(struct gemmini_mvin2 o) {
  uint64_t rs1 = (uint64_t)(uintptr_t)o.dram;
  uint64_t rs2 = (uint64_t)o.local | (uint64_t)o.cols << 32 | (uint64_t)o.rows << 48;
  __asm__ volatile(".insn r 0x7b, 3, 1, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_mvin2(...) gemmini_mvin2_((struct gemmini_mvin2){ __VA_ARGS__ })

/* Load a matrix from main memory with channel 2. */
struct gemmini_mvin3 {
  const volatile void *dram; /* Main memory address; loads: 0 stands for zeros. */
  gemmini_local_t local; /* First local row. */
  uint16_t cols; /* Columns (elements). */
  uint16_t rows; /* Rows; not used by pooled and 1-D stores. */
};

static inline void gemmini_mvin3_(struct gemmini_mvin3 o) {
  uint64_t rs1 = (uint64_t)(uintptr_t)o.dram;
  uint64_t rs2 = (uint64_t)o.local | (uint64_t)o.cols << 32 | (uint64_t)o.rows << 48;
  __asm__ volatile(".insn r 0x7b, 3, 14, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_mvin3(...) gemmini_mvin3_((struct gemmini_mvin3){ __VA_ARGS__ })

/* Store a matrix to main memory. */
struct gemmini_mvout {
  const volatile void *dram; /* Main memory address; loads: 0 stands for zeros. */
  gemmini_local_t local; /* First local row. */
  uint16_t cols; /* Columns (elements). */
  uint16_t rows; /* Rows; not used by pooled and 1-D stores. */
};

static inline void gemmini_mvout_(struct gemmini_mvout o) {
  uint64_t rs1 = (uint64_t)(uintptr_t)o.dram;
  uint64_t rs2 = (uint64_t)o.local | (uint64_t)o.cols << 32 | (uint64_t)o.rows << 48;
  __asm__ volatile(".insn r 0x7b, 3, 3, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_mvout(...) gemmini_mvout_((struct gemmini_mvout){ __VA_ARGS__ })

/* Store a matrix to the scratchpad; only builds with an external scratchpad have the data path. */
struct gemmini_mvout_spad {
  gemmini_local_t dst; /* First scratchpad row written. */
  uint32_t dst_stride; /* Local rows from one written row to the next. */
  gemmini_local_t local; /* First local row read. */
  uint16_t cols; /* Columns (elements). */
  uint16_t rows; /* Rows. */
};

static inline void gemmini_mvout_spad_(struct gemmini_mvout_spad o) {
  uint64_t rs1 = (uint64_t)o.dst | (uint64_t)o.dst_stride << 32;
  uint64_t rs2 = (uint64_t)o.local | (uint64_t)o.cols << 32 | (uint64_t)o.rows << 48;
  __asm__ volatile(".insn r 0x7b, 3, 23, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_mvout_spad(...) gemmini_mvout_spad_((struct gemmini_mvout_spad){ .dst_stride = 1, __VA_ARGS__ })

/* Load the array's stationary operand and name the destination of the next compute. */
struct gemmini_preload {
  gemmini_local_t d; /* OS: initial C; WS: weights B. Garbage stands for zeros. */
  uint16_t d_cols; /* Columns of d. */
  uint16_t d_rows; /* Rows of d. */
  gemmini_local_t c; /* Destination of the next compute. Garbage discards it. */
  uint16_t c_cols; /* Columns of c. */
  uint16_t c_rows; /* Rows of c. */
};

static inline void gemmini_preload_(struct gemmini_preload o) {
  uint64_t rs1 = (uint64_t)o.d | (uint64_t)o.d_cols << 32 | (uint64_t)o.d_rows << 48;
  uint64_t rs2 = (uint64_t)o.c | (uint64_t)o.c_cols << 32 | (uint64_t)o.c_rows << 48;
  __asm__ volatile(".insn r 0x7b, 3, 6, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_preload(...) gemmini_preload_((struct gemmini_preload){ .d = GEMMINI_GARBAGE, .d_cols = GEMMINI_DIM, .d_rows = GEMMINI_DIM, .c = GEMMINI_GARBAGE, .c_cols = GEMMINI_DIM, .c_rows = GEMMINI_DIM, __VA_ARGS__ })

/* Multiply with the operand preloaded last. */
struct gemmini_compute_preloaded {
  gemmini_local_t a; /* A. Garbage is undefined: no zeros here. */
  uint16_t a_cols; /* Columns of a. */
  uint16_t a_rows; /* Rows of a. */
  gemmini_local_t bd; /* OS: B; WS: the addend D. Garbage stands for zeros. */
  uint16_t bd_cols; /* Columns of bd. */
  uint16_t bd_rows; /* Rows of bd. */
};

static inline void gemmini_compute_preloaded_(struct gemmini_compute_preloaded o) {
  uint64_t rs1 = (uint64_t)o.a | (uint64_t)o.a_cols << 32 | (uint64_t)o.a_rows << 48;
  uint64_t rs2 = (uint64_t)o.bd | (uint64_t)o.bd_cols << 32 | (uint64_t)o.bd_rows << 48;
  __asm__ volatile(".insn r 0x7b, 3, 4, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_compute_preloaded(...) gemmini_compute_preloaded_((struct gemmini_compute_preloaded){ .a = GEMMINI_GARBAGE, .a_cols = GEMMINI_DIM, .a_rows = GEMMINI_DIM, .bd = GEMMINI_GARBAGE, .bd_cols = GEMMINI_DIM, .bd_rows = GEMMINI_DIM, __VA_ARGS__ })

/* Multiply with the operand in use. */
struct gemmini_compute_accumulated {
  gemmini_local_t a; /* A. Garbage is undefined: no zeros here. */
  uint16_t a_cols; /* Columns of a. */
  uint16_t a_rows; /* Rows of a. */
  gemmini_local_t bd; /* OS: B; WS: the addend D. Garbage stands for zeros. */
  uint16_t bd_cols; /* Columns of bd. */
  uint16_t bd_rows; /* Rows of bd. */
};

static inline void gemmini_compute_accumulated_(struct gemmini_compute_accumulated o) {
  uint64_t rs1 = (uint64_t)o.a | (uint64_t)o.a_cols << 32 | (uint64_t)o.a_rows << 48;
  uint64_t rs2 = (uint64_t)o.bd | (uint64_t)o.bd_cols << 32 | (uint64_t)o.bd_rows << 48;
  __asm__ volatile(".insn r 0x7b, 3, 5, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_compute_accumulated(...) gemmini_compute_accumulated_((struct gemmini_compute_accumulated){ .a = GEMMINI_GARBAGE, .a_cols = GEMMINI_DIM, .a_rows = GEMMINI_DIM, .bd = GEMMINI_GARBAGE, .bd_cols = GEMMINI_DIM, .bd_rows = GEMMINI_DIM, __VA_ARGS__ })

/* Flush the address translation. */
struct gemmini_flush {
  bool skip; /* Skip instead of retry; the same in this revision. */
};

static inline void gemmini_flush_(struct gemmini_flush o) {
  uint64_t rs1 = (uint64_t)o.skip;
  uint64_t rs2 = 0;
  __asm__ volatile(".insn r 0x7b, 3, 7, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_flush(...) gemmini_flush_((struct gemmini_flush){ __VA_ARGS__ })

/* Switch the gated clock; ignored while the accelerator is busy. */
struct gemmini_clkgate_en {
  bool enable; /* Whether the gated clock runs. */
};

static inline void gemmini_clkgate_en_(struct gemmini_clkgate_en o) {
  uint64_t rs1 = (uint64_t)o.enable;
  uint64_t rs2 = 0;
  __asm__ volatile(".insn r 0x7b, 3, 22, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_clkgate_en(...) gemmini_clkgate_en_((struct gemmini_clkgate_en){ .enable = 1, __VA_ARGS__ })

/* Read and configure a performance counter; the only instruction with a result. */
struct gemmini_counter {
  bool reset; /* Reset all counters, the snapshot and snapshot mode. */
  bool snapshot_reset; /* Leave snapshot mode. */
  bool snapshot; /* Take a snapshot and enter snapshot mode. */
  bool configure; /* Choose the event of the counter and clear it. */
  uint8_t index; /* Counter. */
  uint8_t event; /* Event or external value to count. */
  bool external; /* Count an external value, not an event. */
};

static inline uint64_t gemmini_counter_(struct gemmini_counter o) {
  uint64_t rs1 = (uint64_t)o.reset | (uint64_t)o.snapshot_reset << 1 | (uint64_t)o.snapshot << 2 | (uint64_t)o.configure << 3 | (uint64_t)o.index << 4 | ((uint64_t)o.event & 0x3f) << 12 | (uint64_t)o.external << 31;
  uint64_t rs2 = 0;
  uint64_t rd;
  __asm__ volatile(".insn r 0x7b, 7, 126, %0, %1, %2" : "=r"(rd) : "r"(rs1), "r"(rs2) : "memory");
  return rd;
}
#define gemmini_counter(...) gemmini_counter_((struct gemmini_counter){ __VA_ARGS__ })

/* Size of the next matmul loop in blocks of DIM. */
struct gemmini_loop_ws_config_bounds {
  uint16_t pad_i; /* Rows missing in the last block of I. */
  uint16_t pad_j; /* Columns missing in the last block of J. */
  uint16_t pad_k; /* Elements missing in the last block of K. */
  uint16_t i; /* Blocks of rows of A and C. */
  uint16_t j; /* Blocks of columns of B and C. */
  uint16_t k; /* Blocks of columns of A and rows of B; a residual addition has none. */
};

static inline void gemmini_loop_ws_config_bounds_(struct gemmini_loop_ws_config_bounds o) {
  uint64_t rs1 = (uint64_t)o.pad_i | (uint64_t)o.pad_j << 16 | (uint64_t)o.pad_k << 32;
  uint64_t rs2 = (uint64_t)o.i | (uint64_t)o.j << 16 | (uint64_t)o.k << 32;
  __asm__ volatile(".insn r 0x7b, 3, 9, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_ws_config_bounds(...) gemmini_loop_ws_config_bounds_((struct gemmini_loop_ws_config_bounds){ __VA_ARGS__ })

/* Addresses of A and B of the next matmul loop. */
struct gemmini_loop_ws_config_addrs_ab {
  const volatile void *a; /* Main memory address of A; 0 is no load. */
  const volatile void *b; /* Main memory address of B; 0 is no load. */
};

static inline void gemmini_loop_ws_config_addrs_ab_(struct gemmini_loop_ws_config_addrs_ab o) {
  uint64_t rs1 = (uint64_t)(uintptr_t)o.a;
  uint64_t rs2 = (uint64_t)(uintptr_t)o.b;
  __asm__ volatile(".insn r 0x7b, 3, 10, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_ws_config_addrs_ab(...) gemmini_loop_ws_config_addrs_ab_((struct gemmini_loop_ws_config_addrs_ab){ __VA_ARGS__ })

/* Addresses of D and C of the next matmul loop. */
struct gemmini_loop_ws_config_addrs_dc {
  const volatile void *d; /* Main memory address of D; 0 is no load. */
  const volatile void *c; /* Main memory address of C; 0 is no store. */
};

static inline void gemmini_loop_ws_config_addrs_dc_(struct gemmini_loop_ws_config_addrs_dc o) {
  uint64_t rs1 = (uint64_t)(uintptr_t)o.d;
  uint64_t rs2 = (uint64_t)(uintptr_t)o.c;
  __asm__ volatile(".insn r 0x7b, 3, 11, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_ws_config_addrs_dc(...) gemmini_loop_ws_config_addrs_dc_((struct gemmini_loop_ws_config_addrs_dc){ __VA_ARGS__ })

/* Strides of A and B of the next matmul loop. */
struct gemmini_loop_ws_config_strides_ab {
  uint64_t a_stride; /* Elements from one row of A in memory to the next. */
  uint64_t b_stride; /* Elements from one row of B in memory to the next. */
};

static inline void gemmini_loop_ws_config_strides_ab_(struct gemmini_loop_ws_config_strides_ab o) {
  uint64_t rs1 = (uint64_t)o.a_stride;
  uint64_t rs2 = (uint64_t)o.b_stride;
  __asm__ volatile(".insn r 0x7b, 3, 12, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_ws_config_strides_ab(...) gemmini_loop_ws_config_strides_ab_((struct gemmini_loop_ws_config_strides_ab){ __VA_ARGS__ })

/* Strides of D and C of the next matmul loop. */
struct gemmini_loop_ws_config_strides_dc {
  uint64_t d_stride; /* Elements from one row of D in memory to the next. */
  uint64_t c_stride; /* Elements from one row of C in memory to the next. */
};

static inline void gemmini_loop_ws_config_strides_dc_(struct gemmini_loop_ws_config_strides_dc o) {
  uint64_t rs1 = (uint64_t)o.d_stride;
  uint64_t rs2 = (uint64_t)o.c_stride;
  __asm__ volatile(".insn r 0x7b, 3, 13, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_ws_config_strides_dc(...) gemmini_loop_ws_config_strides_dc_((struct gemmini_loop_ws_config_strides_dc){ __VA_ARGS__ })

/* Scratchpad places of A and B of this loop slot. */
struct gemmini_loop_ws_config_spad_ab {
  uint64_t a_start; /* First scratchpad row of A. */
  uint64_t b_end; /* Scratchpad row after the last one of B. */
};

static inline void gemmini_loop_ws_config_spad_ab_(struct gemmini_loop_ws_config_spad_ab o) {
  uint64_t rs1 = (uint64_t)o.a_start;
  uint64_t rs2 = (uint64_t)o.b_end;
  __asm__ volatile(".insn r 0x7b, 3, 24, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_ws_config_spad_ab(...) gemmini_loop_ws_config_spad_ab_((struct gemmini_loop_ws_config_spad_ab){ __VA_ARGS__ })

/* Accepted, does nothing. */
struct gemmini_loop_ws_config_spad_c {
  uint64_t rs1_ignored; /* Ignored. */
  uint64_t rs2_ignored; /* Ignored. */
};

static inline void gemmini_loop_ws_config_spad_c_(struct gemmini_loop_ws_config_spad_c o) {
  uint64_t rs1 = (uint64_t)o.rs1_ignored;
  uint64_t rs2 = (uint64_t)o.rs2_ignored;
  __asm__ volatile(".insn r 0x7b, 3, 25, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_ws_config_spad_c(...) gemmini_loop_ws_config_spad_c_((struct gemmini_loop_ws_config_spad_c){ __VA_ARGS__ })

/* Run the configured weight-stationary matmul loop. */
struct gemmini_loop_ws {
  bool ex_accumulate; /* Add the first products to the accumulator instead of overwriting it. */
  bool full_c; /* Store C as accumulator elements. */
  bool low_d; /* D in memory holds input elements. */
  uint8_t act; /* Activation; layernorm and softmax change the stores. */
  uint8_t b_spad_id; /* Where B ends: 0 in the slot's place, n after half n. */
  uint8_t a_spad_id; /* Where A starts: 0 in the slot's place, n at half n. */
  bool a_transpose; /* Transpose A. */
  bool b_transpose; /* Transpose B. */
  bool is_resadd; /* Add A and B element by element; one flag for both slots. */
  bool skip_lda; /* Do not load A. */
  bool skip_ldb; /* Do not load B. */
  bool skip_ldd; /* Do not load D. */
  bool skip_ex; /* Do not compute. */
  bool skip_stc; /* Do not store C. */
  bool inc_acc_addr; /* Advance the accumulator half even without a store. */
  bool spad_only; /* Store C to the scratchpad. */
  uint32_t c_spad; /* Scratchpad row of C with spad_only. */
};

static inline void gemmini_loop_ws_(struct gemmini_loop_ws o) {
  uint64_t rs1 = (uint64_t)o.ex_accumulate | (uint64_t)o.full_c << 1 | (uint64_t)o.low_d << 2 | ((uint64_t)o.act & 0x7) << 8 | ((uint64_t)o.b_spad_id & 0x3) << 16 | ((uint64_t)o.a_spad_id & 0x3) << 18;
  uint64_t rs2 = (uint64_t)o.a_transpose | (uint64_t)o.b_transpose << 1 | (uint64_t)o.is_resadd << 2 | (uint64_t)o.skip_lda << 3 | (uint64_t)o.skip_ldb << 4 | (uint64_t)o.skip_ldd << 5 | (uint64_t)o.skip_ex << 6 | (uint64_t)o.skip_stc << 7 | (uint64_t)o.inc_acc_addr << 8 | (uint64_t)o.spad_only << 9 | (uint64_t)o.c_spad << 32;
  __asm__ volatile(".insn r 0x7b, 3, 8, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_ws(...) gemmini_loop_ws_((struct gemmini_loop_ws){ __VA_ARGS__ })

/* Image sizes, channels and stride of the next convolution loop. */
struct gemmini_loop_conv_ws_config_1 {
  uint16_t batch_size; /* Images. */
  uint16_t in_row_dim; /* Rows of an input image. */
  uint16_t in_channels; /* Input channels. */
  uint16_t out_channels; /* Output channels. */
  uint16_t out_row_dim; /* Rows of an output image before pooling. */
  uint16_t pool_out_row_dim; /* Rows of an output image. */
  uint16_t out_col_dim; /* Columns of an output image before pooling. */
  uint8_t stride; /* Steps of the kernel. */
  uint8_t padding; /* Not used by the hardware. */
};

static inline void gemmini_loop_conv_ws_config_1_(struct gemmini_loop_conv_ws_config_1 o) {
  uint64_t rs1 = (uint64_t)o.batch_size | (uint64_t)o.in_row_dim << 16 | (uint64_t)o.in_channels << 32 | (uint64_t)o.out_channels << 48;
  uint64_t rs2 = (uint64_t)o.out_row_dim | (uint64_t)o.pool_out_row_dim << 16 | (uint64_t)o.out_col_dim << 32 | (uint64_t)o.stride << 48 | (uint64_t)o.padding << 56;
  __asm__ volatile(".insn r 0x7b, 3, 16, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_conv_ws_config_1(...) gemmini_loop_conv_ws_config_1_((struct gemmini_loop_conv_ws_config_1){ __VA_ARGS__ })

/* Kernel, pooling and output part of the next convolution loop. */
struct gemmini_loop_conv_ws_config_2 {
  uint8_t pool_padding; /* Not used by the hardware. */
  uint8_t pool_stride; /* Steps of the pooling window. */
  uint16_t pool_size; /* Edge of the pooling window. */
  uint16_t pool_out_col_dim; /* Columns of an output image. */
  uint16_t kernel_dim; /* Edge of the kernel. */
  uint16_t pochs; /* Output channels of this loop. */
  uint16_t pocols; /* Output columns of this loop. */
  uint16_t porows; /* Output rows of this loop. */
  uint16_t batches; /* Images of this loop. */
};

static inline void gemmini_loop_conv_ws_config_2_(struct gemmini_loop_conv_ws_config_2 o) {
  uint64_t rs1 = (uint64_t)o.pool_padding | (uint64_t)o.pool_stride << 8 | (uint64_t)o.pool_size << 16 | (uint64_t)o.pool_out_col_dim << 32 | (uint64_t)o.kernel_dim << 48;
  uint64_t rs2 = (uint64_t)o.pochs | (uint64_t)o.pocols << 16 | (uint64_t)o.porows << 32 | (uint64_t)o.batches << 48;
  __asm__ volatile(".insn r 0x7b, 3, 17, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_conv_ws_config_2(...) gemmini_loop_conv_ws_config_2_((struct gemmini_loop_conv_ws_config_2){ __VA_ARGS__ })

/* Kernel part and padding of the next convolution loop. */
struct gemmini_loop_conv_ws_config_3 {
  uint16_t lpad; /* Columns of zeros left of the input. */
  uint16_t kchs; /* Input channels of this loop. */
  uint16_t kcols; /* Kernel columns of this loop. */
  uint16_t krows; /* Kernel rows of this loop. */
  uint16_t in_col_dim; /* Columns of an input image. */
  uint8_t plpad; /* Columns of padding left of the pooled image. */
  uint8_t dpad; /* Rows of zeros below the input. */
  uint16_t upad; /* Rows of zeros above the input. */
  uint16_t rpad; /* Columns of zeros right of the input. */
};

static inline void gemmini_loop_conv_ws_config_3_(struct gemmini_loop_conv_ws_config_3 o) {
  uint64_t rs1 = (uint64_t)o.lpad | (uint64_t)o.kchs << 16 | (uint64_t)o.kcols << 32 | (uint64_t)o.krows << 48;
  uint64_t rs2 = (uint64_t)o.in_col_dim | (uint64_t)o.plpad << 16 | (uint64_t)o.dpad << 24 | (uint64_t)o.upad << 32 | (uint64_t)o.rpad << 48;
  __asm__ volatile(".insn r 0x7b, 3, 18, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_conv_ws_config_3(...) gemmini_loop_conv_ws_config_3_((struct gemmini_loop_conv_ws_config_3){ __VA_ARGS__ })

/* Dilation, rows and columns, and strides of the next convolution loop. */
struct gemmini_loop_conv_ws_config_4 {
  uint16_t kernel_dilation; /* Pixels from one kernel element to the next. */
  uint16_t pdpad; /* Not used by the hardware. */
  uint16_t pupad; /* Rows of padding above the pooled image. */
  uint16_t prad; /* Not used by the hardware. */
  uint16_t orows; /* Output rows before pooling of this loop. */
  uint16_t ocols; /* Output columns before pooling of this loop. */
  uint16_t out_stride; /* Elements from one output pixel in memory to the next. */
  uint16_t weight_stride; /* Elements from one weight row in memory to the next. */
  uint16_t in_stride; /* Elements from one input pixel in memory to the next. */
};

static inline void gemmini_loop_conv_ws_config_4_(struct gemmini_loop_conv_ws_config_4 o) {
  uint64_t rs1 = ((uint64_t)o.kernel_dilation & 0x3ff) | ((uint64_t)o.pdpad & 0x7ff) << 10 | ((uint64_t)o.pupad & 0x7ff) << 21 | (uint64_t)o.prad << 32 | (uint64_t)o.orows << 48;
  uint64_t rs2 = (uint64_t)o.ocols | (uint64_t)o.out_stride << 16 | (uint64_t)o.weight_stride << 32 | (uint64_t)o.in_stride << 48;
  __asm__ volatile(".insn r 0x7b, 3, 19, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_conv_ws_config_4(...) gemmini_loop_conv_ws_config_4_((struct gemmini_loop_conv_ws_config_4){ .kernel_dilation = 1, __VA_ARGS__ })

/* Addresses of weights and output of the next convolution loop. */
struct gemmini_loop_conv_ws_config_5 {
  const volatile void *weights; /* Main memory address of the weights; 0 is no load. */
  const volatile void *output; /* Main memory address of the output; 0 is no store. */
};

static inline void gemmini_loop_conv_ws_config_5_(struct gemmini_loop_conv_ws_config_5 o) {
  uint64_t rs1 = (uint64_t)(uintptr_t)o.weights;
  uint64_t rs2 = (uint64_t)(uintptr_t)o.output;
  __asm__ volatile(".insn r 0x7b, 3, 20, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_conv_ws_config_5(...) gemmini_loop_conv_ws_config_5_((struct gemmini_loop_conv_ws_config_5){ __VA_ARGS__ })

/* Addresses of bias and input of the next convolution loop. */
struct gemmini_loop_conv_ws_config_6 {
  const volatile void *bias; /* Main memory address of the bias; 0 is no load. */
  const volatile void *input; /* Main memory address of the input; 0 is no load. */
};

static inline void gemmini_loop_conv_ws_config_6_(struct gemmini_loop_conv_ws_config_6 o) {
  uint64_t rs1 = (uint64_t)(uintptr_t)o.bias;
  uint64_t rs2 = (uint64_t)(uintptr_t)o.input;
  __asm__ volatile(".insn r 0x7b, 3, 21, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_conv_ws_config_6(...) gemmini_loop_conv_ws_config_6_((struct gemmini_loop_conv_ws_config_6){ __VA_ARGS__ })

/* Run the configured convolution loop. */
struct gemmini_loop_conv_ws {
  bool no_bias; /* Load zeros instead of the bias. */
  bool wrot180; /* Rotate the kernel by 180 degrees. */
  bool trans_output_1203; /* Output layout 1203. */
  bool trans_weight_1203; /* Weight layout 1203. */
  bool trans_weight_0132; /* Weight layout 0132. */
  bool trans_input_3120; /* Input layout 3120. */
  bool dw; /* Depthwise. */
  uint8_t max_pixels_per_row; /* Input pixels in a scratchpad row; 0 is read as 1. */
  uint8_t b_spad_id; /* Where the weights end: 0 in the slot's place, n after half n. */
  uint8_t a_spad_id; /* Where the input starts: 0 in the slot's place, n at half n. */
  bool no_pool; /* Do not pool. */
  bool downsample; /* Load every other input pixel. */
  bool input_dilated; /* Input with zeros between the pixels. */
  uint8_t activation; /* Activation of the output. */
};

static inline void gemmini_loop_conv_ws_(struct gemmini_loop_conv_ws o) {
  uint64_t rs1 = (uint64_t)o.no_bias | (uint64_t)o.wrot180 << 1 | (uint64_t)o.trans_output_1203 << 2 | (uint64_t)o.trans_weight_1203 << 3 | (uint64_t)o.trans_weight_0132 << 4 | (uint64_t)o.trans_input_3120 << 5 | (uint64_t)o.dw << 6 | (uint64_t)o.max_pixels_per_row << 8 | ((uint64_t)o.b_spad_id & 0x3) << 16 | ((uint64_t)o.a_spad_id & 0x3) << 18;
  uint64_t rs2 = (uint64_t)o.no_pool | (uint64_t)o.downsample << 1 | (uint64_t)o.input_dilated << 2 | ((uint64_t)o.activation & 0x3) << 3;
  __asm__ volatile(".insn r 0x7b, 3, 15, x0, %0, %1" : : "r"(rs1), "r"(rs2) : "memory");
}
#define gemmini_loop_conv_ws(...) gemmini_loop_conv_ws_((struct gemmini_loop_conv_ws){ .max_pixels_per_row = 1, __VA_ARGS__ })

#endif
