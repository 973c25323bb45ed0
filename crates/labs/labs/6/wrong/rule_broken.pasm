# All loads stand before the first product, behind a fence.

config default16

buffer A: i8[128, 128]
buffer B: i8[128, 128]
buffer C: i8[128, 128]

const T = A.rows / DIM      # tiles in each dimension
const WIDE = 4              # tiles in one load

spad a[T * T * DIM]         # tile (i, k) at row (i T + k) DIM
spad b[T * T * DIM] at 4096 # tile (k, j) at row (k T + j) DIM
acc c[2 * T * DIM]          # tile (i, j) at row ((j % 2) T + i) DIM

config_ex dataflow=ws
config_st stride=C.stride acc_scale=0.00390625
config_ld stride=A.stride
config_ld state_id=1 stride=B.stride

repeat half in 0..T / WIDE
    repeat k in 0..T
        mvin2 dram=B[k * DIM, half * WIDE * DIM] local=b[(k * T + half * WIDE) * DIM] cols=WIDE * DIM rows=DIM
        repeat part in 0..T / WIDE * (half == 0)
            mvin dram=A[k * DIM, part * WIDE * DIM] local=a[(k * T + part * WIDE) * DIM] cols=WIDE * DIM rows=DIM
        end
    end
end
fence

repeat j in 0..T
    repeat k in 0..T
        repeat i in 0..T
            const to = ((j % 2) * T + i) * DIM
            preload d=b[(k * T + j) * DIM] c=accumulate(c[to], k > 0)
            compute_preloaded a=a[(i * T + k) * DIM]
        end
    end
    fence
    repeat i in 0..T
        mvout dram=C[i * DIM, j * DIM] local=c[((j % 2) * T + i) * DIM] cols=DIM rows=DIM
    end
end
fence
