# A load stride of 0 repeats one row of memory in every row.

config default16

const TILES = 4
buffer In: i32[TILES, DIM] = each n, j: n * 40 + j * 9 - 60
buffer Out: i8[TILES, DIM, DIM]
expect Out = each n, i, j: min(127, n * 40 + j * 9 - 60)
acc x[TILES * DIM]

flush
config_ld stride=0
config_ex dataflow=os
config_st stride=DIM
repeat n in 0..TILES
    mvin dram=In[n] local=x[n * DIM] cols=DIM rows=DIM
    mvout dram=Out[n] local=x[n * DIM] cols=DIM rows=DIM
end
fence
