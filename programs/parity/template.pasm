# A matrix times the identity matrix, output-stationary, gives the matrix.

config default16

buffer In: i8[DIM, DIM] = each i, j: (37 * i + 11 * j) % 256 - 128
buffer Identity: i8[DIM, DIM] = each i, j: i == j
buffer Out: i8[DIM, DIM]
expect Out = each i, j: (37 * i + 11 * j) % 256 - 128

spad x[DIM]
spad y[DIM]
spad identity[DIM]

flush
config_ld stride=DIM
config_st stride=DIM
mvin dram=In local=x cols=DIM rows=DIM
mvin dram=Identity local=identity cols=DIM rows=DIM
config_ex dataflow=os
preload c=y
compute_preloaded a=x bd=identity
config_st stride=DIM
mvout dram=Out local=y cols=DIM rows=DIM
fence
