use super::*;
use crate::parts::values::{Timing, ZeroDivisors};

fn row(value: i32) -> AccumulatorReadResp {
    let readout = ReadoutRequest {
        activation: Activation::Layernorm,
        scale: 1.0f32.to_bits(),
        constants: IexpConstants::default(),
        port: Port::Dma,
    };
    let mut data = AccLanes([value; 64]);
    data.0[0] = value + 16;
    AccumulatorReadResp { data, readout }
}

fn tick(unit: &mut Normalizer, value: i32, cmd: NormCmd, constants: &IexpConstants) {
    let _ = unit.tick(Some(NormalizedInput { resp: &row(value), len: 16, stats_id: 0, cmd }), false, constants);
}

fn unit() -> Normalizer {
    Normalizer::new(&GemminiConfig::default16())
}

/// Cycles after its acceptance until the entry accepts again, the output being taken at once.
fn busy_cycles(unit: &mut Normalizer, value: i32, cmd: NormCmd) -> u32 {
    tick(unit, value, cmd, &IexpConstants::default());
    let mut cycle = 1;
    while !unit.in_ready(0, unit.out().is_some()) {
        let taken = unit.out().is_some();
        let _ = unit.tick(None, taken, &IexpConstants::default());
        cycle += 1;
        assert!(cycle < 200, "never done");
    }
    cycle
}

fn drain(unit: &mut Normalizer) {
    for _ in 0..10 {
        let taken = unit.out().is_some();
        let _ = unit.tick(None, taken, &IexpConstants::default());
    }
    assert!(unit.is_idle());
}

#[test]
fn each_command_occupies_its_entry_for_the_cycles_of_its_units() {
    let cases = [
        (NormCmd::Reset, 1),
        (NormCmd::Sum, 1),
        (NormCmd::Variance, 1),
        (NormCmd::SumExp, 1),
        (NormCmd::Max, 2),
        (NormCmd::Mean, 24),
        (NormCmd::InvStddev, 60),
    ];
    for (cmd, cycles) in cases {
        let mut unit = unit();
        assert_eq!(busy_cycles(&mut unit, 3, cmd), cycles, "{cmd:?}");
        drain(&mut unit);
    }
}

#[test]
fn the_inverse_of_a_sum_of_exponentials_takes_23_cycles_and_10_if_the_sum_is_zero() {
    let constants = IexpConstants { qln2: 0, qln2_inv: 0, qb: -100, qc: 1 };
    let busy = |constants: &IexpConstants| {
        let mut unit = unit();
        busy_cycles(&mut unit, 3, NormCmd::Max);
        drain(&mut unit);
        tick(&mut unit, 3, NormCmd::InvSumExp, constants);
        (1..).find(|_| unit.in_ready(0, false) || !unit.tick(None, false, constants))
    };
    assert_eq!(busy(&constants), Some(23));
    assert_eq!(busy(&IexpConstants::default()), Some(10));
}

#[test]
fn a_row_goes_out_with_the_mean_and_deviation_of_the_rows_before() {
    let mut unit = unit();
    busy_cycles(&mut unit, 4, NormCmd::Mean);
    drain(&mut unit);
    busy_cycles(&mut unit, 4, NormCmd::InvStddev);
    drain(&mut unit);
    tick(&mut unit, 9, NormCmd::Reset, &IexpConstants::default());
    let out = unit.out().expect("a row");
    // (15 * 4 + 20) / 16 = 5; variance (15 * 1 + 225) / 16 = 15, deviation 3.
    let Statistics { mean, inv_stddev, .. } = out.statistics;
    assert_eq!((mean, inv_stddev, out.resp.data.0[1]), (5, (1.0f32 / 3.0).to_bits(), 9));
}

#[test]
fn exponentials_wait_for_the_maximum_tree_to_empty() {
    let mut unit = unit();
    tick(&mut unit, 4, NormCmd::Max, &IexpConstants::default());
    let _ = unit.tick(None, false, &IexpConstants::default());
    // Accepted in cycle 2; the tree holds the maximum's row in cycles 2 to 5.
    assert_eq!(busy_cycles(&mut unit, 4, NormCmd::SumExp), 4);
}

