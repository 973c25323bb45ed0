# Both dataflows with every transposition that they have: A in either, B in the weight-stationary one.
#
# Product g takes A[g / 2] and B[g % 2]. B[n] has ones on its diagonal and n + 2 right of it. So a product is
# A[i, j] + (n + 2) A[i, j - 1], with B transposed A[i, j] + (n + 2) A[i, j + 1]; with A transposed it takes A[j, i].

config default16

const N = 2
const PRODUCTS = N * N
buffer A: i8[N, DIM, DIM] = each n, i, k: (i * 29 + k * 17 + n * 11) % 61 - 30
buffer B: i8[N, DIM, DIM] = each n, k, j: k == j ? 1 : j == k + 1 ? n + 2 : 0
buffer OS: i8[2, PRODUCTS, DIM, DIM]            # plain, A transposed
buffer WS: i8[3, PRODUCTS, DIM, DIM]            # plain, A transposed, B transposed
expect OS = each t, g, i, j: t == 0 \
    ? max(0 ? 0 : -128, min(127, ((i * 29 + j * 17 + (g / 2) * 11) % 61 - 30) \
        + (j == 0 ? 0 : (g % 2 + 2) * ((i * 29 + (j - 1) * 17 + (g / 2) * 11) % 61 - 30)))) \
    : max(0 ? 0 : -128, min(127, ((j * 29 + i * 17 + (g / 2) * 11) % 61 - 30) \
        + (j == 0 ? 0 : (g % 2 + 2) * (((j - 1) * 29 + i * 17 + (g / 2) * 11) % 61 - 30))))
expect WS = each t, g, i, j: t == 0 \
    ? max(0 ? 0 : -128, min(127, ((i * 29 + j * 17 + (g / 2) * 11) % 61 - 30) \
        + (j == 0 ? 0 : (g % 2 + 2) * ((i * 29 + (j - 1) * 17 + (g / 2) * 11) % 61 - 30)))) : t == 1 \
    ? max(0 ? 0 : -128, min(127, ((j * 29 + i * 17 + (g / 2) * 11) % 61 - 30) \
        + (j == 0 ? 0 : (g % 2 + 2) * (((j - 1) * 29 + i * 17 + (g / 2) * 11) % 61 - 30)))) \
    : max(0 ? 0 : -128, min(127, ((i * 29 + j * 17 + (g / 2) * 11) % 61 - 30) \
        + (j == DIM - 1 ? 0 : (g % 2 + 2) * ((i * 29 + (j + 1) * 17 + (g / 2) * 11) % 61 - 30))))

spad a[N * DIM]
spad b[N * DIM]
spad c[PRODUCTS * DIM]
acc sum[PRODUCTS * DIM]

flush
config_ld stride=DIM
config_st stride=DIM
repeat n in 0..N
    mvin dram=A[n] local=a[n * DIM] cols=DIM rows=DIM
    mvin dram=B[n] local=b[n * DIM] cols=DIM rows=DIM
end

repeat t in 0..2
    config_ex dataflow=os a_transpose=t
    repeat g in 0..PRODUCTS
        preload c=c[g * DIM]
        compute_preloaded a=a[g / N * DIM] bd=b[g % N * DIM]
    end
    repeat g in 0..PRODUCTS
        mvout dram=OS[t, g] local=c[g * DIM] cols=DIM rows=DIM
    end
end
repeat t in 0..3
    config_ex dataflow=ws a_transpose=t == 1 b_transpose=t == 2
    repeat g in 0..PRODUCTS
        preload d=b[g % N * DIM] c=sum[g * DIM]
        compute_preloaded a=a[g / N * DIM]
    end
    repeat g in 0..PRODUCTS
        mvout dram=WS[t, g] local=sum[g * DIM] cols=DIM rows=DIM
    end
end
fence
