//! House rules that can be checked: no circle of files that use each other, no long file and no block without its ports in the
//! emulator, no bit field outside of the instruction table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines that a file of the emulator may have.
const MOST_LINES: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The library crates: folders with a `src`.
fn crates() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("crates")).expect("the crates are part of the project");
    let mut crates: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder").path()).collect();
    crates.push(root().join("isa"));
    crates.retain(|folder| folder.join("src").is_dir());
    crates.sort();
    crates
}

/// A source file: its module path and its text.
struct Source {
    path: PathBuf,
    module: Vec<String>,
    /// All of it.
    text: String,
    /// Without comments, strings and the tests at its end.
    code: String,
}

/// The files of a crate but for those of its tests.
fn sources(krate: &Path) -> Vec<Source> {
    let src = krate.join("src");
    let mut folders = vec![src.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
            if name == "tests" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&src).expect("inside the crate").with_extension("");
                let mut module: Vec<String> =
                    relative.iter().map(|part| part.to_str().expect("a name").to_owned()).collect();
                if matches!(name.as_str(), "lib" | "main" | "mod") {
                    module.pop();
                }
                let text = fs::read_to_string(&path).expect("text");
                let code = code_of(&text);
                sources.push(Source { path, module, text, code });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// A file without its comments, the contents of its strings, and the tests at its end.
fn code_of(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let mut rest = &text[..end];
    let mut code = String::new();
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |at| at + 2)
        } else if c == '"' {
            end_of_string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            rest[2..].find('\'').map_or(rest.len(), |at| at + 3)
        } else {
            0
        };
        if skipped == 0 {
            code.push(c);
        }
        rest = &rest[skipped.max(c.len_utf8())..];
    }
    code
}

/// Length of the string literal that a text begins with.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// The paths of a `use` tree, its leaves.
fn leaves(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        return vec![path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()];
    };
    let prefix = &tree[..open];
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| leaves(&format!("{prefix}{}", part.trim()))).collect()
}

/// A `use` of a file: the path, and whether others see it, too.
struct Use {
    path: Vec<String>,
    public: bool,
}

fn uses(code: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let line = statement.rfind("use ").filter(|&at| {
            let before = statement[..at].rsplit('\n').next().unwrap_or("").trim();
            before.is_empty() || before == "pub" || (before.starts_with("pub(") && before.ends_with(')'))
        });
        let Some(at) = line else { continue };
        let public = statement[..at].rsplit('\n').next().unwrap_or("").trim().starts_with("pub");
        found.extend(leaves(&statement[at + 4..]).into_iter().map(|path| Use { path, public }));
    }
    found
}

/// The files of a crate and which of them use which.
struct Graph {
    names: Vec<String>,
    edges: Vec<BTreeSet<usize>>,
}

impl Graph {
    fn new(krate: &Path) -> Self {
        let sources = sources(krate);
        let modules: BTreeMap<&[String], usize> =
            sources.iter().enumerate().map(|(i, source)| (source.module.as_slice(), i)).collect();
        // Where a file only hands on a name, the name is that of the file that it comes from.
        let mut handed_on: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
        let all: Vec<Vec<Use>> = sources.iter().map(|source| uses(&source.code)).collect();
        for (i, of_file) in all.iter().enumerate() {
            for Use { path, .. } in of_file.iter().filter(|of| of.public) {
                if let (Some(name), Some(absolute)) = (path.last(), absolute(&sources[i], path, &modules)) {
                    handed_on.insert((i, name.clone()), absolute);
                }
            }
        }
        let find = |mut path: Vec<String>| {
            for _ in 0..8 {
                let module = (0..=path.len()).rev().find_map(|n| modules.get(&path[..n]).map(|&i| (i, n)))?;
                let (file, n) = module;
                match path.get(n).and_then(|name| handed_on.get(&(file, name.clone()))) {
                    Some(origin) => path = origin.iter().chain(&path[n + 1..]).cloned().collect(),
                    None => return Some(file),
                }
            }
            None
        };
        let mut edges = vec![BTreeSet::new(); sources.len()];
        for (i, of_file) in all.iter().enumerate() {
            for Use { path, public } in of_file {
                let name = path.last().map_or("", String::as_str);
                let named =
                    sources[i].code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| *word == name);
                if *public && named.count() < 2 {
                    continue;
                }
                let target = absolute(&sources[i], path, &modules).and_then(&find);
                edges[i].extend(target.filter(|&target| target != i));
            }
            // Paths that are written out.
            for (at, _) in sources[i].code.match_indices("crate::") {
                let rest = &sources[i].code[at + 7..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
                let path: Vec<String> = rest[..end].split("::").filter(|p| !p.is_empty()).map(str::to_owned).collect();
                let begins_name = sources[i].code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                if !path.is_empty() && !begins_name {
                    let statement = sources[i].code[..at].rsplit(';').next().unwrap_or("");
                    let handed = statement.contains("pub use") || statement.contains("pub(crate) use");
                    edges[i].extend(find(path).filter(|&target| target != i && !handed));
                }
            }
        }
        let src = krate.join("src");
        let name = |source: &Source| source.path.strip_prefix(&src).unwrap_or(&source.path).display().to_string();
        Self { names: sources.iter().map(name).collect(), edges }
    }

