# Source and result one byte behind the beginning of a page; the bytes around the result stay.

config default16

const PAGE = 4096
const TILE = DIM * DIM
buffer In: i8[PAGE] at 0x8000_0000 = each i: i < 1 || i > TILE ? -1 : (i - 1 + 128) % 256 - 128
buffer Out: i8[PAGE] at 0x8000_1000 = fill 1
expect Out = each i: i < 1 || i > TILE ? 1 : (i - 1 + 128) % 256 - 128
spad x[DIM]

flush
config_ld stride=DIM
config_st stride=DIM
mvin dram=In[1] local=x cols=DIM rows=DIM
mvout dram=Out[1] local=x cols=DIM rows=DIM
fence
