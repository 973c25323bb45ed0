//! Every operation against a slow oracle that works on exact rational numbers and wide integers and
//! shares no code with the crate.

mod exact;

use exact::{Exact, low32, nearest_even};
use pollux_numerics::hardfloat::{CANONICAL_NAN, div_rec_fn, divider_cycles, in_to_rec_fn, mul_rec_fn, rec_fn_to_in};
use pollux_numerics::{
    IexpConstants, IexpVariant, MeshWidth, Readout, Statistics, acc_scale, acc_scale_i8, acc_scale_row, iexp, igelu,
    mac, mac_row, matmul_tile, mvin_scale_i8, mvin_scale_row, normalizer, read_row, rounding_shift, saturate, wrap,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Integers of every magnitude, the extremes included: a uniform `i32` is almost never small.
fn integer() -> impl Strategy<Value = i32> {
    prop_oneof![
        (any::<i32>(), 0u32..32).prop_map(|(x, shift)| x >> shift),
        -1024..1024,
        prop::sample::select(vec![i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX - 1, i32::MAX]),
    ]
}

/// Bit patterns: anything (subnormals, infinities and NaNs included), and factors as software sets them.
fn factor() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        (any::<bool>(), 100u32..140, 0u32..1 << 23)
            .prop_map(|(sign, exponent, fraction)| u32::from(sign) << 31 | exponent << 23 | fraction),
        // Few significant bits, so that exact ties are common.
        (any::<bool>(), 115u32..130, 0u32..8)
            .prop_map(|(sign, exponent, top)| u32::from(sign) << 31 | exponent << 23 | top << 20),
        prop::sample::select(vec![
            0,
            1,
            0x8000_0000,
            0x007f_ffff,
            0x0080_0000,
            0x7f7f_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0xffff_ffff,
            0x7f80_0001,
            0x3f80_0000,
            0x3f00_0000,
        ]),
    ]
}

fn is_nan(bits: u32) -> bool {
    f32::from_bits(bits).is_nan()
}

/// The scale function by definition: three exact values, each rounded once.
fn scale_oracle(x: i32, scale: u32) -> i32 {
    let x = Exact::from_integer(x).to_float();
    match product_oracle(x, scale) {
        CANONICAL_NAN => i32::MAX,
        product => integer_oracle(product),
    }
}

fn product_oracle(a: u32, b: u32) -> u32 {
    let sign = (a ^ b) & 1 << 31;
    match (Exact::from_float(a), Exact::from_float(b)) {
        (Some(a), Some(b)) => a.times(&b).to_float(),
        _ if is_nan(a) || is_nan(b) || a << 1 == 0 || b << 1 == 0 => CANONICAL_NAN,
        _ => sign | 0x7f80_0000,
    }
}

fn quotient_oracle(a: u32, b: u32) -> u32 {
    let sign = (a ^ b) & 1 << 31;
    match (Exact::from_float(a), Exact::from_float(b)) {
        _ if is_nan(a) || is_nan(b) => CANONICAL_NAN,
        (None, None) => CANONICAL_NAN,
        (None, Some(_)) => sign | 0x7f80_0000,
        (Some(_), None) => sign,
        (Some(a), Some(b)) if b.is_zero() => {
            if a.is_zero() {
                CANONICAL_NAN
            } else {
                sign | 0x7f80_0000
            }
        }
        (Some(a), Some(b)) => a.over(&b).to_float(),
    }
}

fn integer_oracle(bits: u32) -> i32 {
    match Exact::from_float(bits) {
        Some(x) => x.to_integer().clamp(i32::MIN.into(), i32::MAX.into()) as i32,
        None if is_nan(bits) => i32::MAX,
        None if bits >> 31 == 1 => i32::MIN,
        None => i32::MAX,
    }
}

