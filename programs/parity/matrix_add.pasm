# The sum of two int8 tiles that are scaled by -2 to 1 as they go into the accumulator.

config default16

buffer A: i8[DIM, DIM] = each i, j: (i * 5 + j * 3) % 16 - 8
buffer B: i8[DIM, DIM] = each i, j: (i * 3 + j * 7) % 16 - 8
buffer C: i8[4, 4, DIM, DIM]
expect C = each a, b, i, j: (a - 2) * ((i * 5 + j * 3) % 16 - 8) + (b - 2) * ((i * 3 + j * 7) % 16 - 8)
acc sum[DIM]

repeat a in 0..4
    repeat b in 0..4
        config_ld shrink stride=DIM scale=a - 2
        mvin dram=A local=sum cols=DIM rows=DIM
        config_ld shrink stride=DIM scale=b - 2
        mvin dram=B local=accumulate(sum) cols=DIM rows=DIM
        config_ex dataflow=os
        config_st stride=DIM
        mvout dram=C[a, b] local=sum cols=DIM rows=DIM
        fence
    end
end
