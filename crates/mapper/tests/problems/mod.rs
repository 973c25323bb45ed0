//! Small problems on several builds.
#![allow(dead_code)]

use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_kernels::{ConvShape, Pool};
use pollux_mapper::{ConvProblem, MatmulProblem, Problem, ReadOut};
use proptest::prelude::*;

/// The builds.
pub fn configs() -> [ValidConfig; 4] {
    [GemminiConfig::default16(), GemminiConfig::small4(), GemminiConfig::norm16(), GemminiConfig::survey_rebalanced()]
        .map(|config| config.validated().unwrap())
}

/// Products of up to five blocks in each dimension.
pub fn products(config: &ValidConfig) -> BoxedStrategy<Problem> {
    let dim = config.dim() as usize;
    let extent = move || (1usize..=5, 0..dim).prop_map(move |(blocks, ragged)| (blocks * dim - ragged).max(1));
    let read_outs = match config.has_normalizations {
        true => vec![ReadOut::Plain, ReadOut::Relu, ReadOut::LayerNorm],
        false => vec![ReadOut::Plain, ReadOut::Plain, ReadOut::Relu],
    };
    (extent(), extent(), extent(), any::<bool>(), prop::sample::select(read_outs))
        .prop_map(|(m, n, k, bias, read_out)| Problem::Matmul(MatmulProblem { m, n, k, bias, read_out }))
        .boxed()
}

/// Small convolutions: plain, strided, dilated, pooled where the build can, depthwise where it can.
pub fn convolutions(config: &ValidConfig) -> BoxedStrategy<Problem> {
    let (pools, depthwise) = (config.has_max_pool, config.has_dw_convs);
    let sizes = (1usize..3, 4usize..12, 4usize..20, 1usize..40, 1usize..40);
    let kernel = (1usize..4, 1usize..3, 0isize..2, 1usize..3, any::<bool>(), 0usize..5);
    (sizes, kernel)
        .prop_filter_map("legal", move |((batch, in_rows, in_cols, in_channels, out_channels), kernel)| {
            let (kernel, stride, padding, kernel_dilation, bias, kind) = kernel;
            let depthwise = depthwise && kind == 1;
            let shape = ConvShape {
                stride,
                padding: padding.min(kernel as isize - 1),
                kernel_dilation: if depthwise { 1 } else { kernel_dilation },
                pool: (pools && kind == 0).then_some(Pool { size: 2, stride: 2, padding: 0 }),
                depthwise,
                ..ConvShape::new(
                    batch,
                    [in_rows, in_cols, in_channels],
                    if depthwise { in_channels } else { out_channels },
                    kernel,
                )
            };
            shape.pooled_pixels().iter().all(|pixels| *pixels > 0).then_some(Problem::Conv(ConvProblem { shape, bias }))
        })
        .boxed()
}

/// A build, of which a failure shows the name.
#[derive(Clone)]
pub struct Build(pub ValidConfig);

impl std::fmt::Debug for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.name)
    }
}

/// Any of them.
pub fn problems() -> impl Strategy<Value = (Build, Problem)> {
    (0..configs().len()).prop_flat_map(|index| {
        let config = configs()[index].clone();
        let problem = prop_oneof![3 => products(&config), 2 => convolutions(&config)];
        (Just(Build(config)), problem)
    })
}