/// The igelu of the hardware with unbounded integers, reduced to 32 bits wherever a wire is compared or tested.
fn igelu_oracle(q: i32, qb: i32, qc: i32) -> i32 {
    let (q, qb, qc) = (i128::from(q), i128::from(qb), i128::from(qc));
    let magnitude = i128::from(low32(if q < 0 { -q } else { q }));
    let limit = i128::from(low32(-qb));
    let clipped = if magnitude > limit { limit } else { magnitude };
    let sign = if q < 0 { -1 } else { 1 };
    let shifted = i128::from(low32(clipped + qb));
    let erf = i128::from(low32(sign * (shifted * shifted + qc)));
    low32(q * i128::from(low32(erf + qc)))
}

/// The released exponential, wire by wire as AccumulatorScale.scala has it.
fn exponential_oracle(q: i32, c: &IexpConstants) -> i32 {
    let negated = i128::from(low32(-i128::from(q)));
    let product = negated * i128::from(c.qln2_inv);
    let unsigned64 = product.rem_euclid(1 << 64);
    let z = low32(unsigned64 >> 16);
    let saturates = (5..16).any(|bit| z >> bit & 1 == 1);
    let shift = if saturates { 32 } else { z.cast_unsigned() };
    let p = i128::from(q) + i128::from(z) * i128::from(c.qln2);
    let shifted = i128::from(low32(p + i128::from(c.qb)));
    let polynomial = low32(shifted * shifted + i128::from(c.qc)).cast_unsigned();
    let quotient = (0..shift.min(40)).fold(u64::from(polynomial), |value, _| value / 2);
    low32(i128::from(quotient))
}

fn constants() -> impl Strategy<Value = IexpConstants> {
    prop_oneof![
        (integer(), integer(), integer(), integer())
            .prop_map(|(qln2, qln2_inv, qb, qc)| { IexpConstants { qln2, qln2_inv, qb, qc } }),
        // As software sets them, for a scale S.
        (0.0008f64..0.3).prop_map(|s| IexpConstants {
            qln2: (std::f64::consts::LN_2 / s) as i32,
            qln2_inv: 65536 / (std::f64::consts::LN_2 / s) as i32,
            qb: (1.353 / s) as i32,
            qc: (0.344 / (0.3585 * s * s)) as i32,
        }),
    ]
}

/// What a root of 16 bits becomes in the signed register of 32: 1 for 0, and extended by its sign.
fn deviation_register(root: u32) -> i32 {
    if root < 1 << 15 { root.max(1).cast_signed() } else { root.cast_signed() - (1 << 16) }
}

/// `IntSqrt`: the bit-serial unit of Normalizer.scala, register by register. Returns the root and the steps.
fn serial_square_root(radicand: u32) -> (u32, u32) {
    let (mut x, mut a, mut q) = (radicand, 0u32, 0u32);
    let mut steps = 0;
    for _ in 0..16 {
        let t = (a << 2 | x >> 30).wrapping_sub(q << 2 | 1);
        let negative = t >> 31 == 1;
        a = if negative { a << 2 | x >> 30 } else { t };
        q = q << 1 | u32::from(!negative);
        x <<= 2;
        steps += 1;
    }
    (q, steps)
}

