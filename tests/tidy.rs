//! The tree keeps its own rules: imports run downward, unsafe code is in the kernel only, clocks are read where they may be.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it found by failing")]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules, lowest layer first; modules of one layer do not know each other.
const LAYERS: &[&[&str]] = &[
    &["time", "types", "reason", "sync"],
    &["prf", "share", "request", "kernel"],
    &["metrics", "storage"],
    &["signature", "certificate", "quota", "journal"],
    &["merchant", "replay"],
    &["store"],
    &["admission"],
    &["front", "admin", "recovery"],
    &["config"],
    &["server"],
    &["cli"],
    &["main", "lib"],
];

/// Below the front nothing reads a clock but the one place that is one.
const CLOCK_READERS: &[&str] = &["front", "admin", "server", "cli"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with the module it belongs to and its text, tests left out.
fn modules() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 50, "the tree is not where it was");
    let module = |path: &Path| {
        let inside = path.strip_prefix(&root).expect("below src");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    };
    let production = |text: String| text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
    found
        .into_iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests") && !path.ends_with("tests.rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("text");
            (path.clone(), module(&path), production(text))
        })
        .collect()
}

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|layer| layer.contains(&module));
    found.unwrap_or_else(|| panic!("module `{module}` has no layer; give it one here and in lib.rs"))
}

#[test]
fn imports_run_downward() {
    for (path, module, text) in modules() {
        for part in text.split("crate::").skip(1) {
            let target: String = part.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
            let known = LAYERS.iter().any(|layer| layer.contains(&target.as_str()));
            if target.is_empty() || !known || target == module {
                continue;
            }
            assert!(layer(&target) < layer(&module), "{} imports `{target}` from above or beside it", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_the_kernel_only() {
    for (path, _, text) in modules().into_iter().filter(|(_, module, _)| module != "kernel") {
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        for (number, line) in (1..).zip(code) {
            assert!(!line.contains("unsafe {") && !line.contains("unsafe fn"), "{}:{number}", path.display());
        }
    }
}

#[test]
fn clocks_are_read_in_the_front_and_above_only() {
    for (path, module, text) in modules() {
        let reads = ["SystemTime::now", "Instant::now", "Utc::now", "Timestamp::now", "Zoned::now"];
        let clock = module == "time" || CLOCK_READERS.contains(&module.as_str());
        assert!(clock || !reads.iter().any(|read| text.contains(read)), "{} reads a clock", path.display());
    }
}
