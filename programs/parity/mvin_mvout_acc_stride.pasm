# Tiles of a larger int32 matrix through the accumulator, times 0, 4, 8 and 12 on the way out, without and with ReLU.

config default16

const SIZE = 4 * DIM
buffer In: i32[SIZE, SIZE] = each i, j: (i * 31 + j * 5) % 53 - 26
buffer Out: i8[2, 4, SIZE, SIZE]
expect Out = each relu, s, i, j: max(relu ? 0 : -128, min(127, 4 * s * ((i * 31 + j * 5) % 53 - 26)))
acc x[4 * SIZE]

flush
repeat relu in 0..2
    repeat s in 0..4
        config_ld stride=In.stride
        config_ex dataflow=os
        config_st stride=SIZE acc_scale=4 * s activation=relu ? 1 : 0
        repeat i in 0..SIZE step DIM
            repeat j in 0..SIZE step DIM
                const row = i * (SIZE / DIM) + j
                mvin dram=In[i, j] local=x[row] cols=DIM rows=DIM
                mvout dram=Out[relu, s, i, j] local=x[row] cols=DIM rows=DIM
            end
        end
        fence
    end
end
