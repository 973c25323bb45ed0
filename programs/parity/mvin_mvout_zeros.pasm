# A load from address 0 writes zeros; that the result was something else before shows that they arrive.

config default16

buffer Out: i8[DIM, DIM] = fill 1
expect Out = fill 0
spad x[DIM]

flush
config_ld stride=DIM
config_st stride=DIM
mvin dram=0 local=x cols=DIM rows=DIM
mvout dram=Out local=x cols=DIM rows=DIM
fence
