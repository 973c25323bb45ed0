//! README and book show what really happens: every command in a `console` block is run and its output compared.
//!
//! `POLLUX_UPDATE_DOCS=1 cargo test -p pollux-cli --test documentation` writes the real output into the documents.

mod common;

use std::path::{Path, PathBuf};

use common::{Workspace, root, words};

/// README and the book's chapters.
fn documents() -> Vec<PathBuf> {
    let chapters = std::fs::read_dir(root().join("docs/src")).expect("the book").flatten().map(|entry| entry.path());
    let mut chapters: Vec<PathBuf> = chapters.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    chapters.sort();
    [vec![root().join("README.md")], chapters].concat()
}

/// The arguments of `pollux`, if the command line is one that can be run here.
fn arguments(line: &str) -> Option<Vec<String>> {
    let arguments = line.strip_prefix("cargo run --release -- ").or_else(|| line.strip_prefix("pollux "))?;
    Some(words(arguments.split(" #").next().unwrap_or_default()))
}

/// The text with the real output behind every command of its `console` blocks, and the commands run.
fn with_real_output(text: &str) -> (String, usize) {
    let workspace = Workspace::new();
    let (mut out, mut commands) = (String::new(), 0);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if line != "```console" {
            continue;
        }
        while let Some(line) = lines.next_if(|line| *line != "```") {
            out.push_str(line);
            out.push('\n');
            let Some(arguments) = line.strip_prefix("$ ").and_then(arguments) else { continue };
            let run = workspace.run(&arguments, "");
            out.push_str(&run.stdout);
            out.push_str(&run.stderr);
            commands += 1;
            while lines.next_if(|line| *line != "```" && !line.starts_with("$ ")).is_some() {}
        }
    }
    (out, commands)
}

#[test]
fn the_commands_in_the_documents_print_what_is_shown() {
    let mut commands = 0;
    for path in documents() {
        let shown = std::fs::read_to_string(&path).expect("a document");
        let (real, run) = with_real_output(&shown);
        commands += run;
        if shown == real {
            continue;
        }
        if std::env::var_os("POLLUX_UPDATE_DOCS").is_some() {
            std::fs::write(&path, real).expect("a writable document");
        } else {
            let different = shown.lines().zip(real.lines()).find(|(shown, real)| shown != real);
            panic!("{}: (shown, real) = {different:#?}\nPOLLUX_UPDATE_DOCS=1 updates it", path.display());
        }
    }
    assert!(commands >= 10, "{commands} commands");
}

#[test]
fn the_readme_names_the_test_command_that_the_ci_runs() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let ci = std::fs::read_to_string(root().join(".ci/run")).expect("the CI script");
    let mut commands = readme.lines().filter_map(|line| line.strip_prefix("$ "));
    assert_eq!(commands.next(), Some("cargo run --release -- demo"));
    let test = commands.find(|line| line.starts_with("cargo test")).expect("a test command");
    assert!(ci.lines().any(|line| line == test), "{test}");
}

/// Targets of the Markdown links in a text that are files.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|target| !target.is_empty() && !target.contains("://") && !target.contains(' '))
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a document");
        for link in links(&text) {
            assert!(folder(&path).join(link).exists(), "{}: {link}", path.display());
        }
    }
}

#[test]
fn every_chapter_is_in_the_summary() {
    let summary = std::fs::read_to_string(root().join("docs/src/SUMMARY.md")).expect("the summary");
    let listed: Vec<&str> = links(&summary).collect();
    for path in documents().iter().skip(1) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(name == "SUMMARY.md" || listed.contains(&name), "{name}");
    }
}