/// The counter of DivSqrtRecFN_small with two bits a cycle: cycles until it reads 1.
fn divider_counter(sig_width: u32, special: bool) -> u32 {
    let mut cycle_num = if special { 1 } else { sig_width + 2 };
    let mut cycles = 1;
    while cycle_num != 1 {
        cycle_num -= if cycle_num >= 3 { 2 } else { 1 };
        cycles += 1;
    }
    cycles
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn rounding_shift_is_division_by_a_power_of_two_to_nearest_even(x in integer(), n in 0u32..32) {
        let exact = nearest_even(i128::from(x), 1 << n);
        prop_assert_eq!(i128::from(rounding_shift(x, n)), exact);
    }

    #[test]
    fn wrap_is_congruent_and_in_range(x in integer(), width in 1u32..=32) {
        let modulus = 1i64 << width;
        let wrapped = i64::from(wrap(x, width));
        prop_assert_eq!((i64::from(x) - wrapped).rem_euclid(modulus), 0);
        prop_assert!((-modulus / 2..modulus / 2).contains(&wrapped));
    }

    #[test]
    fn saturate_is_the_nearest_number_in_range(x in integer(), width in 1u32..=32) {
        let half = 1i64 << (width - 1);
        prop_assert_eq!(i64::from(saturate(x, width)), i64::from(x).max(-half).min(half - 1));
    }

    #[test]
    fn integer_to_float_is_the_nearest_float(x in integer()) {
        prop_assert_eq!(in_to_rec_fn(x), Exact::from_integer(x).to_float());
    }

    #[test]
    fn float_to_integer_is_the_nearest_integer(x in factor()) {
        prop_assert_eq!(rec_fn_to_in(x), integer_oracle(x));
    }

    #[test]
    fn product_is_the_nearest_float(a in factor(), b in factor()) {
        prop_assert_eq!(mul_rec_fn(a, b), product_oracle(a, b));
    }

    #[test]
    fn quotient_is_the_nearest_float(a in factor(), b in factor()) {
        prop_assert_eq!(div_rec_fn(a, b), quotient_oracle(a, b));
    }

    #[test]
    fn acc_scale_rounds_three_times(x in integer(), scale in factor()) {
        let expected = scale_oracle(x, scale);
        prop_assert_eq!(acc_scale(x, scale), expected);
        prop_assert_eq!(acc_scale_i8(x, scale), expected.clamp(-128, 127) as i8);
    }

    #[test]
    fn mvin_scale_rounds_and_saturates(x in any::<i8>(), scale in factor()) {
        prop_assert_eq!(mvin_scale_i8(x, scale), scale_oracle(x.into(), scale).clamp(-128, 127) as i8);
    }

    #[test]
    fn rows_equal_their_elements(row in vec(integer(), 0..40), bytes in vec(any::<i8>(), 0..40), scale in factor()) {
        let mut out = vec![0; row.len()];
        acc_scale_row(&row, scale, &mut out);
        let expected: Vec<_> = row.iter().map(|&x| acc_scale_i8(x, scale)).collect();
        prop_assert_eq!(out, expected);
        let mut out = bytes.clone();
        mvin_scale_row(&mut out, scale);
        let expected: Vec<_> = bytes.iter().map(|&x| mvin_scale_i8(x, scale)).collect();
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn igelu_equals_the_unbounded_polynomial(q in integer(), qb in integer(), qc in integer()) {
        let expected = igelu_oracle(q, qb, qc);
        prop_assert_eq!(igelu(q, qb, qc), expected);
        let c = IexpConstants { qln2: 1, qln2_inv: 1, qb, qc };
        prop_assert_eq!(iexp(q, &c, IexpVariant::GeluPolynomial), expected);
    }

    #[test]
    fn exponential_equals_the_wires(q in integer(), c in constants()) {
        prop_assert_eq!(iexp(q, &c, IexpVariant::Exponential), exponential_oracle(q, &c));
    }

    #[test]
    fn read_out_activates_scales_and_clips(
        row in vec(integer(), 1..150), offset in integer(), c in constants(), scale in factor(),
    ) {
        let readouts: [(Readout, &dyn Fn(i32) -> i32); 5] = [
            (Readout::None { scale }, &|x| x),
            (Readout::Relu { scale }, &|x| if x < 0 { 0 } else { x }),
            (Readout::LayerNorm { mean: offset, inv_stddev: scale }, &|x| low32(i128::from(x) - i128::from(offset))),
            (Readout::Igelu { scale, qb: c.qb, qc: c.qc }, &|x| igelu_oracle(x, c.qb, c.qc)),
            (
                Readout::Softmax { max: offset, inv_sum_exp: scale, constants: c, variant: IexpVariant::Exponential },
                &|x| exponential_oracle(low32(i128::from(x) - i128::from(offset)), &c),
            ),
        ];
        for (readout, activation) in readouts {
            let mut out = vec![0; row.len()];
            read_row(&row, &readout, &mut out);
            let expected: Vec<_> =
                row.iter().map(|&x| scale_oracle(activation(x), scale).clamp(-128, 127) as i8).collect();
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn truncating_once_equals_truncating_at_every_step(
        bias in integer(), terms in vec((any::<i8>(), any::<i8>()), 0..200), bits in 1u32..=32,
    ) {
        let width = MeshWidth::new(bits).unwrap();
        let stepwise = terms.iter().fold(width.wrap(bias), |c, &(a, w)| mac(c, a, w, width));
        let exact = terms.iter().fold(i128::from(bias), |sum, &(a, w)| sum + i128::from(a) * i128::from(w));
        prop_assert_eq!(i64::from(stepwise), {
            let modulus = 1i128 << bits;
            ((exact + modulus / 2).rem_euclid(modulus) - modulus / 2) as i64
        });
        let (a, w): (Vec<_>, Vec<_>) = terms.iter().copied().unzip();
        let mut out = [bias];
        mac_row(&a, &w, &mut out);
        width.wrap_row(&mut out);
        prop_assert_eq!(out[0], stepwise);
        if width.never_wraps(terms.len()) {
            let small = i128::from(bias as i8);
            let sum = exact - i128::from(bias) + small;
            prop_assert_eq!(i128::from(width.wrap(sum as i32)), sum);
        }
    }

    #[test]
    fn tile_equals_the_sums_of_products(
        i in 0usize..6, k in 0usize..40, j in prop::sample::select(vec![0usize, 1, 2, 4, 7, 8, 16, 17, 32, 64]),
        seed in any::<u64>(),
    ) {
        let mut state = seed | 1;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // One in four is the extreme value.
            if state >> 62 == 0 { i8::MIN } else { (state >> 32) as i8 }
        };
        let a: Vec<i8> = (0..i * k).map(|_| byte()).collect();
        let w: Vec<i8> = (0..k * j).map(|_| byte()).collect();
        let start: Vec<i32> = (0..i * j).map(|_| i32::from(byte()) << 24).collect();
        let mut out = start.clone();
        matmul_tile(&a, &w, &mut out, [i, k, j]);
        for row in 0..i {
            for column in 0..j {
                let exact: i128 = (0..k)
                    .map(|t| i128::from(a[row * k + t]) * i128::from(w[t * j + column]))
                    .sum();
                let cell = row * j + column;
                prop_assert_eq!(out[cell], low32(i128::from(start[cell]) + exact));
            }
        }
    }

    #[test]
    fn division_through_the_wide_float_is_truncation(sum in integer(), count in any::<u16>()) {
        prop_assume!(count != 0);
        // 32 significand bits of the quotient, cut off, then its integer part: what the divider and RecFNToIN do.
        let (numerator, denominator) = (u128::from(sum.unsigned_abs()) << 64, u128::from(count));
        let quotient = numerator / denominator;
        let excess = (u128::BITS - quotient.leading_zeros()).saturating_sub(32);
        let magnitude = (quotient >> excess << excess) >> 64;
        let expected = if sum < 0 { -(magnitude as i64) } else { magnitude as i64 };
        prop_assert_eq!(i64::from(normalizer::divide(sum, count)), expected);
        prop_assert_eq!(normalizer::divide_cycles(normalizer::divides_zero(sum, count)), divider_counter(32, sum == 0));
    }

    #[test]
    fn deviation_equals_the_serial_unit_and_is_the_floor_of_the_root(variance in integer()) {
        let (root, steps) = serial_square_root(variance.cast_unsigned());
        prop_assert_eq!(normalizer::STDDEV_CYCLES, steps + 1);
        let wide = u64::from(root);
        let radicand = u64::from(variance.cast_unsigned());
        prop_assert!(wide * wide <= radicand && radicand < (wide + 1) * (wide + 1));
        prop_assert_eq!(normalizer::stddev(variance), deviation_register(root));
    }

    #[test]
    fn layernorm_statistics_follow_the_definition(
        rows in vec(vec(-40_000i32..40_000, 1..17), 1..6), scale in factor(),
    ) {
        let mut statistics = Statistics::default();
        let (last, first) = rows.split_last().unwrap();
        for row in first {
            statistics.add_sum(row);
        }
        statistics.finish_mean(last);
        let all: Vec<i128> = rows.iter().flatten().map(|&x| i128::from(x)).collect();
        let count = all.len() as i128;
        let mean = all.iter().sum::<i128>() / count;
        prop_assert_eq!(i128::from(statistics.mean), mean);

        for row in first {
            statistics.add_variance(row);
        }
        statistics.finish_inv_stddev(last, scale);
        let squares = low32(all.iter().map(|x| (x - mean) * (x - mean)).sum());
        let variance = (i128::from(squares) / count) as i32;
        let deviation = deviation_register(serial_square_root(variance.cast_unsigned()).0);
        let inverse = Exact::from_integer(1).over(&Exact::from_integer(deviation)).to_float();
        prop_assert_eq!(statistics.inv_stddev, product_oracle(inverse, scale));
        prop_assert_eq!((statistics.sum, statistics.count), (0, 0));
    }

    #[test]
    fn softmax_statistics_follow_the_definition(
        rows in vec(vec(integer(), 1..17), 1..6), c in constants(), scale in factor(),
    ) {
        let mut statistics = Statistics::default();
        let (last, first) = rows.split_last().unwrap();
        for row in &rows {
            statistics.add_max(row);
        }
        let max = *rows.iter().flatten().max().unwrap();
        prop_assert_eq!(statistics.max, max);

        for row in first {
            statistics.add_sum_exp(row, &c, IexpVariant::Exponential);
        }
        statistics.finish_inv_sum_exp(last, &c, IexpVariant::Exponential, scale);
        let sum = low32(
            rows.iter()
                .flatten()
                .map(|&x| i128::from(exponential_oracle(low32(i128::from(x) - i128::from(max)), &c)))
                .sum(),
        );
        let inverse = quotient_oracle(Exact::from_integer(127).to_float(), Exact::from_integer(sum).to_float());
        prop_assert_eq!(statistics.sum, sum);
        prop_assert_eq!(statistics.inv_sum_exp, product_oracle(inverse, scale));
        prop_assert_eq!(normalizer::reciprocal_of_sum_cycles(sum == 0), divider_counter(24, sum == 0));
        statistics.reset();
        prop_assert_eq!((statistics.sum, statistics.count, statistics.running_max), (0, 0, i32::MIN));
    }
}

#[test]
fn acc_scale_rounds_every_sixteenth_around_the_i8_range_correctly() {
    let sixteenth = 0.0625f32.to_bits();
    for x in -3000..=3000 {
        let expected = nearest_even(x.into(), 16).clamp(-128, 127) as i8;
        assert_eq!(acc_scale_i8(x, sixteenth), expected, "{x}/16");
    }
}

#[test]
fn mvin_scale_is_exact_for_every_byte_and_every_halving() {
    for exponent in 0..=255 {
        let scale = exponent << 23;
        for x in i8::MIN..=i8::MAX {
            let expected = scale_oracle(x.into(), scale).clamp(-128, 127) as i8;
            assert_eq!(mvin_scale_i8(x, scale), expected, "{x} * {scale:#010x}");
        }
    }
}

#[test]
fn divider_cycles_equal_the_counter_for_every_width() {
    for sig_width in 3..=64 {
        for special in [false, true] {
            let expected = divider_counter(sig_width, special);
            assert_eq!(divider_cycles(sig_width, special), expected, "{sig_width}");
        }
    }
}
