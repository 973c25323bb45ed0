//! The encoder layer of Gemmini's `transformer.c`: norms before the residual additions, GELU on the int32 sums, whole int32
//! results where a norm follows.

use std::ops::Range;

use pollux_asm::program::ElementType;
use pollux_kernels::{Activation, Bias, Dataflow, Matmul, Norm, ResidualAdd, View};
use pollux_model::Matrix;
use pollux_model::layer_reference::scale_to_int8;

use super::bench::{Bench, gelu, softmax, suitable_scale};
use super::reference::{product, read_out};
use super::spec;
use crate::error::CompileError;
use crate::operation::OperationClass::{self, DataMovement, Nonlinear};

/// Magnitude of the input, and factor of normalized rows, that keep the integer GELU inside int32.
const MAGNITUDE: i32 = 20;
const NORM_SCALE: f32 = 16.0;
/// Magnitude of the weights.
const WEIGHTS: i32 = 127;

/// A value in memory with what it must be.
struct Value {
    view: View,
    data: Matrix<i8>,
}

struct Layer<'a, 'b> {
    bench: &'a mut Bench<'b>,
    spec: &'a spec::Transformer,
}

pub(super) fn lower(bench: &mut Bench<'_>, spec: &spec::Transformer) -> Result<(), CompileError> {
    let (view, data) = bench.i8s("input", (spec.tokens, spec.hidden), 0, MAGNITUDE)?;
    let mut layer = Layer { bench, spec };
    let input = Value { view, data };
    let attended = layer.attention(&input)?;
    layer.feed_forward(&attended)
}

impl Layer<'_, '_> {
    fn begin(&mut self, operation: &str, class: OperationClass) {
        self.bench.begin(operation, class);
    }

    /// `input` times weights plus a bias row: the product to be completed, and its sums.
    fn linear(
        &mut self,
        name: &str,
        input: &Value,
        outputs: usize,
        magnitude: i32,
        element: ElementType,
    ) -> Result<(Matmul, Matrix<i32>), CompileError> {
        let (weights, weight_data) =
            self.bench.i8s(&format!("{name}.weights"), (input.view.cols, outputs), 0, magnitude)?;
        let (bias, bias_data) = self.bench.i32s(&format!("{name}.bias"), (1, outputs), 10 * magnitude)?;
        let out = self.bench.result(name, (self.spec.tokens, outputs), 0, element)?;
        let sums = product(&input.data, &weight_data, |_, c| bias_data.at(0, c));
        Ok((Matmul { bias: Bias::Row(bias), ..Matmul::new(input.view, weights, out) }, sums))
    }

    fn emit(&mut self, name: &str, matmul: &Matmul, sums: &Matrix<i32>) -> Result<Value, CompileError> {
        let data = read_out(sums, &matmul.activation, matmul.scale);
        self.bench.expect(name, &matmul.c, &data)?;
        self.bench.matmul(matmul, Dataflow::Ws)?;
        Ok(Value { view: matmul.c, data })
    }

    fn attention(&mut self, input: &Value) -> Result<Value, CompileError> {
        let hidden = self.spec.hidden;
        let scale = suitable_scale(hidden, WEIGHTS);
        let mut project = |name| {
            self.begin(name, OperationClass::Matmul);
            let (matmul, sums) = self.linear(name, input, hidden, WEIGHTS, ElementType::I8)?;
            self.emit(name, &Matmul { scale, ..matmul }, &sums)
        };
        let (query, key, value) = (project("query")?, project("key")?, project("value")?);
        self.begin("scores_softmax", Nonlinear);
        let probabilities = self.probabilities(&query, &key)?;
        self.begin("context", OperationClass::Matmul);
        let context = self.context(&probabilities, &value)?;
        self.begin("attention_output", OperationClass::Matmul);
        let (matmul, sums) = self.linear("attention_output", &context, hidden, WEIGHTS, ElementType::I32)?;
        self.add_and_norm("attention", &matmul, &sums, input)
    }

    fn head(&self, head: usize) -> Range<usize> {
        let size = self.spec.hidden / self.spec.heads;
        head * size..(head + 1) * size
    }

