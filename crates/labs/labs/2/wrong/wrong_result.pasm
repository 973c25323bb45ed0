# The second half begins with zeros again.

config default16

buffer A: i8[16, 32]
buffer B: i8[32, 16]
buffer C: i32[16, 16]

spad a[2 * DIM]         # a[0]: left half of A, a[DIM]: right half
spad b[2 * DIM]
acc c[DIM]

config_ex dataflow=os
config_ld stride=A.stride
config_ld state_id=1 stride=B.stride
config_st stride=C.stride

repeat k in 0..2
    mvin dram=A[0, k * DIM] local=a[k * DIM] cols=DIM rows=DIM
    mvin2 dram=B[k * DIM] local=b[k * DIM] cols=DIM rows=DIM
end

preload
compute_preloaded a=a bd=b
preload c=c
compute_preloaded a=a[DIM] bd=b[DIM]
mvout dram=C local=full(c) cols=DIM rows=DIM
fence
