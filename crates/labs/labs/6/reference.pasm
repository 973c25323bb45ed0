# Lab 6, a solution.

config default16

buffer A: i8[128, 128]
buffer B: i8[128, 128]
buffer C: i8[128, 128]

const T = A.rows / DIM      # tiles in each dimension
const WIDE = 4              # tiles in one load

spad a[T * T * DIM]         # tile (i, k) at row (i T + k) DIM
spad b[T * T * DIM] at 4096 # tile (k, j) at row (k T + j) DIM
const ACC_BANK = 512        # rows of a bank of the accumulator: what is stored is not where results go
acc c[2 * ACC_BANK]         # tile (i, j) at row (j % 2) ACC_BANK + i DIM

config_ex dataflow=ws
config_st stride=C.stride acc_scale=0.00390625
config_ld stride=A.stride
config_ld state_id=1 stride=B.stride

repeat j in 0..T
    repeat k in 0..T
        # Each load stands right before its first use; a load of B has four columns of tiles.
        repeat once in 0..(j == 0)
            mvin2 dram=B[k * DIM, 0] local=b[k * T * DIM] cols=WIDE * DIM rows=DIM
        end
        repeat once in 0..(j == WIDE - 1)
            mvin2 dram=B[k * DIM, WIDE * DIM] local=b[(k * T + WIDE) * DIM] cols=WIDE * DIM rows=DIM
        end
        repeat i in 0..T
            repeat once in 0..(j == 0) * (k % WIDE == 0)
                mvin dram=A[i * DIM, k * DIM] local=a[(i * T + k) * DIM] cols=WIDE * DIM rows=DIM
            end
            const to = (j % 2) * ACC_BANK + i * DIM
            preload d=b[(k * T + j) * DIM] c=accumulate(c[to], k > 0)
            compute_preloaded a=a[(i * T + k) * DIM]
        end
    end
    repeat i in 0..T
        mvout dram=C[i * DIM, j * DIM] local=c[(j % 2) * ACC_BANK + i * DIM] cols=DIM rows=DIM
    end
end
fence
