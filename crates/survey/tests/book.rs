//! README and book show what the stored reports say: tables between two comments, and figures. `POLLUX_UPDATE_DOCS=1` writes them.

use std::fs;
use std::path::{Path, PathBuf};

use pollux_survey::markdown;
use pollux_survey::report::StudyReport;
use pollux_survey::study::Study;

/// Begins a table; what it is follows.
const BEGIN: &str = "<!-- survey: ";
/// Ends it.
const END: &str = "<!-- end of survey -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn reports() -> Vec<StudyReport> {
    // The full form, or where it has not been stored the reduced one.
    let read = |study: Study| {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let [full, reduced] = ["full", "reduced"].map(|form| data.join(form).join(format!("{}.json", study.name())));
        let path = if full.exists() { full } else { reduced };
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).expect("a report")
    };
    Study::ALL.map(read).to_vec()
}

fn updates() -> bool {
    std::env::var_os("POLLUX_UPDATE_DOCS").is_some()
}

/// README and the chapters on the studies.
fn documents() -> Vec<PathBuf> {
    let chapters = fs::read_dir(root().join("docs/src")).expect("the book").flatten().map(|entry| entry.path());
    let is_ours =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("survey"));
    let mut chapters: Vec<PathBuf> = chapters.filter(is_ours).filter(|path| path.extension().is_some()).collect();
    chapters.sort();
    [vec![root().join("README.md")], chapters].concat()
}

/// What stands between the comments.
fn block(what: &str, reports: &[StudyReport], folder: &str) -> String {
    let words: Vec<&str> = what.split_whitespace().collect();
    let of = |name: &str| reports.iter().find(|report| report.study == name).expect("a study of this name");
    match words[..] {
        ["summary"] => markdown::summary(reports, |study| format!("{folder}survey-{study}.md")),
        ["verdicts", study] => markdown::verdicts(of(study)),
        ["conditions", study] => markdown::conditions(of(study)),
        ["table", study, number] => {
            let number: usize = number.parse().expect("the number of a table");
            markdown::table(&of(study).tables[number])
        }
        _ => panic!("`{what}`: summary, verdicts STUDY, conditions STUDY or table STUDY NUMBER"),
    }
}

fn with_real_blocks(text: &str, reports: &[StudyReport], folder: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(BEGIN) {
        let from = at + BEGIN.len();
        let end = from + rest[from..].find(" -->").expect("the comment's end");
        let close = rest[end..].find(END).expect("the table's end") + end;
        out.push_str(&rest[..end]);
        out.push_str(" -->\n\n");
        out.push_str(&block(&rest[from..end], reports, folder));
        out.push('\n');
        rest = &rest[close..];
        out.push_str(END);
        rest = &rest[END.len()..];
    }
    out.push_str(rest);
    out
}

#[test]
fn tables_are_those_of_the_stored_reports() {
    let reports = reports();
    let mut blocks = 0;
    for path in documents() {
        let shown = fs::read_to_string(&path).expect("a document");
        let folder = if path.ends_with("README.md") { "docs/src/" } else { "" };
        let real = with_real_blocks(&shown, &reports, folder);
        blocks += shown.matches(BEGIN).count();
        if updates() && shown != real {
            fs::write(&path, real).expect("a document that can be written");
            continue;
        }
        let different = shown.lines().zip(real.lines()).find(|(shown, real)| shown != real);
        assert!(shown == real, "{}: (shown, real) = {different:#?}\nPOLLUX_UPDATE_DOCS=1 updates it", path.display());
    }
    assert!(blocks > Study::ALL.len(), "{blocks} tables");
}

#[test]
fn figures_are_those_of_the_stored_reports() {
    let folder = root().join("docs/src/survey");
    for figure in reports().iter().flat_map(|report| &report.figures) {
        let (path, svg) = (folder.join(format!("{}.svg", figure.id)), figure.svg().expect("a figure"));
        if updates() {
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(&path, svg).expect("a figure that can be written");
            continue;
        }
        let shown = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(shown, svg, "{}: POLLUX_UPDATE_DOCS=1 updates it", path.display());
    }
}

#[test]
fn every_study_has_its_chapter_with_its_main_figure() {
    for report in reports() {
        let path = root().join(format!("docs/src/survey-{}.md", report.study));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.contains(&format!("(survey/{}.svg)", report.figures[0].id)), "{}", path.display());
        assert!(text.contains("What an architect learns"), "{}", path.display());
    }
}
