# Tiles of a larger int32 matrix through the accumulator and back at full width.

config default16

const SIZE = 4 * DIM
buffer In: i32[SIZE, SIZE] = each i, j: i * 7_654_321 - j * 1_234_567
buffer Out: i32[SIZE, SIZE]
expect Out = each i, j: i * 7_654_321 - j * 1_234_567
acc x[4 * SIZE]

flush
config_ld stride=In.stride
config_ex dataflow=os
config_st stride=Out.stride
repeat i in 0..SIZE step DIM
    repeat j in 0..SIZE step DIM
        const row = i * (SIZE / DIM) + j
        mvin dram=In[i, j] local=x[row] cols=DIM rows=DIM
        mvout dram=Out[i, j] local=full(x[row]) cols=DIM rows=DIM
    end
end
fence
