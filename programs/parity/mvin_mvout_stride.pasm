# Tiles of a larger matrix, loaded in blocks of 1 to 4 tiles and stored one by one. A result for each size of blocks.

config default16

const SIZE = 4 * DIM
buffer In: i8[SIZE, SIZE] = each i, j: (i * 29 + j * 7) % 64 - 32
buffer Out: i8[4, SIZE, SIZE]
expect Out = each n, i, j: (i * 29 + j * 7) % 64 - 32
spad x[4 * SIZE]

flush
repeat tiles in 1..5
    config_ld stride=SIZE
    config_st stride=SIZE
    repeat i in 0..SIZE step DIM
        repeat j in 0..SIZE step DIM
            const row = i * (SIZE / DIM) + j
            if j / DIM % tiles == 0
                mvin dram=In[i, j] local=x[row] cols=min(tiles * DIM, SIZE - j) rows=DIM
            end
            mvout dram=Out[tiles - 1, i, j] local=x[row] cols=DIM rows=DIM
        end
    end
    fence
end
