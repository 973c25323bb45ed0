# A ragged matrix product by the matmul unroller: C = (A B + d) / 10, the row d added to every row (10 x 9 by 9 x 6).
#
# The unroller loads, multiplies and stores by itself; the program gives it sizes in tiles of DIM and what the last
# tiles lack. It always loads whole tiles of B, so B's memory reaches to a multiple of DIM rows.

config small4

const M = 10
const N = 6
const K = 9
const TILES_K = ceil_div(K, DIM)

buffer A: i8[M, K] = [
    [-5,  6,  2, -5,  8,  8, -5, -9, -9],
    [-6,  7, -5,  4, -3, -3, -9, -1, -3],
    [ 0,  7, -2,  9,  1, -1,  8,  4, -5],
    [-8,  2,  5,  9,  7,  4,  7, -5,  8],
    [-5,  7,  7, -9,  5, -4, -9, -5, -4],
    [-5,  6, -6,  8, -8,  1,  7,  7,  8],
    [ 6, -6,  8, -8, -2, -3, -1, -8, -6],
    [ 7,  5,  8, -9, -7,  5,  1,  7,  7],
    [-3, -1,  5,  7,  8,  6,  7, -2,  7],
    [-1,  8, -3,  5, -5,  4, -6,  3,  5],
]
buffer B: i8[TILES_K * DIM, N] = [
    [ 1, -7, -2,  4, -7, -3],
    [ 0, -6, -5,  2, -5, -1],
    [-5,  5, -2, -6,  3,  6],
    [-4, -2, -4,  4,  7,  3],
    [ 1,  4, -3,  2,  1, -7],
    [ 2, -9,  1,  8,  5,  5],
    [-9,  3,  1,  7,  0,  7],
    [-7, -6, -2, -6, -7, -1],
    [-1, -8, -4, -1, -5,  4],
    [ 0,  0,  0,  0,  0,  0],
    [ 0,  0,  0,  0,  0,  0],
    [ 0,  0,  0,  0,  0,  0],
]
buffer d: i32[N] = [ 146,  -68,    7, -124,   74,   63]
buffer C: i8[M, N]
expect C = [
    [ 29,   2,   4,  -6,  21,  -1],
    [ 23,  -8,  -1, -17,  10,  -1],
    [  2,  -8,  -4,  -3,   9,   9],
    [  6,  -4,  -6,  -3,  22,  20],
    [ 26,   7,   0, -26,   7,  -4],
    [  1, -24,  -5,  -7,   2,  20],
    [ 21,   9,   8, -17,  10,   5],
    [  9, -26,  -3, -19, -10,  16],
    [  5,  -8,  -6,  -2,  18,  18],
    [ 17, -27,  -6, -12,   4,   8],
]

config_ex dataflow=ws
config_ld state_id=0 stride=A.stride            # the unroller loads A with channel 0,
config_ld state_id=1 stride=B.stride            # B with channel 1,
config_ld state_id=2 stride=0                   # and D with channel 2; stride 0 repeats the row
config_st stride=C.stride acc_scale=0.1

loop_ws_config_bounds i=ceil_div(M, DIM) j=ceil_div(N, DIM) k=TILES_K \
    pad_i=ceil_div(M, DIM) * DIM - M pad_j=ceil_div(N, DIM) * DIM - N pad_k=TILES_K * DIM - K
loop_ws_config_addrs_ab a=A b=B
loop_ws_config_addrs_dc d=d c=C
loop_ws_config_strides_ab a_stride=A.cols b_stride=B.cols
loop_ws_config_strides_dc d_stride=0 c_stride=C.cols
loop_ws ex_accumulate
fence
