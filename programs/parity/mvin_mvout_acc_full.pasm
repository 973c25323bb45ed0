# int32 through the accumulator and back at full width: nothing is scaled.

config default16

const TILES = 4
buffer In: i32[TILES, DIM, DIM] = each n, i, j: (n + 1) * (i * 7_654_321 - j * 1_234_567)
buffer Out: i32[TILES, DIM, DIM]
expect Out = each n, i, j: (n + 1) * (i * 7_654_321 - j * 1_234_567)
acc x[TILES * DIM]

flush
config_ld stride=4 * DIM
config_ex dataflow=os
config_st stride=4 * DIM
repeat n in 0..TILES
    mvin dram=In[n] local=x[n * DIM] cols=DIM rows=DIM
    mvout dram=Out[n] local=full(x[n * DIM]) cols=DIM rows=DIM
end
fence
