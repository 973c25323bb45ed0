# One load of four tiles that puts them 2 DIM rows apart.

config default16

buffer In: i8[DIM, 4 * DIM] = each i, j: (i * 4 * DIM + j + 128) % 256 - 128
buffer Out: i8[DIM, 4 * DIM]
expect Out = each i, j: (i * 4 * DIM + j + 128) % 256 - 128
spad x[8 * DIM]

flush
config_ld stride=In.stride block_stride=2 * DIM
config_st stride=Out.stride
mvin dram=In local=x cols=4 * DIM rows=DIM
fence
repeat n in 0..4
    mvout dram=Out[0, n * DIM] local=x[n * 2 * DIM] cols=DIM rows=DIM
end
fence
