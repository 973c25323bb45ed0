# Lab 9, a solution.

config norm16

buffer scores: i32[4, 32]
buffer probabilities: i8[4, 32]

# Columns 0 to 15 of row r are in x[r], columns 16 to 31 in x[DIM + r].
acc x[2 * DIM]

# The integer exponential (I-BERT): exp(S q) = 2^-z (((q + z QLN2) + QB)^2 + QC), up to a factor.
const S = 0.05
const QLN2 = trunc(0.693147 / S)
const QLN2_INV = 65536 / QLN2
const QB = trunc(1.353 / S)
const QC = trunc(0.344 / (0.3585 * S * S))

config_ld stride=scores.stride
config_st stride=probabilities.stride acc_scale=1.0
config_norm act_msb q_const_type=0 q_const=QLN2 qb=QB qc=QC
config_norm act_msb q_const_type=1 q_const=QLN2_INV qb=QB qc=QC

repeat block in 0..2
    mvin dram=scores[0, block * DIM] local=x[block * DIM] cols=DIM rows=scores.rows
end

repeat row in 0..scores.rows step 2
    mark "rows"
    repeat s in 0..2
        config_norm norm_stats_id=s set_stats_id_only
        mvout dram=probabilities[row + s] local=norm(x[row + s], max) cols=scores.cols rows=1
    end
    repeat s in 0..2
        config_norm norm_stats_id=s set_stats_id_only
        mvout dram=probabilities[row + s] local=norm(x[row + s], inv_sum_exp) cols=scores.cols rows=1
    end
    repeat s in 0..2
        config_norm norm_stats_id=s set_stats_id_only
        mvout dram=probabilities[row + s] local=x[row + s] cols=scores.cols rows=1
    end
end
fence
