# Tiles that are multiplied by 0 to 7 as they are loaded, saturated.

config default16

const TILES = 8
buffer In: i8[TILES, DIM, DIM] = each n, i, j: (i * DIM + j + n + 128) % 256 - 128
buffer Out: i8[TILES, DIM, DIM]
expect Out = each n, i, j: max(-128, min(127, n * ((i * DIM + j + n + 128) % 256 - 128)))
spad x[TILES * DIM]

flush
config_st stride=DIM
repeat n in 0..TILES
    config_ld stride=DIM scale=n
    mvin dram=In[n] local=x[n * DIM] cols=DIM rows=DIM
    mvout dram=Out[n] local=x[n * DIM] cols=DIM rows=DIM
end
fence
