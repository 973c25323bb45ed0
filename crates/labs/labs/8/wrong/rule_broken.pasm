# The unroller.

config default16

buffer A: i8[64, 64]
buffer B: i8[64, 64]
buffer C: i8[64, 64]

const T = A.rows / DIM

spad a[T * T * DIM]             # tile (i, k) at row (i T + k) DIM
spad b[T * T * DIM] at 4096     # tile (k, j) at row (k T + j) DIM
acc c[T * T * DIM]              # tile (i, j) at row (i T + j) DIM

config_ex dataflow=ws
config_ld stride=A.stride
config_st stride=C.stride acc_scale=0.0078125

repeat k in 0..T
    mvin dram=B[k * DIM, 0] local=b[k * T * DIM] cols=T * DIM rows=DIM
    mvin dram=A[k * DIM, 0] local=a[k * T * DIM] cols=T * DIM rows=DIM
end
repeat i in 0..T
    repeat j in 0..T
        repeat k in 0..T
            preload d=b[(k * T + j) * DIM] c=accumulate(c[(i * T + j) * DIM], k > 0)
            compute_preloaded a=a[(i * T + k) * DIM]
        end
        mvout dram=C[i * DIM, j * DIM] local=c[(i * T + j) * DIM] cols=DIM rows=DIM
    end
end
loop_ws_config_bounds i=1 j=1 k=1
loop_ws skip_lda skip_ldb skip_ldd skip_ex skip_stc
fence
