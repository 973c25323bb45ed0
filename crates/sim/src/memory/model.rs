//! Which memory system stands behind the port, and its text form `KIND[:KEY=VALUE,...]`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    BandwidthParameters, BenchParameters, ChannelParameters, DramL2Parameters, DramParameters, FireSimParameters,
    LastLevelParameters, OuterParameters,
};
use crate::uncore::hierarchy::L2Parameters;

/// A memory system and its parameters.
///
/// As text it is a kind, and the parameters that differ from the kind's defaults:
///
/// ```
/// use pollux_sim::memory::MemoryModel;
///
/// let memory: MemoryModel = "dram:type=lpddr3,l2_kib=256".parse()?;
/// assert_eq!(memory.to_string(), "dram:type=lpddr3,l2_kib=256");
/// assert_eq!(MemoryModel::default().to_string(), "bench");
/// # Ok::<(), pollux_sim::memory::ParseMemoryError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum MemoryModel {
    /// Fixed latency, in order: the golden bench.
    Bench(BenchParameters),
    /// Latency, bandwidth and a bound on outstanding requests.
    Bandwidth(BandwidthParameters),
    /// A shared L2 in front of banked DRAM.
    Dram(DramL2Parameters),
    /// An L2 and a last-level cache in front of DRAM, as in FireSim's measurements.
    FireSim(FireSimParameters),
    /// SiFive's inclusive cache, clocked, in front of a fixed memory, DRAM, or a last-level cache with DRAM.
    L2(L2Parameters),
}

/// Why a text names no memory system.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ParseMemoryError(String);

/// A parameter in a model's text form.
struct Parameter<'a> {
    key: &'static str,
    value: &'a mut u64,
    range: RangeInclusive<u64>,
}

const ANY: RangeInclusive<u64> = 0..=u64::MAX;
const POSITIVE: RangeInclusive<u64> = 1..=u64::MAX;
/// A cache has a record for each of its lines; this bounds what a typing error can ask of the machine that simulates.
const CACHE_KIB: RangeInclusive<u64> = 1..=256 << 10;
const CACHE_WAYS: RangeInclusive<u64> = 1..=1 << 10;
/// The inclusive cache has at least two (`require`, `Parameters.scala`).
const L2_WAYS: RangeInclusive<u64> = 2..=1 << 10;
const FLAG: RangeInclusive<u64> = 0..=1;
/// Time is counted in picoseconds, of which a cycle has at least one.
const CLOCK_MHZ: RangeInclusive<u64> = 1..=1_000_000;
const BANKS: RangeInclusive<u64> = 1..=1 << 16;
/// A second in picoseconds, far above any timing of a DRAM.
const TIMING: RangeInclusive<u64> = 0..=1_000_000_000_000;
const REFRESH: RangeInclusive<u64> = 1..=1_000_000_000_000;

/// Cycles of an access of a cache, far above any.
const CYCLES: RangeInclusive<u64> = 0..=1_000_000_000;
/// Each miss has a record.
const MISSES: RangeInclusive<u64> = 1..=1 << 16;

/// A parameter with its key and its range.
type Named<'a> = (&'static str, &'a mut u64, RangeInclusive<u64>);

/// Every timing of a DRAM.
#[rustfmt::skip]
fn timings(p: &mut DramParameters) -> Vec<Named<'_>> {
    vec![
        ("banks", &mut p.banks, BANKS),
        ("row_bytes", &mut p.row_bytes, POSITIVE),
        ("t_cl", &mut p.t_cl, TIMING),
        ("t_cwl", &mut p.t_cwl, TIMING),
        ("t_rcd", &mut p.t_rcd, TIMING),
        ("t_rp", &mut p.t_rp, TIMING),
        ("t_ras", &mut p.t_ras, TIMING),
        ("t_wr", &mut p.t_wr, TIMING),
        ("t_rtp", &mut p.t_rtp, TIMING),
        ("t_burst", &mut p.t_burst, TIMING),
        ("t_refi", &mut p.t_refi, REFRESH),
        ("t_rfc", &mut p.t_rfc, TIMING),
        ("t_controller", &mut p.t_controller, TIMING),
    ]
}