#[test]
fn a_product_ends_the_waiting_of_both_entries_and_the_lower_one_takes_it() {
    let constants = IexpConstants { qln2: 0, qln2_inv: 0, qb: -100, qc: 1 };
    let Inner::Unit(mut unit) = unit().inner else { panic!("default16 has normalizations") };
    for (id, inverse) in [(0, 2.0f32), (1, 3.0)] {
        unit.stats[id].resp = row(0);
        unit.stats[id].registers.inv_sum_exp = inverse.to_bits();
    }
    // Entry 1 starts a cycle before entry 0, so that the product of entry 1 is the first one out.
    unit.stats[1].state = State::GetScaledInvSumExp;
    unit.tick(None, false, &constants);
    unit.stats[0].state = State::GetScaledInvSumExp;
    unit.tick(None, false, &constants);
    unit.tick(None, false, &constants);
    assert_eq!(unit.stats.each_ref().map(|stat| stat.state), [State::Idle; STATS]);
    // Entry 1 has the register's contents from before.
    assert_eq!(unit.stats.each_ref().map(|stat| stat.registers.inv_sum_exp), [3.0f32.to_bits(), 0]);
    assert!(unit.inv_sum_exp_mul.out_valid(), "the product of entry 0 waits for the next one that asks");
}

#[test]
fn without_normalizations_a_row_only_passes_a_queue() {
    let mut unit = Normalizer::new(&GemminiConfig::lean());
    tick(&mut unit, 4, NormCmd::Sum, &IexpConstants::default());
    assert!(unit.out().is_some() && unit.in_ready(0, false));
    tick(&mut unit, 5, NormCmd::Reset, &IexpConstants::default());
    assert!(!unit.in_ready(0, true));
    let _ = unit.tick(None, true, &IexpConstants::default());
    assert_eq!(unit.out().map(|out| out.resp.data.0[1]), Some(5));
}

/// Whether the entries accept, cycle by cycle, with a row of exponentials for entry 1 and right behind it one for entry 0, and
/// the exponentials of the first one zero.
fn accepting<V: Values>(mut unit: Normalizer<V>) -> Vec<[bool; STATS]> {
    let mut resp = AccumulatorReadResp { data: AccLanes::default(), readout: row(3).readout };
    V::update(&mut resp.data.0, |lanes, _| lanes.copy_from_slice(&row(3).data.0));
    let (none, some) = (IexpConstants::default(), IexpConstants { qln2: 0, qln2_inv: 0, qb: -100, qc: 1 });
    let enters = |stats_id, cmd| Some(NormalizedInput { resp: &resp, len: 16, stats_id, cmd });
    let mut accepted = Vec::new();
    for cycle in 0..80 {
        accepted.push([0, 1].map(|id| unit.in_ready(id, false)));
        let input = match cycle {
            0 => enters(0, NormCmd::Max),
            10 => enters(1, NormCmd::Max),
            20 => enters(1, NormCmd::InvSumExp),
            22 => enters(0, NormCmd::InvSumExp),
            _ => None,
        };
        // The tree takes the first row of exponentials in cycle 21 and the second one in cycle 23.
        let _ = unit.tick(input, false, if cycle == 21 { &none } else { &some });
    }
    assert!(unit.is_idle() && unit.divisions() == 2);
    accepted
}

#[test]
fn a_division_is_known_by_its_row_even_if_another_rows_starts_first() {
    let timing = |zero: &[u64]| {
        let mut unit = Normalizer::<Timing>::new(&GemminiConfig::default16());
        unit.set_oracle(ZeroDivisors::from_iter(zero.iter().copied()));
        accepting(unit)
    };
    let full = accepting(Normalizer::<Full>::new(&GemminiConfig::default16()));
    assert_eq!(timing(&[0]), full);
    assert_ne!(timing(&[1]), full);
    assert_ne!(timing(&[]), full);
}
