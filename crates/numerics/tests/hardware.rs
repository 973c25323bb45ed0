//! Rows recorded from Gemmini's RTL (`tests/hardware/*.txt`; each file names the case, configuration and revision):
//! the arithmetic must give the same bytes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use pollux_numerics::{IexpConstants, IexpVariant, Readout, Statistics, mvin_scale_row, read_row};

/// One file: `key value` lines and `row INPUT OUTPUT` lines in hexadecimal, bytes in memory order.
struct Case {
    name: String,
    fields: HashMap<String, String>,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Case {
    fn load(path: &Path) -> Self {
        let mut case = Self { name: path.display().to_string(), fields: HashMap::new(), rows: Vec::new() };
        let text = fs::read_to_string(path).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.split_once(' ').unwrap();
            if key == "row" {
                let (input, output) = value.split_once(' ').unwrap();
                case.rows.push((bytes(input), bytes(output)));
            } else {
                case.fields.insert(key.into(), value.into());
            }
        }
        assert!(!case.rows.is_empty(), "{}: no rows", case.name);
        case
    }

    fn int(&self, key: &str) -> i32 {
        self.fields[key].parse().unwrap()
    }

    fn scale(&self) -> u32 {
        u32::from_str_radix(&self.fields["scale"], 16).unwrap()
    }

    fn constants(&self) -> IexpConstants {
        IexpConstants { qln2: self.int("qln2"), qln2_inv: self.int("qln2_inv"), qb: self.int("qb"), qc: self.int("qc") }
    }

    fn variant(&self) -> IexpVariant {
        match self.fields["iexp"].as_str() {
            "exponential" => IexpVariant::Exponential,
            "gelu_polynomial" => IexpVariant::GeluPolynomial,
            other => panic!("{}: iexp {other}", self.name),
        }
    }

    /// The row as the hardware gives it. Rows take turns with the two statistics entries, as in the recorded programs.
    fn compute(&self, input: &[u8], statistics: &mut Statistics) -> Vec<u8> {
        let scale = self.scale();
        if self.fields["operation"] == "load" {
            let mut row: Vec<i8> = input.iter().map(|&b| b as i8).collect();
            mvin_scale_row(&mut row, scale);
            return row.iter().map(|&x| x as u8).collect();
        }
        let row: Vec<i32> = input.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b)).collect();
        let readout = match self.fields["operation"].as_str() {
            "relu" => Readout::Relu { scale },
            "gelu" => Readout::Igelu { scale, qb: self.int("qb"), qc: self.int("qc") },
            "layernorm" => self.layernorm(&row, statistics),
            "softmax" => self.softmax(&row, statistics),
            other => panic!("{}: operation {other}", self.name),
        };
        let mut out = vec![0; row.len()];
        read_row(&row, &readout, &mut out);
        out.iter().map(|&x| x as u8).collect()
    }

    fn layernorm(&self, row: &[i32], statistics: &mut Statistics) -> Readout {
        let (last, first) = blocks(row);
        for block in &first {
            statistics.add_sum(block);
        }
        statistics.finish_mean(last);
        for block in &first {
            statistics.add_variance(block);
        }
        statistics.finish_inv_stddev(last, self.scale());
        statistics.reset();
        Readout::LayerNorm { mean: statistics.mean, inv_stddev: statistics.inv_stddev }
    }

    fn softmax(&self, row: &[i32], statistics: &mut Statistics) -> Readout {
        let (constants, variant) = (self.constants(), self.variant());
        let (last, first) = blocks(row);
        for block in &first {
            statistics.add_max(block);
        }
        statistics.add_max(last);
        for block in &first {
            statistics.add_sum_exp(block, &constants, variant);
        }
        statistics.finish_inv_sum_exp(last, &constants, variant, self.scale());
        statistics.reset();
        Readout::Softmax { max: statistics.max, inv_sum_exp: statistics.inv_sum_exp, constants, variant }
    }
}

/// A logical row in accumulator rows of 16: the last one and those before it.
fn blocks(row: &[i32]) -> (&[i32], Vec<&[i32]>) {
    let mut blocks: Vec<_> = row.chunks(16).collect();
    (blocks.pop().unwrap(), blocks)
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn every_recorded_row_is_reproduced() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hardware");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 9, "cases");
    for path in paths {
        let case = Case::load(&path);
        let mut statistics = [Statistics::default(), Statistics::default()];
        for (i, (input, expected)) in case.rows.iter().enumerate() {
            let computed = case.compute(input, &mut statistics[i % 2]);
            assert_eq!(&computed, expected, "{} row {i}", case.name);
        }
    }
}