/// What can be chosen of a DRAM channel.
fn channel(ChannelParameters { dram, clock_mhz }: &mut ChannelParameters) -> impl Iterator<Item = Named<'_>> {
    std::iter::once(("clock_mhz", clock_mhz, CLOCK_MHZ)).chain(timings(dram))
}

/// What can be chosen of the memory behind an L2.
#[rustfmt::skip]
fn outer(p: &mut OuterParameters) -> Vec<Named<'_>> {
    match p {
        OuterParameters::Fixed { latency, bytes } => vec![("latency", latency, ANY), ("bytes", bytes, POSITIVE)],
        OuterParameters::Dram(parameters) => channel(parameters).collect(),
        OuterParameters::LastLevel(LastLevelParameters { kib, ways, line: _, port, misses }, parameters) => vec![
            ("llc_kib", kib, CACHE_KIB),
            ("llc_ways", ways, CACHE_WAYS),
            ("llc_port", port, CYCLES),
            ("llc_misses", misses, MISSES),
        ].into_iter().chain(channel(parameters)).collect(),
    }
}

/// The names of the DRAM types.
const DRAM_TYPES: [(&str, DramParameters); 2] =
    [("ddr3", DramParameters::ddr3_1866()), ("lpddr3", DramParameters::lpddr3_1600())];

impl MemoryModel {
    /// Kinds of memory system, each with its defaults.
    fn kinds() -> [Self; 5] {
        [
            Self::Bench(BenchParameters::default()),
            Self::Bandwidth(BandwidthParameters::default()),
            Self::Dram(DramL2Parameters::default()),
            Self::FireSim(FireSimParameters::default()),
            Self::L2(L2Parameters::default()),
        ]
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Bench(_) => "bench",
            Self::Bandwidth(_) => "bandwidth",
            Self::Dram(_) => "dram",
            Self::FireSim(_) => "firesim",
            Self::L2(_) => "l2",
        }
    }

    /// Every parameter that is a number, in the order of the text form.
    #[rustfmt::skip]
    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let parameter = |(key, value, range)| Parameter { key, value, range };
        match self {
            Self::Bench(p) => [
                ("latency", &mut p.latency, ANY),
                ("a_period", &mut p.a_period, POSITIVE),
                ("d_period", &mut p.d_period, POSITIVE),
            ].map(parameter).into(),
            Self::Bandwidth(p) => [
                ("latency", &mut p.latency, ANY),
                ("bytes", &mut p.bytes, POSITIVE),
                ("cycles", &mut p.cycles, POSITIVE),
                ("outstanding", &mut p.outstanding, POSITIVE),
            ].map(parameter).into(),
            Self::Dram(p) => [
                ("clock_mhz", &mut p.clock_mhz, CLOCK_MHZ),
                ("outstanding", &mut p.outstanding, POSITIVE),
                ("l2_kib", &mut p.cache.kib, CACHE_KIB),
                ("l2_ways", &mut p.cache.ways, CACHE_WAYS),
                ("l2_hit", &mut p.cache.hit_cycles, ANY),
            ].into_iter().chain(timings(&mut p.dram)).map(parameter).collect(),
            Self::FireSim(p) => [
                ("clock_mhz", &mut p.clock_mhz, CLOCK_MHZ),
                ("l2_kib", &mut p.l2_kib, CACHE_KIB),
                ("l2_ways", &mut p.l2_ways, CACHE_WAYS),
                ("l2_hit", &mut p.l2_hit, CYCLES),
                ("l2_requests", &mut p.l2_requests, POSITIVE),
                ("bus_bytes", &mut p.bus_bytes, POSITIVE),
                ("llc_kib", &mut p.llc_kib, CACHE_KIB),
                ("llc_ways", &mut p.llc_ways, CACHE_WAYS),
                ("llc_port", &mut p.llc_port, CYCLES),
                ("llc_misses", &mut p.llc_misses, MISSES),
            ].into_iter().chain(timings(&mut p.dram)).map(parameter).collect(),
            Self::L2(p) => [
                ("l2_kib", &mut p.cache.kib, CACHE_KIB),
                ("l2_ways", &mut p.cache.ways, L2_WAYS),
            ].into_iter().chain(outer(&mut p.outer)).chain([("warm", &mut p.warm, FLAG)]).map(parameter).collect(),
        }
    }

    /// Sets one parameter.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if let (Self::Dram(p), "type") = (&mut *self, key) {
            let named = DRAM_TYPES.into_iter().find(|(name, _)| *name == value);
            p.dram = named.ok_or(format!("`{value}` is no type of DRAM: choose ddr3 or lpddr3"))?.1;
            return Ok(());
        }
        if let (Self::L2(p), "type") = (&mut *self, key) {
            let named = OuterParameters::TYPES.into_iter().find(|(name, _)| *name == value);
            let unknown = || {
                let names = OuterParameters::TYPES.map(|(name, _)| name);
                format!(
                    "`{value}` is no memory behind an L2: choose {}, {}, {} or {}",
                    names[0], names[1], names[2], names[3]
                )
            };
            p.outer = named.ok_or_else(unknown)?.1();
            return Ok(());
        }
        let kind = self.kind();
        let mut parameters = self.parameters();
        let Some(parameter) = parameters.iter_mut().find(|parameter| parameter.key == key) else {
            let keys: Vec<_> = parameters.iter().map(|parameter| parameter.key).collect();
            let typed = if ["dram", "l2"].contains(&kind) { "type, " } else { "" };
            let (last, first) = keys.split_last().expect("every kind has parameters");
            return Err(format!("`{key}` is no parameter: {kind} has {typed}{} and {last}", first.join(", ")));
        };
        let number = value.parse().map_err(|_| format!("{key}: `{value}` is not a number up to 2^64 - 1"))?;
        let (least, most) = (*parameter.range.start(), *parameter.range.end());
        match number {
            _ if number < least => return Err(format!("{key} must be at least {least}")),
            _ if number > most => return Err(format!("{key} must be at most {most}")),
            _ => *parameter.value = number,
        }
        Ok(())
    }
}