    /// The sets of several files each of which reaches all others.
    fn circles(&self) -> Vec<Vec<&str>> {
        let reach: Vec<BTreeSet<usize>> = (0..self.edges.len()).map(|file| self.reachable(file)).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for i in 0..self.edges.len() {
            let circle: Vec<usize> = reach[i].iter().copied().filter(|&j| reach[j].contains(&i)).collect();
            if circle.len() > 1 && seen.insert(circle.clone()) {
                circles.push(circle.into_iter().map(|j| self.names[j].as_str()).collect());
            }
        }
        circles
    }

    fn reachable(&self, from: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            open.extend(self.edges[file].iter().copied().filter(|&next| reached.insert(next)));
        }
        reached
    }
}

/// A path from the crate's root; none if it leads out of the crate.
fn absolute(source: &Source, path: &[String], modules: &BTreeMap<&[String], usize>) -> Option<Vec<String>> {
    let first = path.first()?.as_str();
    let mut base = source.module.clone();
    let mut rest = path;
    match first {
        "crate" => {
            base.clear();
            rest = &rest[1..];
        }
        "self" | "super" => {
            while let Some(part @ ("self" | "super")) = rest.first().map(String::as_str) {
                if part == "super" {
                    base.pop()?;
                }
                rest = &rest[1..];
            }
        }
        _ => {
            let child = [base.as_slice(), &path[..1]].concat();
            modules.get(child.as_slice())?;
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// Circles that are still there: crate and number of circles. The list may only get shorter.
const CIRCLES_LEFT: &[(&str, usize)] = &[
    ("asm", 1),
    ("cli", 4),
    ("compiler", 1),
    ("isa", 3),
    ("labs", 1),
    ("mapper", 4),
    ("model", 1),
    ("riscv", 1),
    ("sim", 1),
];

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut problems = Vec::new();
    for krate in crates() {
        let name = krate.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let graph = Graph::new(&krate);
        let circles = graph.circles();
        let allowed = CIRCLES_LEFT.iter().find(|(of, _)| *of == name).map_or(0, |(_, circles)| *circles);
        if circles.len() > allowed {
            let lines: Vec<String> = circles.iter().map(|circle| circle.join(" <-> ")).collect();
            problems.push(format!("{name}: {} circles, {allowed} allowed\n  {}", circles.len(), lines.join("\n  ")));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let edges = [vec![1], vec![2], vec![1], vec![0]].map(|edges| edges.into_iter().collect());
    let graph = Graph { names: ["a", "b", "c", "d"].map(str::to_owned).to_vec(), edges: edges.to_vec() };
    assert_eq!(graph.circles(), [["b", "c"]]);
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let text = "use a; // use b;\nlet s = \"use \\\"c;\"; r#\"use d;\"#\n'\"'\n#[cfg(test)]\nmod tests {\n";
    assert_eq!(code_of(text), "use a; \nlet s = ; \n\n");
}

#[test]
fn use_trees_are_taken_apart() {
    let code = "pub use a::{b, c::{self, d as e}};\nfn f() {}\nuse crate::x;\n";
    let found: Vec<(String, bool)> = uses(code).into_iter().map(|of| (of.path.join("::"), of.public)).collect();
    let expected = [("a::b", true), ("a::c::self", true), ("a::c::d", true), ("crate::x", false)];
    assert_eq!(found, expected.map(|(path, public)| (path.to_owned(), public)));
}

#[test]
fn no_file_of_the_emulator_is_long() {
    let sim = root().join("crates/sim");
    let long = |source: &&Source| source.text.lines().count() > MOST_LINES;
    let sources = sources(&sim);
    let long: Vec<String> = sources
        .iter()
        .filter(long)
        .map(|source| source.path.strip_prefix(sim.join("src")).unwrap_or(&source.path).display().to_string())
        .collect();
    assert!(long.is_empty(), "files of more than {MOST_LINES} lines: {long:?}");
}

/// The rings that hold hardware.
const RINGS: [&str; 5] = ["front_end", "execute", "memories", "dma", "port"];

/// A block is what has a clock edge. Its file begins with what it is and with a table of its ports; a part in the folder of its block
/// needs none.
#[test]
fn every_block_begins_with_its_ports() {
    let sim = root().join("crates/sim");
    let mut missing = Vec::new();
    for source in sources(&sim) {
        let in_ring = source.module.len() == 2 && RINGS.contains(&source.module[0].as_str());
        if !in_ring || !source.code.contains("pub fn tick(") {
            continue;
        }
        let head: Vec<&str> = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
        let has_table = head.iter().any(|line| line.starts_with("//! | port") || line.starts_with("//! | name"));
        if !has_table {
            missing.push(source.module.join("/"));
        }
    }
    assert!(missing.is_empty(), "blocks whose file does not begin with a table of ports: {missing:?}");
}

/// The line looks for, or puts together, bits of a command's register.
fn takes_bits_apart(line: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let register = words.clone().any(|word| word == "rs1" || word == "rs2");
    let call = words.any(|word| word == "bit" || word == "field");
    register && (call || [" >> ", " << ", " & ", " | "].iter().any(|sign| line.contains(sign)))
}

#[test]
fn raw_bit_fields_are_found() {
    assert!(takes_bits_apart("let rows = cmd.rs2 >> 48;") && takes_bits_apart("bit(cmd.rs1, 0)"));
    assert!(!takes_bits_apart("let operands = Preload::from_regs(config, cmd.rs1, cmd.rs2);"));
}

/// Which bits of a command's registers mean what is known to the instruction table alone.
#[test]
fn bit_fields_are_taken_apart_in_the_instruction_table_alone() {
    let mut found = Vec::new();
    // The core's own instructions have registers with the same names.
    let of_the_core = ["isa", "riscv", "soc"];
    for krate in crates().iter().filter(|krate| !of_the_core.iter().any(|name| krate.ends_with(name))) {
        for source in sources(krate) {
            for line in source.code.lines() {
                if takes_bits_apart(line) {
                    found.push(format!("{}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "raw bit fields:\n{}", found.join("\n"));
}

/// All Rust files of the project, tests, benches and examples included.
fn all_files() -> Vec<(PathBuf, String)> {
    let mut folders: Vec<PathBuf> = ["isa", "crates", "tests", "benches"].map(|name| root().join(name)).into();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                files.push((path, text));
            }
        }
    }
    files
}

#[test]
fn only_the_emulator_has_a_loop_over_cycles() {
    let emulator = root().join("crates/sim");
    for (path, text) in all_files() {
        let code = code_of(&text);
        let steps = ["simulation.step(", "machine.step(", "Machine::step", "Simulation::step"];
        let found = steps.into_iter().find(|step| code.contains(step));
        // The core has a machine of its own, which steps by instructions.
        let core =
            ["riscv", "soc", "cli/src/elf"].iter().any(|name| path.starts_with(root().join("crates").join(name)));
        assert!(
            core || path.starts_with(&emulator) || found.is_none(),
            "{}: use the runner, not `{}`",
            path.display(),
            found.unwrap_or("")
        );
    }
}

#[test]
fn no_library_includes_a_file_from_outside_of_its_package() {
    for krate in crates() {
        for source in sources(&krate) {
            for line in
                source.text.lines().filter(|line| line.contains("include_str!(") || line.contains("include_bytes!("))
            {
                let Some(file) = line.split('"').nth(1) else { continue };
                let path = source.path.parent().expect("a folder").join(file);
                let path = path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let package = krate.canonicalize().expect("a folder");
                assert!(path.starts_with(&package), "{}: {file} is not in the package", source.path.display());
            }
        }
    }
}
