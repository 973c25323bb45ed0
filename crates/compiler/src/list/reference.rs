//! What listed operations must compute, plainly.

use pollux_kernels::{Activation, Conv, Pool, WeightLayout};
use pollux_model::Matrix;
use pollux_model::layer::{GeluConstants, SoftmaxConstants};
use pollux_model::layer_reference::{gelu, layer_norm_row, scale_to_int8, softmax_row};

/// `a * b + bias(row, column)` in int32.
pub(super) fn product(a: &Matrix<i8>, b: &Matrix<i8>, bias: impl Fn(usize, usize) -> i32) -> Matrix<i32> {
    let mut out = Matrix::from_fn(a.rows, b.cols, bias);
    for r in 0..a.rows {
        let sums = out.row_mut(r);
        for (k, &x) in a.row(r).iter().enumerate() {
            sums.iter_mut().zip(b.row(k)).for_each(|(sum, &y)| *sum += i32::from(x) * i32::from(y));
        }
    }
    out
}

/// Accumulator rows as they are stored.
pub(super) fn read_out(sums: &Matrix<i32>, activation: &Activation, scale: f32) -> Matrix<i8> {
    let row = |row: &[i32]| match *activation {
        Activation::None => row.iter().map(|&x| scale_to_int8(x, scale)).collect(),
        Activation::Relu => row.iter().map(|&x| scale_to_int8(x.max(0), scale)).collect(),
        Activation::Gelu(constants) => {
            let constants = GeluConstants { qb: constants.qb, qc: constants.qc };
            row.iter().map(|&x| scale_to_int8(gelu(x, constants), scale)).collect()
        }
        Activation::LayerNorm => layer_norm_row(row, |_| scale),
        Activation::Softmax(pollux_kernels::SoftmaxConstants { qln2, qln2_inv, qb, qc }) => {
            softmax_row(row, SoftmaxConstants { qln2, qln2_inv, qb, qc }, scale)
        }
    };
    let data: Vec<i8> = (0..sums.rows).flat_map(|r| row(sums.row(r))).collect();
    Matrix::from_vec(sums.rows, sums.cols, data)
}

/// The output of a convolution, as memory holds it: every layout, dilation and pooling by its definition.
pub(super) fn convolution(conv: &Conv, input: &Matrix<i8>, weights: &Matrix<i8>, bias: &[i32]) -> Matrix<i8> {
    let s = &conv.shape;
    let [rows, cols] = s.out_pixels();
    let pixels: Vec<i8> = (0..s.batch * rows * cols * s.out_channels)
        .map(|i| {
            let (pixel, och) = (i / s.out_channels, i % s.out_channels);
            let (image, row, col) = (pixel / (rows * cols), pixel / cols % rows, pixel % cols);
            let sum = sum(conv, input, weights, [image, row, col, och]);
            let sum = sum.wrapping_add(bias[och]);
            scale_to_int8(if conv.relu { sum.max(0) } else { sum }, conv.scale)
        })
        .collect();
    let pool = s.pool.unwrap_or(Pool { size: 1, stride: 1, padding: 0 });
    let [pooled_rows, pooled_cols] = s.pooled_pixels();
    let mut out = Matrix::zeros(s.batch * pooled_rows * pooled_cols, s.out_channels);
    for pixel in 0..out.rows {
        let (image, row, col) =
            (pixel / (pooled_rows * pooled_cols), pixel / pooled_cols % pooled_rows, pixel % pooled_cols);
        let place = if s.options.output_hwnc { (row * pooled_cols + col) * s.batch + image } else { pixel };
        for och in 0..s.out_channels {
            // Pixels outside the image count as 0.
            let window = (0..pool.size * pool.size).map(|w| {
                let row = (row * pool.stride + w / pool.size).checked_sub(pool.padding).filter(|&row| row < rows);
                let col = (col * pool.stride + w % pool.size).checked_sub(pool.padding).filter(|&col| col < cols);
                row.zip(col).map_or(0, |(r, c)| pixels[((image * rows + r) * cols + c) * s.out_channels + och])
            });
            out.row_mut(place)[och] = window.max().unwrap_or(0);
        }
    }
    out
}

/// The products of one output element.
fn sum(conv: &Conv, input: &Matrix<i8>, weights: &Matrix<i8>, [image, row, col, och]: [usize; 4]) -> i32 {
    let s = &conv.shape;
    let dilation = s.input_dilation as isize;
    // The pixel of the undilated image, if there is one.
    let pixel = |out: usize, k: usize, extent: usize| {
        let at = (out * s.stride + k * s.kernel_dilation) as isize - s.padding;
        let inside = at >= 0 && at % dilation == 0 && at / dilation < extent as isize;
        inside.then_some((at / dilation) as usize)
    };
    let turn = |k: usize| if s.options.rotate_kernel { s.kernel - 1 - k } else { k };
    let mut sum = 0i32;
    for (krow, kcol) in (0..s.kernel).flat_map(|krow| (0..s.kernel).map(move |kcol| (krow, kcol))) {
        let Some((irow, icol)) = pixel(row, krow, s.in_rows).zip(pixel(col, kcol, s.in_cols)) else { continue };
        let kernel = turn(krow) * s.kernel + turn(kcol);
        for ich in if s.depthwise { och..och + 1 } else { 0..s.in_channels } {
            let x = match s.options.input_chwn {
                true => input.at((ich * s.in_rows + irow) * s.in_cols + icol, image),
                false => input.at((image * s.in_rows + irow) * s.in_cols + icol, ich),
            };
            let w = match s.options.weights {
                _ if s.depthwise => weights.at(och, kernel),
                WeightLayout::Hwio => weights.at(kernel * s.in_channels + ich, och),
                WeightLayout::Ihwo => weights.at(ich * s.kernel * s.kernel + kernel, och),
                WeightLayout::Hwoi => weights.at(kernel * s.out_channels + och, ich),
            };
            sum = sum.wrapping_add(i32::from(x) * i32::from(w));
        }
    }
    sum
}