impl Default for MemoryModel {
    fn default() -> Self {
        Self::Bench(BenchParameters::default())
    }
}

impl FromStr for MemoryModel {
    type Err = ParseMemoryError;

    fn from_str(text: &str) -> Result<Self, ParseMemoryError> {
        let (kind, options) = text.split_once(':').unwrap_or((text, ""));
        let found = Self::kinds().into_iter().find(|memory| memory.kind() == kind);
        let unknown =
            || ParseMemoryError(format!("`{kind}` is no memory system: choose bench, bandwidth, dram, firesim or l2"));
        let mut memory = found.ok_or_else(unknown)?;
        let mut seen = Vec::new();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let pair =
                option.split_once('=').ok_or_else(|| ParseMemoryError(format!("`{option}` is not KEY=VALUE")))?;
            if seen.iter().any(|(key, _)| *key == pair.0) {
                return Err(ParseMemoryError(format!("{} is given twice", pair.0)));
            }
            seen.push(pair);
        }
        // A type sets all timings, those given beside it are changes to it.
        seen.sort_by_key(|(key, _)| *key != "type");
        for (key, value) in seen {
            memory.set(key, value).map_err(ParseMemoryError)?;
        }
        Ok(memory)
    }
}

impl fmt::Display for MemoryModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = Vec::new();
        let is_kind = |memory: &Self| memory.kind() == self.kind();
        let mut base = Self::kinds().into_iter().find(is_kind).expect("every model is of a kind");
        if let (Self::Dram(p), Self::Dram(base)) = (self, &mut base)
            && let Some((name, dram)) = DRAM_TYPES.into_iter().skip(1).find(|(_, dram)| *dram == p.dram)
        {
            options.push(format!("type={name}"));
            base.dram = dram;
        }
        if let (Self::L2(p), Self::L2(base)) = (self, &mut base)
            && let Some((name, outer)) =
                OuterParameters::TYPES.into_iter().skip(1).find(|(name, _)| *name == p.outer.type_name())
        {
            options.push(format!("type={name}"));
            base.outer = outer();
        }
        let mut this = *self;
        for (own, default) in this.parameters().into_iter().zip(base.parameters()) {
            if own.value != default.value {
                options.push(format!("{}={}", own.key, own.value));
            }
        }
        write!(f, "{}{}{}", self.kind(), if options.is_empty() { "" } else { ":" }, options.join(","))
    }
}

