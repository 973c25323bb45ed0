# A residual connection: Z = X / 2 + 3 Y / 4, both terms rounded half to even as they are loaded, the sum saturated.
#
# Accumulator loads of int8 elements (`shrink`) are scaled on the way; the second one adds to the first.

config small4

buffer X: i8[8, 4] = [
    [ -26,   -1, -126,  -82],
    [   7,  -83,  -55,   76],
    [-107,   73, -117,   25],
    [  27,   -9,  -85,  -49],
    [  71,   38,  125,  -52],
    [  17,  -54, -106,   91],
    [ -57, -120,  -11,  -85],
    [-113, -107,  -60,   56],
]
buffer Y: i8[8, 4] = [
    [ -75,   64,  103, -103],
    [-119,   -3,  122,    7],
    [-127,  105,  -93,  -81],
    [ -95,  114,    1,  -90],
    [   7,   -8,  -23,  -10],
    [ 107,  124,   67,  -89],
    [ 117,   19, -105,  -27],
    [ -89,  -53,   41,    2],
]
buffer Z: i8[8, 4]
expect Z = [
    [ -69,   48,   14, -118],
    [ -85,  -44,   64,   43],
    [-128,  115, -128,  -49],
    [ -57,   82,  -41,  -92],
    [  41,   13,   45,  -34],
    [  88,   66,   -3,  -21],
    [  60,  -46,  -85,  -62],
    [-123,  -94,    1,   30],
]

acc sum[X.rows]

config_ld state_id=0 shrink stride=X.stride scale=0.5
config_ld state_id=1 shrink stride=Y.stride scale=0.75
config_st stride=Z.stride acc_scale=1.0

repeat row in 0..X.rows step DIM
    mvin dram=X[row] local=sum[row] cols=DIM rows=DIM
    mvin2 dram=Y[row] local=accumulate(sum[row]) cols=DIM rows=DIM
    mvout dram=Z[row] local=sum[row] cols=DIM rows=DIM
end
fence
