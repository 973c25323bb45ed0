# Eight tiles through the scratchpad and back.

config default16

const TILES = 8
buffer In: i8[TILES, DIM, DIM] = each n, i, j: (i * DIM + j + n + 128) % 256 - 128
buffer Out: i8[TILES, DIM, DIM]
expect Out = each n, i, j: (i * DIM + j + n + 128) % 256 - 128
spad x[TILES * DIM]

flush
config_ld stride=DIM
config_st stride=DIM
repeat n in 0..TILES
    mvin dram=In[n] local=x[n * DIM] cols=DIM rows=DIM
    mvout dram=Out[n] local=x[n * DIM] cols=DIM rows=DIM
end
fence
