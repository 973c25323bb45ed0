//! One HTML file with the emulator and a program in it, which shows the run in a browser and works from disk, without a network.
//!
//! `assets/page.html` is the page without a program: script, style, and the emulator compiled for the browser. `web/build` makes it from
//! the sources in `web/` and from the crates of Pollux, and writes their digest into it ([`sources`]); whether it is the one of the present
//! sources is checked where the tools for that are.
//!
//! ```
//! let page = pollux_page::Page { name: "tile.pasm".into(), text: Some("config small4\nfence\n".into()), ..Default::default() };
//! assert!(page.html().contains("tile.pasm"));
//! ```

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

const TEMPLATE: &str = include_str!("../assets/page.html");
/// Where the program goes.
const PLACE: &str = "{{page}}";

/// The version of Pollux that is in the page.
pub fn version() -> &'static str {
    meta("pollux-version")
}

/// The digests of what the page was made from: of its own sources, and of the emulator's.
pub fn sources() -> &'static str {
    meta("pollux-sources")
}

fn meta(name: &str) -> &'static str {
    let tag = format!("<meta name=\"{name}\" content=\"");
    let content = TEMPLATE.split_once(&tag).and_then(|(_, rest)| rest.split_once('"'));
    content.map_or("unknown", |(content, _)| content)
}

/// What goes into a page.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Page {
    /// Name of the program.
    pub name: String,
    /// Assembly text; none of a binary, which is then the file called `name`.
    pub text: Option<String>,
    /// The files that the text reads, by the paths that it has for them.
    #[serde(serialize_with = "in_base64")]
    pub files: BTreeMap<String, Vec<u8>>,
    /// Configuration of a text that names none, as TOML; empty if it names its own.
    pub config: String,
    /// How the program runs.
    pub setup: Setup,
    /// The cycle at which the page opens.
    pub cycle: u64,
}

/// How a program runs, as the command line says it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Setup {
    /// Memory behind the accelerator's port; empty for the default.
    pub memory: String,
    /// Cycles from one command of the host to the next, at least; 0 for the default.
    pub interval: u64,
    /// A processor that runs ahead of the accelerator; empty for none.
    pub processor: String,
    /// Cycles of a page walk; 0 for addresses that are not translated.
    pub page_walk: u32,
}

fn in_base64<S: Serializer>(files: &BTreeMap<String, Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(files.iter().map(|(path, contents)| (path, STANDARD.encode(contents))))
}

impl Page {
    /// The page.
    pub fn html(&self) -> String {
        #[derive(Serialize)]
        struct Data<'a> {
            version: &'static str,
            #[serde(flatten)]
            page: &'a Page,
        }
        let data = serde_json::to_string(&Data { version: env!("CARGO_PKG_VERSION"), page: self });
        // A string in JSON may have any character written by its number: nothing ends the element that it stands in.
        let data = data.expect("strings and numbers").replace('<', "\\u003c");
        TEMPLATE.replacen(PLACE, &data, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_says_what_it_is() {
        assert_eq!(version(), env!("CARGO_PKG_VERSION"), "make the page again: web/build");
        let digests = sources().split_once('-').expect("two digests");
        assert!([digests.0, digests.1].iter().all(|of| of.len() == 8 && of.chars().all(|c| c.is_ascii_hexdigit())));
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
        assert!(!["{{module}}", "{{worker}}", "{{script}}", "{{style}}"].iter().any(|part| TEMPLATE.contains(part)));
        // It is sent by mail, and kept in the repository.
        assert!(TEMPLATE.len() < 2_000_000, "{} bytes", TEMPLATE.len());
    }

    #[test]
    fn no_program_can_end_the_element_that_it_stands_in() {
        let text = "# </script><script>alert(1)</script> \"quoted\" {{module}} \\ \u{2028}\n";
        let files = BTreeMap::from([("a.npy".to_owned(), vec![0, 255, 60])]);
        let page = Page { name: "</title>".into(), text: Some(text.into()), files, ..Page::default() };
        let html = page.html();
        assert!(!html.contains("alert(1)</script>") && !html.contains("</title>\""));
        let (_, rest) = html.split_once("id=\"pollux-page\">").expect("the element");
        let (data, _) = rest.split_once("</script>").expect("its end");
        let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
        assert_eq!((&data["text"], &data["name"]), (&text.into(), &"</title>".into()));
        assert_eq!(data["files"]["a.npy"], "AP88");
    }

    #[test]
    fn nothing_in_it_needs_a_network() {
        let (head, _) = TEMPLATE.split_once("<script").expect("scripts");
        assert!(head.contains("default-src 'none'"), "the policy keeps every request from leaving");
        assert!(!head.contains("http://") && !head.contains("https://"));
    }
}
