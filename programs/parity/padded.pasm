# Moves and products of parts of a tile. The sizes are the draws of the recorded run of Gemmini's program.

config default16

# A load of 3 x 14 elements; the whole tile is stored. What the load leaves alone are the zeros from before.
buffer X: i8[3, 14] = each i, j: 5 * i + 7 * j - 60
buffer X_out: i8[DIM, DIM] = fill 1
expect X_out = each i, j: i < 3 && j < 14 ? 5 * i + 7 * j - 60 : 0
spad x[DIM]
config_ld stride=X.stride
mvin dram=0 local=x cols=DIM rows=DIM
config_st stride=DIM
mvin dram=X local=x cols=X.cols rows=X.rows
mvout dram=X_out local=x cols=DIM rows=DIM
fence

# A load and a store of 12 x 1 elements.
buffer Y: i8[12, 1] = each i, j: 11 * i - 50
buffer Y_out: i8[12, 1]
expect Y_out = each i, j: 11 * i - 50
config_ld stride=Y.stride
config_st stride=Y_out.stride
mvin dram=Y local=x cols=Y.cols rows=Y.rows
mvout dram=Y_out local=x cols=Y.cols rows=Y.rows
fence

spad a[DIM] at 0
spad b[DIM]
spad d[DIM]
spad c[DIM]

# Output-stationary, 3 x 1 by 1 x 2.
buffer A_os: i8[3, 1] = [[1], [-2], [3]]
buffer B_os: i8[1, 2] = [[4, -1]]
buffer D_os: i8[3, 2] = [[1, 2], [3, 4], [5, 6]]
buffer C_os: i8[3, 2]
expect C_os = [[5, 1], [-5, 6], [17, 3]]
config_ex dataflow=os
config_st stride=C_os.stride
config_ld stride=A_os.stride
mvin dram=A_os local=a cols=1 rows=3
config_ld stride=B_os.stride
mvin dram=B_os local=b cols=2 rows=1
config_ld stride=D_os.stride
mvin dram=D_os local=d cols=2 rows=3
preload d=d d_cols=2 d_rows=3 c=c c_cols=2 c_rows=3
compute_preloaded a=a a_cols=1 a_rows=3 bd=b bd_cols=2 bd_rows=1
mvout dram=C_os local=c cols=2 rows=3
fence

# Weight-stationary, 7 x 3 by 3 x 6; row k of B has ones in columns k and k + 3.
buffer A_ws: i8[7, 3] = each i, k: 5 * i - 9 * k
buffer B_ws: i8[3, 6] = each k, j: j % 3 == k
buffer D_ws: i8[7, 6] = each i, j: i - 2 * j
buffer C_ws: i8[7, 6]
expect C_ws = each i, j: 5 * i - 9 * (j % 3) + i - 2 * j
config_ex dataflow=ws
config_st stride=C_ws.stride
config_ld stride=A_ws.stride
mvin dram=A_ws local=a cols=3 rows=7
config_ld stride=B_ws.stride
mvin dram=B_ws local=b cols=6 rows=3
config_ld stride=D_ws.stride
mvin dram=D_ws local=d cols=6 rows=7
preload d=b d_cols=6 d_rows=3 c=c c_cols=6 c_rows=7
compute_preloaded a=a a_cols=3 a_rows=7 bd=d bd_cols=6 bd_rows=7
mvout dram=C_ws local=c cols=6 rows=7
fence