impl From<MemoryModel> for String {
    fn from(memory: MemoryModel) -> Self {
        memory.to_string()
    }
}

impl TryFrom<String> for MemoryModel {
    type Error = ParseMemoryError;

    fn try_from(text: String) -> Result<Self, ParseMemoryError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_systems_are_read_with_their_parameters() {
        let bench = BenchParameters { latency: 100, d_period: 3, ..BenchParameters::default() };
        assert_eq!("bench:latency=100,d_period=3".parse(), Ok(MemoryModel::Bench(bench)));
        assert_eq!("bandwidth".parse(), Ok(MemoryModel::Bandwidth(BandwidthParameters::default())));
        let dram = DramParameters { t_cl: 1, ..DramParameters::lpddr3_1600() };
        let expected = DramL2Parameters { dram, clock_mhz: 500, ..DramL2Parameters::default() };
        assert_eq!("dram:t_cl=1,clock_mhz=500,type=lpddr3".parse(), Ok(MemoryModel::Dram(expected)));
    }

    #[test]
    fn wrong_memory_systems_are_refused_with_what_is_possible() {
        let error = |text: &str| text.parse::<MemoryModel>().unwrap_err().to_string();
        assert_eq!(error("sram"), "`sram` is no memory system: choose bench, bandwidth, dram, firesim or l2");
        assert_eq!(error("bench:speed=1"), "`speed` is no parameter: bench has latency, a_period and d_period");
        assert_eq!(error("bench:latency=x"), "latency: `x` is not a number up to 2^64 - 1");
        assert_eq!(error("bench:latency=1,latency=2"), "latency is given twice");
        assert_eq!(error("bandwidth:bytes=0"), "bytes must be at least 1");
        assert_eq!(error("dram:clock_mhz=1000001"), "clock_mhz must be at most 1000000");
        assert_eq!(error("dram:l2_kib=99999999999"), "l2_kib must be at most 262144");
        assert_eq!(error("dram:type=hbm"), "`hbm` is no type of DRAM: choose ddr3 or lpddr3");
        assert_eq!(error("dram:fast"), "`fast` is not KEY=VALUE");
        assert_eq!(error("l2:type=hbm"), "`hbm` is no memory behind an L2: choose fixed, ddr3, lpddr3 or firesim");
        // A fixed memory has no clock, DRAM no fixed latency.
        assert!(
            error("l2:clock_mhz=500")
                .starts_with("`clock_mhz` is no parameter: l2 has type, l2_kib, l2_ways, latency, ")
        );
        assert!(error("l2:latency=5,type=ddr3").starts_with("`latency` is no parameter: l2 has type, l2_kib, "));
        assert!(error("dram:fast=1").starts_with("`fast` is no parameter: dram has type, clock_mhz, "));
    }

    /// Any memory system: a kind with any permitted value for any of its parameters.
    fn any_model() -> impl Strategy<Value = MemoryModel> {
        let types = prop::sample::select(&DRAM_TYPES[..]);
        let outers = prop::sample::select(&OuterParameters::TYPES[..]);
        let values = prop::collection::vec(prop::option::of(any::<u64>()), 32);
        (prop::sample::select(MemoryModel::kinds().to_vec()), types, outers, values).prop_map(
            |(mut model, (_, dram), (_, outer), values)| {
                if let MemoryModel::L2(p) = &mut model {
                    p.outer = outer();
                }
                if let MemoryModel::Dram(p) = &mut model {
                    p.dram = dram;
                }
                for (parameter, value) in model.parameters().into_iter().zip(values) {
                    let (least, most) = (*parameter.range.start(), *parameter.range.end());
                    if let Some(value) = value {
                        *parameter.value =
                            if most == u64::MAX { value.max(least) } else { least + value % (most - least + 1) };
                    }
                }
                model
            },
        )
    }

    proptest! {
        #[test]
        fn the_text_of_any_memory_system_is_read_as_the_same(model in any_model()) {
            prop_assert_eq!(model.to_string().parse(), Ok(model));
            let json = serde_json::to_string(&model).unwrap();
            prop_assert_eq!(serde_json::from_str::<MemoryModel>(&json).unwrap(), model);
        }
    }
}
