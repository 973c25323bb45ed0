# The bias goes to the scratchpad, behind its end.

config default16

buffer A: i8[32, 64]
buffer B: i8[64, 32]
buffer d: i32[32]
buffer C: i8[32, 32]

const I = A.rows / DIM
const J = B.cols / DIM
const K = A.cols / DIM

spad a[I * K * DIM]
spad b[K * J * DIM] at 4096
acc c[I * J * DIM]

config_ex dataflow=ws
config_st stride=C.stride activation=relu acc_scale=0.001953125
config_ld stride=A.stride
config_ld state_id=1 stride=0                   # mvin2 repeats the row of the bias
config_ld state_id=2 stride=B.stride

repeat i in 0..I
    repeat j in 0..J
        mvin2 dram=d[j * DIM] local=spad(16383) cols=DIM rows=DIM
    end
    repeat k in 0..K
        mvin dram=A[i * DIM, k * DIM] local=a[(i * K + k) * DIM] cols=DIM rows=DIM
    end
end
repeat k in 0..K
    repeat j in 0..J
        mvin3 dram=B[k * DIM, j * DIM] local=b[(k * J + j) * DIM] cols=DIM rows=DIM
    end
end
repeat i in 0..I
    repeat j in 0..J
        const to = (i * J + j) * DIM
        repeat k in 0..K
            preload d=b[(k * J + j) * DIM] c=accumulate(c[to])
            compute_preloaded a=a[(i * K + k) * DIM]
        end
        mvout dram=C[i * DIM, j * DIM] local=c[to] cols=DIM rows=DIM
    end
end
fence
