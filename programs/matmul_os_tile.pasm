# One tile, output-stationary, with an inner dimension of two tiles: C = A B as int32.
#
# C stays in the array while the tiles of A and B pass. Only the last preload names a destination.

config small4

buffer A: i8[4, 8] = [
    [ 9,  9, -3,  2, -6,  8, -7,  9],
    [-8, -3,  6,  8,  4,  1,  5,  9],
    [ 5,  2,  0, -2, -4, -2, -7,  9],
    [ 0,  7,  6,  1,  5,  0, -7, -6],
]
buffer B: i8[8, 4] = [
    [ 7,  4, -4,  1],
    [-5,  6,  4, -8],
    [-7,  8,  9,  1],
    [ 1,  2,  6,  9],
    [ 5, -7, -7, -1],
    [ 6, -7, -8,  0],
    [ 9,  5,  0,  3],
    [ 2, -9,  5,  2],
]
buffer C: i32[4, 4]
expect C = [
    [  14,  -60,    8,  -45],
    [  14,  -77,  131,  123],
    [ -54,  -46,   65,  -28],
    [-126,   76,   23,  -79],
]

spad a[2 * DIM]         # a[0]: left half of A, a[DIM]: right half
spad b[2 * DIM]
acc c[DIM]

config_ex dataflow=os
config_ld stride=A.stride
config_ld state_id=1 stride=B.stride
config_st stride=C.stride

repeat k in 0..2
    mvin dram=A[0, k * DIM] local=a[k * DIM] cols=DIM rows=DIM
    mvin2 dram=B[k * DIM] local=b[k * DIM] cols=DIM rows=DIM
end

preload                                         # the sum begins with zeros
compute_preloaded a=a bd=b
preload c=c
compute_accumulated a=a[DIM] bd=b[DIM]

mvout dram=C local=full(c) cols=DIM rows=DIM
fence
