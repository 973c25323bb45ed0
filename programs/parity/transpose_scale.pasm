# The transpose of a 6 x DIM matrix, doubled as it is loaded, times another one, output-stationary.

config default16

const K = 6
buffer A: i8[K, DIM] = each k, i: (k * 3 + i * 5) % 9 - 4
buffer B: i8[K, DIM] = each k, j: k == 0 ? j - 8 : k == 5 ? 1 : 0
buffer C: i8[DIM, DIM]
expect C = each i, j: max(-128, min(127, 2 * ((i * 5) % 9 - 4) * (j - 8) + 2 * ((15 + i * 5) % 9 - 4)))

spad a[DIM]
spad b[DIM]
spad c[DIM]

flush
config_ld stride=DIM scale=2
mvin dram=A local=a cols=DIM rows=K
config_ld stride=DIM
mvin dram=B local=b cols=DIM rows=K
config_ex dataflow=os a_transpose
preload c=c
compute_preloaded a=a a_cols=K a_rows=DIM bd=b bd_cols=DIM bd_rows=K
config_st stride=DIM
mvout dram=C local=c cols=DIM rows=DIM
fence
