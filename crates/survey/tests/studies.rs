//! Every study in its reduced form against what is stored, and the stored reports of the full form against the paper's numbers.
//!
//! `POLLUX_UPDATE_SURVEY=reduced` writes the reduced reports, `POLLUX_UPDATE_SURVEY=full:STUDY` runs a study's full form and writes that,
//! `POLLUX_UPDATE_SURVEY=judge` compares the stored ones with the paper's numbers again.

use std::path::{Path, PathBuf};

use pollux_survey::paper::Paper;
use pollux_survey::report::StudyReport;
use pollux_survey::setting::{Form, SEED, Setting};
use pollux_survey::study::Study;
use pollux_survey::verdict::Outcome;
use serde_json::Value;

fn stored(form: Form, study: Study) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(form.name()).join(format!("{}.json", study.name()))
}

/// What README and book show: the full form, or where it has not been stored the reduced one.
fn shown(study: Study) -> PathBuf {
    let full = stored(Form::Full, study);
    if full.exists() { full } else { stored(Form::Reduced, study) }
}

fn read(path: &Path) -> StudyReport {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, report: &StudyReport) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder that can be made");
    let mut text = serde_json::to_string_pretty(report).expect("a report");
    text.push('\n');
    std::fs::write(path, text).expect("a file that can be written");
}

fn run(form: Form, study: Study) -> StudyReport {
    let watch = |what: &str, done: usize, of: usize| {
        if form == Form::Full {
            eprintln!("{what}: {done} of {of}");
        }
    };
    let setting = Setting { form, seed: SEED, jobs: 2, watch: &watch };
    study.run(&Paper::built_in().expect("the paper"), &setting).expect("a report")
}

/// The same but for the last digits of numbers, which logarithms of other machines may change.
fn same(path: &str, a: &Value, b: &Value) {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().unwrap_or(f64::NAN), y.as_f64().unwrap_or(f64::NAN));
            assert!((x - y).abs() <= 1e-9 * x.abs().max(y.abs()), "{path}: {x} is stored, {y} measured");
        }
        (Value::Array(x), Value::Array(y)) => {
            assert_eq!(x.len(), y.len(), "{path}");
            x.iter().zip(y).enumerate().for_each(|(n, (x, y))| same(&format!("{path}[{n}]"), x, y));
        }
        (Value::Object(x), Value::Object(y)) => {
            assert_eq!(x.keys().collect::<Vec<_>>(), y.keys().collect::<Vec<_>>(), "{path}");
            x.iter().for_each(|(key, x)| same(&format!("{path}.{key}"), x, &y[key]));
        }
        _ => assert_eq!(a, b, "{path}"),
    }
}

fn check(study: Study) {
    let (path, report) = (stored(Form::Reduced, study), run(Form::Reduced, study).repeatable());
    if std::env::var("POLLUX_UPDATE_SURVEY").is_ok_and(|what| what == "reduced") {
        return write(&path, &report);
    }
    let value = |report: &StudyReport| serde_json::to_value(report).expect("a report");
    same(study.name(), &value(&read(&path)), &value(&report));
}

macro_rules! reduced {
    ($($name:ident $study:ident)*) => {$(
        #[test]
        fn $name() {
            check(Study::$study);
        }
    )*};
}

reduced! {
    workload Workload
    baseline Baseline
    mapspace Mapspace
    fusion Fusion
    models Models
    nas Nas
    chain Chain
    techniques Techniques
}

/// Not a test of anything: how the stored reports of the full form are made.
#[test]
fn full_form_if_it_is_asked_for() {
    let Ok(what) = std::env::var("POLLUX_UPDATE_SURVEY") else { return };
    let Some(name) = what.strip_prefix("full:") else { return };
    let study = Study::ALL.into_iter().find(|study| study.name() == name).expect("the name of a study");
    write(&stored(Form::Full, study), &run(Form::Full, study));
}

#[test]
fn stored_verdicts_are_those_of_the_papers_numbers() {
    let paper = Paper::built_in().expect("the paper");
    for study in Study::ALL {
        let path = shown(study);
        let report = read(&path);
        if std::env::var("POLLUX_UPDATE_SURVEY").is_ok_and(|what| what == "judge") {
            write(&path, &report.judged_by(&paper));
            continue;
        }
        assert_eq!(report.judged_by(&paper), report, "{}: judge again", study.name());
        let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        assert_eq!(folder, Some(report.form.name()), "{}", study.name());
        assert!(!report.verdicts.is_empty() && !report.figures.is_empty(), "{}", study.name());
    }
}

#[test]
fn another_number_in_the_paper_is_another_verdict() {
    let mut paper = Paper::built_in().expect("the paper");
    let report = read(&stored(Form::Full, Study::Workload));
    let outcome = |report: &StudyReport, id: &str| {
        report.verdicts.iter().find(|verdict| verdict.id == id).expect("a verdict").outcome
    };
    assert_eq!(outcome(&report, "workload.base_gflops"), Outcome::Reproduced);
    let claim = paper.claims.iter_mut().find(|claim| claim.id == "workload.base_gflops").expect("a claim");
    claim.values[0] *= 2.0;
    assert_eq!(outcome(&report.judged_by(&paper), "workload.base_gflops"), Outcome::Refuted);
}
