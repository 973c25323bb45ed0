# A matrix product of several tiles by explicit loops, weight-stationary: C = A B / 2 (8 x 12 by 12 x 8, tiles of 4 x 4).

config small4
include "include/tile.pasm"

buffer A: i8[8, 12] = [
    [-3,  4, -4,  2, -5, -2, -1, -3, -2,  1,  1,  2],
    [-4, -3,  2,  1,  3, -1, -3,  1,  3, -1,  1,  0],
    [ 5,  1, -2, -3, -4, -3, -3, -2,  5, -2, -5,  2],
    [ 4, -3, -1, -1, -5, -3,  1,  3,  0,  4,  4,  0],
    [-3,  3,  4,  5,  5, -5,  2,  5,  3,  1,  1,  1],
    [ 1, -4,  2,  5,  1, -5, -2, -4, -2,  2, -3, -4],
    [ 0,  4, -5, -4, -5,  4, -3,  3, -4,  0,  4, -5],
    [-4, -2,  4,  1, -3,  5, -1,  0,  4,  0,  2, -4],
]
buffer B: i8[12, 8] = [
    [-4,  2,  2,  2,  2, -1, -4, -3],
    [-4,  0, -1,  2, -3,  3, -5, -2],
    [ 3,  0, -3,  3, -5,  3, -1,  5],
    [-4, -1,  3,  0, -3,  0, -2,  3],
    [ 3,  3,  0,  5, -2,  4, -2, -2],
    [ 1, -2, -2,  3,  2,  0, -5, -5],
    [-1,  2, -1, -2,  4,  0,  2,  0],
    [ 0, -4, -2, -4, -2,  2, -2,  0],
    [-2,  2,  4,  4, -5,  2,  5,  0],
    [ 5, -4,  5, -4,  1, -2,  2, -3],
    [ 1,  5,  0, -4,  1,  2,  1, -4],
    [-3, -3, -3, -5, -3,  4,  2,  5],
]
buffer C: i8[8, 8]
expect C = [
    [-18,  -9,   5, -26,   5, -10,   6,   5],
    [ 16,   4,   1,   9, -24,  12,  16,  14],
    [-30,  -2,  12,  14,  -9,  -8,  12,  12],
    [  1,  -3,  15, -40,  18, -15,  18,  -8],
    [ -2,   1,   3,  -2, -44,  32,   6,  26],
    [ 10,   4,  24,  13,  -1, -20,   7,  20],
    [  2,  -5,  -6, -16,  32, -18, -28, -48],
    [ 18,   0,   2,  15, -10,  -3,   6,  -4],
]

const I = A.rows / DIM
const J = B.cols / DIM
const K = A.cols / DIM

spad a[I * K * DIM]     # tile (i, k) at row (i K + k) DIM
spad b[K * J * DIM]     # tile (k, j) at row (k J + j) DIM
acc c[I * J * DIM]      # tile (i, j) at row (i J + j) DIM

config_ex dataflow=ws
config_st stride=C.stride acc_scale=0.5

mark "load"
config_ld stride=A.stride
repeat i in 0..I
    repeat k in 0..K
        load_tile from=A[i * DIM, k * DIM] to=a[(i * K + k) * DIM]
    end
end
config_ld stride=B.stride
repeat k in 0..K
    repeat j in 0..J
        load_tile from=B[k * DIM, j * DIM] to=b[(k * J + j) * DIM]
    end
end

mark "multiply"
repeat i in 0..I
    repeat j in 0..J
        const tile = (i * J + j) * DIM
        repeat k in 0..K
            multiply_tiles a=a[(i * K + k) * DIM] b=b[(k * J + j) * DIM] to=c[tile] add=k > 0
        end
        mvout dram=C[i * DIM, j * DIM] local=c[tile] cols=DIM rows=DIM
    end
end
fence
