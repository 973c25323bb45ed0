# Every combination of two tiles of each operand, output-stationary: with D, without, and in pairs whose sum stays in
# the array. Shifts of 0, 2 and 4 bits on the way out, without and with ReLU.
#
# Product g takes A[g / 4], B[g / 2 % 2] and D[g % 2]. B[n] has ones on its diagonal and n + 2 right of it, so a product
# is A[i, j] + (n + 2) A[i, j - 1].

config default16

const N = 2
const PRODUCTS = N * N * N
buffer A: i8[N, DIM, DIM] = each n, i, k: (i * 29 + k * 17 + n * 11) % 61 - 30
buffer B: i8[N, DIM, DIM] = each n, k, j: k == j ? 1 : j == k + 1 ? n + 2 : 0
buffer D: i8[N, DIM, DIM] = each n, i, j: (i * 7 + j * 5 + n * 3) % 41 - 20

buffer With: i8[2, 3, PRODUCTS, DIM, DIM]
buffer Without: i8[2, 3, PRODUCTS, DIM, DIM]
buffer Pairs: i8[2, 3, PRODUCTS / 2, DIM, DIM]
expect With = each r, s, g, i, j: \
    max(r ? 0 : -128, min(127, round((((i * 29 + j * 17 + (g / 4) * 11) % 61 - 30) \
        + (j == 0 ? 0 : (g / 2 % 2 + 2) * ((i * 29 + (j - 1) * 17 + (g / 4) * 11) % 61 - 30)) \
        + (i * 7 + j * 5 + (g % 2) * 3) % 41 - 20) / (1.0 * (1 << 2 * s)))))
expect Without = each r, s, g, i, j: \
    max(r ? 0 : -128, min(127, round((((i * 29 + j * 17 + (g / 4) * 11) % 61 - 30) \
        + (j == 0 ? 0 : (g / 2 % 2 + 2) * ((i * 29 + (j - 1) * 17 + (g / 4) * 11) % 61 - 30))) / (1.0 * (1 << 2 * s)))))
expect Pairs = each r, s, h, i, j: \
    max(r ? 0 : -128, min(127, round((2 * (((i * 29 + j * 17 + (h / 2) * 11) % 61 - 30) \
        + (j == 0 ? 0 : (h % 2 + 2) * ((i * 29 + (j - 1) * 17 + (h / 2) * 11) % 61 - 30))) \
        + (i * 7 + j * 5) % 41 - 20) / (1.0 * (1 << 2 * s)))))

spad a[N * DIM]
spad b[N * DIM]
spad d[N * DIM]
spad c[PRODUCTS * DIM]

macro store to from
    mvout dram=to local=from cols=DIM rows=DIM
end

flush
config_ld stride=DIM
config_st stride=DIM
repeat n in 0..N
    mvin dram=A[n] local=a[n * DIM] cols=DIM rows=DIM
end
repeat n in 0..N
    mvin dram=B[n] local=b[n * DIM] cols=DIM rows=DIM
end
repeat n in 0..N
    mvin dram=D[n] local=d[n * DIM] cols=DIM rows=DIM
end
repeat r in 0..2
    repeat s in 0..3
        config_ex dataflow=os activation=r in_shift=2 * s

        mark "with D"
        repeat g in 0..PRODUCTS
            preload d=d[g % N * DIM] c=c[g * DIM]
            compute_preloaded a=a[g / 4 * DIM] bd=b[g / 2 % N * DIM]
        end
        repeat g in 0..PRODUCTS
            store to=With[r, s, g] from=c[g * DIM]
        end

        mark "without D"
        repeat g in 0..PRODUCTS
            preload c=c[g * DIM]
            compute_preloaded a=a[g / 4 * DIM] bd=b[g / 2 % N * DIM]
        end
        repeat g in 0..PRODUCTS
            store to=Without[r, s, g] from=c[g * DIM]
        end

        mark "pairs"
        repeat h in 0..PRODUCTS / 2
            preload d=d
            compute_preloaded a=a[h / 2 * DIM] bd=b[h % 2 * DIM]
            preload c=c[h * DIM]
            compute_accumulated a=a[h / 2 * DIM] bd=b[h % 2 * DIM]
        end
        repeat h in 0..PRODUCTS / 2
            store to=Pairs[r, s, h] from=c[h * DIM]
        end
        fence
    end
end
