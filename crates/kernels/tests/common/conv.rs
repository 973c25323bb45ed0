//! A naive convolution.

use pollux_kernels::{Conv, Pool, WeightLayout};

use crate::common::{Dense, to_i8};

/// The output, as memory holds it.
pub fn conv(conv: &Conv, input: &Dense<i8>, weights: &Dense<i8>, bias: &[i32]) -> Dense<i8> {
    let s = &conv.shape;
    let [rows, cols] = s.out_pixels();
    let [pooled_rows, pooled_cols] = s.pooled_pixels();
    let sum = |b: usize, row: usize, col: usize, och: usize| {
        let mut sum = bias[och];
        for krow in 0..s.kernel {
            for kcol in 0..s.kernel {
                let at = |o: usize, k: usize| (o * s.stride + k * s.kernel_dilation) as isize - s.padding;
                let (irow, icol) = (at(row, krow), at(col, kcol));
                let dilation = s.input_dilation as isize;
                if irow % dilation != 0 || icol % dilation != 0 {
                    continue;
                }
                let (irow, icol) = (irow / dilation, icol / dilation);
                if irow < 0 || icol < 0 || irow >= s.in_rows as isize || icol >= s.in_cols as isize {
                    continue;
                }
                let (irow, icol) = (irow as usize, icol as usize);
                let turn = |k: usize| if s.options.rotate_kernel { s.kernel - 1 - k } else { k };
                let kernel = turn(krow) * s.kernel + turn(kcol);
                for ich in if s.depthwise { och..och + 1 } else { 0..s.in_channels } {
                    let x = match s.options.input_chwn {
                        true => input.at((ich * s.in_rows + irow) * s.in_cols + icol, b),
                        false => input.at((b * s.in_rows + irow) * s.in_cols + icol, ich),
                    };
                    let w = match s.options.weights {
                        _ if s.depthwise => weights.at(och, kernel),
                        WeightLayout::Hwio => weights.at(kernel * s.in_channels + ich, och),
                        WeightLayout::Ihwo => weights.at(ich * s.kernel * s.kernel + kernel, och),
                        WeightLayout::Hwoi => weights.at(kernel * s.out_channels + och, ich),
                    };
                    sum += i32::from(x) * i32::from(w);
                }
            }
        }
        let x = to_i8(sum, conv.scale);
        if conv.relu { x.max(0) } else { x }
    };
    let pool = s.pool.unwrap_or(Pool { size: 1, stride: 1, padding: 0 });
    let pooled = |b: usize, prow: usize, pcol: usize, och: usize| {
        let mut largest = i8::MIN;
        for wrow in 0..pool.size {
            for wcol in 0..pool.size {
                let row = (prow * pool.stride + wrow).checked_sub(pool.padding).filter(|&row| row < rows);
                let col = (pcol * pool.stride + wcol).checked_sub(pool.padding).filter(|&col| col < cols);
                let x = row.zip(col).map_or(0, |(row, col)| sum(b, row, col, och));
                largest = largest.max(x);
            }
        }
        largest
    };
    let mut out = vec![0; s.batch * pooled_rows * pooled_cols * s.out_channels];
    for b in 0..s.batch {
        for row in 0..pooled_rows {
            for col in 0..pooled_cols {
                let pixel = match s.options.output_hwnc {
                    true => (row * pooled_cols + col) * s.batch + b,
                    false => (b * pooled_rows + row) * pooled_cols + col,
                };
                for och in 0..s.out_channels {
                    out[pixel * s.out_channels + och] = pooled(b, row, col, och);
                }
            }
        }
    }
    Dense::new(s.batch * pooled_rows * pooled_cols, s.out_channels, out)
}
