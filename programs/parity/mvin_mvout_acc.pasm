# int32 through the accumulator, times 12 on the way out, without and with ReLU. Values saturate at both ends.

config default16

const TILES = 4
const SCALE = 12
buffer In: i32[TILES, DIM, DIM] = each n, i, j: (n * 97 + i * 31 + j * 5) % 41 - 20 + (j == 3 ? 100_000_000 : 0)
buffer Out: i8[2, TILES, DIM, DIM]
expect Out = each relu, n, i, j: max(relu ? 0 : -128, min(127, \
    SCALE * ((n * 97 + i * 31 + j * 5) % 41 - 20 + (j == 3 ? 100_000_000 : 0))))
acc x[TILES * DIM]

flush
repeat relu in 0..2
    config_ld stride=4 * DIM
    config_ex dataflow=os
    config_st stride=DIM acc_scale=SCALE activation=relu ? 1 : 0
    repeat n in 0..TILES
        mvin dram=In[n] local=x[n * DIM] cols=DIM rows=DIM
        mvout dram=Out[relu, n] local=x[n * DIM] cols=DIM rows=DIM
    end
    fence
end
