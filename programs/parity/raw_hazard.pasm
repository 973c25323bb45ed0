# Products that read what the one before writes, as A, as B and as D: ten additions of the identity matrix to itself.

config default16

const ADDITIONS = 10
buffer Identity: i8[DIM, DIM] = each i, j: i == j
buffer A: i8[DIM, DIM]
buffer B: i8[DIM, DIM]
buffer D: i8[DIM, DIM]
expect A = each i, j: i == j ? ADDITIONS + 1 : 0
expect B = each i, j: i == j ? ADDITIONS + 1 : 0
expect D = each i, j: i == j ? ADDITIONS + 1 : 0

spad one[DIM]
spad also_one[DIM]
spad a[DIM]
spad b[DIM]
spad d[DIM]

flush
config_ld stride=DIM
config_st stride=DIM
mvin dram=Identity local=one cols=DIM rows=DIM
mvin dram=Identity local=also_one cols=DIM rows=DIM
mvin dram=Identity local=a cols=DIM rows=DIM
mvin dram=Identity local=b cols=DIM rows=DIM
mvin dram=Identity local=d cols=DIM rows=DIM
config_ex dataflow=os

repeat ADDITIONS                                # a = one + a * one
    preload d=one c=a
    compute_preloaded a=a bd=also_one
end
repeat ADDITIONS                                # b = one + one * b
    preload d=one c=b
    compute_preloaded a=also_one bd=b
end
repeat ADDITIONS                                # d = d + one * one
    preload d=d c=d
    compute_preloaded a=one bd=also_one
end

mvout dram=A local=a cols=DIM rows=DIM
mvout dram=B local=b cols=DIM rows=DIM
mvout dram=D local=d cols=DIM rows=DIM
fence