    fn probabilities(&mut self, query: &Value, key: &Value) -> Result<Value, CompileError> {
        let (tokens, heads) = (self.spec.tokens, self.spec.heads);
        let view = self.bench.result("probabilities", (heads * tokens, tokens), 0, ElementType::I8)?;
        let activation = Activation::Softmax(softmax(0.002)?);
        let mut data = Vec::new();
        for head in 0..heads {
            let columns = self.head(head);
            let part = |value: &Value| value.view.columns(columns.clone());
            let out = view.rows(head * tokens..(head + 1) * tokens)?;
            let matmul = Matmul { b_transpose: true, activation, ..Matmul::new(part(query)?, part(key)?, out) };
            let keys = key.data.columns(columns.clone()).transposed();
            let sums = product(&query.data.columns(columns), &keys, |_, _| 0);
            data.extend(read_out(&sums, &activation, 1.0).data);
            self.bench.matmul(&matmul, Dataflow::Ws)?;
        }
        let data = Matrix::from_vec(heads * tokens, tokens, data);
        self.bench.expect("probabilities", &view, &data)?;
        Ok(Value { view, data })
    }

    fn context(&mut self, probabilities: &Value, value: &Value) -> Result<Value, CompileError> {
        let Value { view, data } = probabilities;
        let (tokens, hidden, scale) = (self.spec.tokens, self.spec.hidden, 1.0 / 32.0);
        let out = self.bench.result("context", (tokens, hidden), 0, ElementType::I8)?;
        let mut context = Matrix::from_vec(tokens, hidden, vec![0; tokens * hidden]);
        for head in 0..self.spec.heads {
            let (rows, columns) = (head * tokens..(head + 1) * tokens, self.head(head));
            let part = |view: &View| view.columns(columns.clone());
            let matmul = Matmul { scale, ..Matmul::new(view.rows(rows.clone())?, part(&value.view)?, part(&out)?) };
            self.bench.matmul(&matmul, Dataflow::Ws)?;
            let weights = Matrix::from_vec(tokens, tokens, rows.flat_map(|row| data.row(row).to_vec()).collect());
            let sums = product(&weights, &value.data.columns(columns.clone()), |_, _| 0);
            for row in 0..tokens {
                let target = &mut context.data[row * hidden..][columns.clone()];
                target.iter_mut().zip(sums.row(row)).for_each(|(out, &sum)| *out = scale_to_int8(sum, scale));
            }
        }
        self.bench.expect("context", &out, &context)?;
        Ok(Value { view: out, data: context })
    }

    /// The int32 product, LayerNorm of it, and the sum with the residual.
    fn add_and_norm(
        &mut self,
        name: &str,
        matmul: &Matmul,
        sums: &Matrix<i32>,
        residual: &Value,
    ) -> Result<Value, CompileError> {
        let size = (self.spec.tokens, self.spec.hidden);
        self.bench.expect(&format!("{name}_output"), &matmul.c, sums)?;
        self.bench.matmul(matmul, Dataflow::Ws)?;
        self.begin(&format!("{name}_norm"), Nonlinear);
        let normalized = self.bench.result(&format!("{name}_norm"), size, 0, ElementType::I8)?;
        let data = read_out(sums, &Activation::LayerNorm, NORM_SCALE);
        self.bench.expect(&format!("{name}_norm"), &normalized, &data)?;
        let norm = Norm { input: matmul.c, out: normalized, scale: NORM_SCALE, activation: Activation::LayerNorm };
        norm.lower(&mut self.bench.lowering.builder)?;
        self.begin(&format!("{name}_residual"), DataMovement);
        let out = self.bench.result(&format!("{name}_residual"), size, 0, ElementType::I8)?;
        let add = |(&a, &b): (&i8, &i8)| scale_to_int8(i32::from(a) + i32::from(b), 1.0);
        let data = Matrix::from_vec(size.0, size.1, residual.data.data.iter().zip(&data.data).map(add).collect());
        self.bench.expect(&format!("{name}_residual"), &out, &data)?;
        let add = ResidualAdd::new(residual.view, normalized, out);
        add.lower_auto(&mut self.bench.lowering.builder)?;
        Ok(Value { view: out, data })
    }

    fn feed_forward(&mut self, input: &Value) -> Result<(), CompileError> {
        self.begin("intermediate_gelu", Nonlinear);
        let constants = gelu(0.004);
        let (matmul, sums) = self.linear("intermediate", input, self.spec.ffn, 1, ElementType::I8)?;
        let (activation, scale) = (Activation::Gelu(constants), 0.07 / constants.qc as f32);
        let intermediate = self.emit("intermediate", &Matmul { activation, scale, ..matmul }, &sums)?;
        self.begin("ffn_output", OperationClass::Matmul);
        let (matmul, sums) = self.linear("ffn_output", &intermediate, self.spec.hidden, WEIGHTS, ElementType::I32)?;
        self.add_and_norm("ffn", &matmul, &sums, input)?;
        Ok(())
    }
}
