//! The rules of this repository that a program can check, and for each a sample that breaks it: a check that cannot fail is none.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What lies in the root. Tools are configured by files that begin with a dot.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "conformance",
    "sc-auth",
    "sc-broker",
    "sc-client",
    "sc-cluster",
    "sc-protocol",
    "sc-server",
];

/// Which crate may depend on which, outside its tests.
const EDGES: &[(&str, &[&str])] = &[
    ("sc-protocol", &[]),
    ("sc-auth", &["sc-protocol"]),
    ("sc-broker", &["sc-protocol"]),
    ("sc-server", &["sc-auth", "sc-broker", "sc-protocol"]),
    ("sc-client", &["sc-protocol"]),
    ("sc-cluster", &["sc-auth", "sc-broker", "sc-client", "sc-protocol", "sc-server"]),
    ("conformance", &["sc-client", "sc-protocol"]),
    ("benches", &["sc-auth", "sc-broker", "sc-client", "sc-cluster", "sc-protocol", "sc-server"]),
];

/// Where nothing but arguments comes in, by how paths begin.
const PURE: &[&str] = &[
    "sc-protocol/src/",
    "sc-auth/src/",
    "sc-broker/src/",
    "sc-server/src/",
    "sc-client/src/",
    "sc-cluster/src/supervisor/",
    "sc-cluster/src/schedule.rs",
];

/// What begins like something pure and is a driver.
const NOT_PURE: &[&str] = &["sc-client/src/driver"];

/// What pure code does not name. Addresses are values, so `std::net::IpAddr` is none of it.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    ".elapsed()",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "thread::",
    "mio::",
    "rustix::",
    "getrandom",
    "println!",
];

const LINES_MAX: usize = 600;

/// Files that are as long as what they record.
const DATA: &[&str] = &["/transcripts/", "/tests/data/", "/tests/keys/"];

/// Tests that let time pass, and why nothing else would do.
const SLEEPS: &[(&str, &str)] = &[(
    "conformance/clients/story/story.py",
    "holds a silent connection for three pingTimeouts: only time shows that it stays, and the client tells of no ping",
)];

/// The repository's text files by their paths from its root.
#[derive(Default)]
struct Tree(BTreeMap<String, String>);

impl Tree {
    fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut tree = Self::default();
        tree.add(&root, "");
        tree
    }

    fn add(&mut self, dir: &Path, prefix: &str) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{prefix}{name}");
            if [".git", "target", "node_modules"].contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                self.add(&entry.path(), &format!("{path}/"));
            } else {
                // What is no text counts as empty.
                self.0.insert(path, fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }

    fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn text(&self, path: &str) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.0.contains_key(path) || self.0.keys().any(|file| file.starts_with(&folder))
    }

    fn ending<'t>(&'t self, ends: &'t [&str]) -> impl Iterator<Item = (&'t str, &'t str)> {
        let files = self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        files.filter(|(path, _)| ends.iter().any(|end| path.ends_with(end)))
    }

    /// The crates that are there.
    fn crates(&self) -> impl Iterator<Item = &str> {
        EDGES.iter().map(|(name, _)| *name).filter(|name| self.0.contains_key(&format!("{name}/Cargo.toml")))
    }
}

/// The code of a line, without a comment that ends it.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// What breaks the rule, in words.
type Broken = Vec<String>;

type Rule = fn(&Tree) -> Broken;

/// Paths and what is in them.
type Sample = &'static [(&'static str, &'static str)];

fn files_are_short(tree: &Tree) -> Broken {
    let texts = tree.ending(&[".rs", ".md", ".toml", ".js", ".mjs", ".css", ".html", ".py", ".yml", ".ci/run"]);
    let texts = texts.filter(|(path, _)| !DATA.iter().any(|data| path.contains(data)));
    let long = texts.map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > LINES_MAX);
    long.map(|(path, lines)| format!("{path} has {lines} lines")).collect()
}

fn the_top_level_is_the_list(tree: &Tree) -> Broken {
    let there: BTreeSet<&str> = tree.0.keys().filter_map(|path| path.split('/').next()).collect();
    let listed: BTreeSet<&str> = TOP_LEVEL.iter().copied().collect();
    let more =
        there.difference(&listed).filter(|name| !name.starts_with('.')).map(|name| format!("{name} is not listed"));
    more.chain(listed.difference(&there).map(|name| format!("{name} is missing"))).collect()
}

fn edges_are_allowed(tree: &Tree) -> Broken {
    let mut broken = Broken::new();
    for name in tree.crates() {
        let allowed = EDGES.iter().find(|(from, _)| *from == name).map_or(&[][..], |(_, to)| to);
        let mut section = "";
        for line in tree.text(&format!("{name}/Cargo.toml")).lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']);
            }
            let of_crate = section.ends_with("dependencies") && !section.contains("dev-dependencies");
            let key = line.split(['=', '.', ' ']).next().unwrap_or_default();
            // `[dependencies.x]` is another way to write it.
            let table = section.strip_prefix("dependencies.").filter(|_| line.starts_with('['));
            let to = table
                .or_else(|| of_crate.then_some(key))
                .filter(|to| to.starts_with("sc-") || EDGES.iter().any(|(of, _)| of == to));
            broken.extend(to.filter(|to| !allowed.contains(to)).map(|to| format!("{name} depends on {to}")));
        }
    }
    broken
}

fn unsafe_is_forbidden(tree: &Tree) -> Broken {
    let is_root = |path: &str| {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        matches!(
            parts[..],
            ["src", "lib.rs" | "main.rs"]
                | ["src", "bin", _]
                | ["src", "bin", _, "main.rs"]
                | ["examples", _]
                | ["examples", _, "main.rs"]
        )
    };
    // The programs of benches have it from the workspace's lints alone.
    let roots = tree.ending(&[".rs"]).filter(|(path, _)| is_root(path) && !path.starts_with("benches/src/bin/"));
    let allowing = roots.filter(|(_, text)| !text.contains("#![forbid(unsafe_code)]"));
    let mut broken: Broken = allowing.map(|(path, _)| format!("{path} does not forbid unsafe code")).collect();
    // Tests and benchmarks have their lints from here.
    let without =
        tree.crates().filter(|name| !tree.text(&format!("{name}/Cargo.toml")).contains("[lints]\nworkspace = true"));
    broken.extend(without.map(|name| format!("{name} does not take the workspace's lints")));
    if !tree.text("Cargo.toml").contains("unsafe_code = \"forbid\"") {
        broken.push("the workspace's lints do not forbid unsafe code".to_owned());
    }
    broken
}

fn crates_say_what_they_are(tree: &Tree) -> Broken {
    let mut broken = Broken::new();
    for name in tree.crates() {
        if tree.text(&format!("{name}/README.md")).lines().count() < 10 {
            broken.push(format!("{name}/README.md says little"));
        }
        let published = !tree.text(&format!("{name}/Cargo.toml")).contains("publish = false");
        let changes = tree.text(&format!("{name}/CHANGELOG.md"));
        if published && !(changes.starts_with("# Changelog\n") && changes.contains("\n## Unreleased\n")) {
            broken.push(format!("{name}/CHANGELOG.md has no changes under Unreleased"));
        }
    }
    broken
}

fn tests_do_not_sleep(tree: &Tree) -> Broken {
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("_tests.rs") || path.contains("/clients/");
    let tests =
        tree.ending(&[".rs", ".mjs", ".js", ".py"]).filter(|(path, _)| is_test(path) && !path.ends_with("/tidy.rs"));
    let sleeps = |text: &str| {
        text.lines().any(|line| ["sleep(", "waitForTimeout("].iter().any(|call| code(line).contains(call)))
    };
    let found: BTreeSet<&str> = tests.filter(|(_, text)| sleeps(text)).map(|(path, _)| path).collect();
    let allowed: BTreeSet<&str> = SLEEPS.iter().map(|(path, _)| *path).collect();
    found.difference(&allowed).map(|path| format!("{path} sleeps; await what it waits for")).collect()
}

fn exceptions_are_needed(tree: &Tree) -> Broken {
    let gone = SLEEPS.iter().filter(|(path, _)| !tree.text(path).contains("sleep("));
    gone.map(|(path, _)| format!("{path} does not sleep any more")).collect()
}

fn pure_code_is_pure(tree: &Tree) -> Broken {
    let begins = |path: &str, with: &[&str]| with.iter().any(|start| path.starts_with(start));
    let pure = tree.ending(&[".rs"]).filter(|(path, _)| begins(path, PURE) && !begins(path, NOT_PURE));
    let mut broken = Broken::new();
    for (path, text) in pure {
        // Tests of a file stand at its end; a driver is what they are.
        let code_only = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code_only.lines().enumerate() {
            let names = IMPURE.iter().filter(|name| code(line).contains(**name));
            broken.extend(names.map(|name| format!("{path}:{} names {name}", number + 1)));
        }
    }
    broken
}

fn locks_name_no_host(tree: &Tree) -> Broken {
    let npm = tree.ending(&["package-lock.json"]).filter(|(_, text)| text.contains("\"resolved\""));
    let python =
        tree.ending(&["requirements.txt"]).filter(|(_, text)| text.contains("://") || text.contains("--index-url"));
    let places = tree.ending(&[".npmrc", ".cargo/config.toml", "pip.conf"]);
    let places = places.filter(|(_, text)| text.contains("registry") || text.contains("index"));
    let mut broken: Broken =
        npm.chain(python).chain(places).map(|(path, _)| format!("{path} names a registry")).collect();
    let sources = tree.text("Cargo.lock").lines().filter_map(|line| line.strip_prefix("source = "));
    let others = sources.filter(|source| *source != "\"registry+https://github.com/rust-lang/crates.io-index\"");
    broken.extend(others.map(|source| format!("Cargo.lock takes a package from {source}")));
    broken
}

fn links_lead_somewhere(tree: &Tree) -> Broken {
    let mut broken = Broken::new();
    for (path, text) in tree.ending(&[".md"]).filter(|(path, _)| !DATA.iter().any(|data| path.contains(data))) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            // Items of rustdoc are checked by rustdoc.
            if target.is_empty() || target.contains("::") || target.contains("://") {
                continue;
            }
            let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
            for part in target.split('/') {
                match part {
                    ".." => drop(parts.pop()),
                    "." | "" => {}
                    _ => parts.push(part),
                }
            }
            if !tree.has(&parts.join("/")) {
                broken.push(format!("{path} links to {target}"));
            }
        }
    }
    broken
}

/// The code in the README is an example, which is compiled and can be run; its table of clients is what the matrix runs.
fn the_readme_keeps_its_word(tree: &Tree) -> Broken {
    let readme = tree.text("README.md");
    let mut broken = Broken::new();
    let block = readme.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    let example = tree.text("sc-cluster/examples/backend.rs").replace("#![forbid(unsafe_code)]\n", "");
    if block.is_empty() || block != example {
        broken.push("README.md shows another backend than sc-cluster/examples/backend.rs".to_owned());
    }
    // What else is shown is in the page of a crate, and compiled there.
    let pages: Vec<&str> = tree.crates().map(|name| tree.text(&format!("{name}/README.md"))).collect();
    for shown in readme.split("```rust,no_run\n").skip(2).filter_map(|rest| rest.split("```").next()) {
        if !pages.iter().any(|page| page.contains(shown)) {
            broken.push(format!("README.md shows code that no crate's page has: {shown}"));
        }
    }
    let said = |package: &str| {
        let rows = readme.lines().filter(|line| line.starts_with(&format!("| `{package}` |")));
        let versions = rows.filter_map(|row| row.split('|').nth(3)).flat_map(|cell| cell.split(','));
        versions.map(|version| version.trim().to_owned()).collect::<BTreeSet<_>>()
    };
    let pinned = |prefix: &str| {
        let folders = tree.0.keys().filter_map(|path| path.strip_prefix("conformance/clients/")?.strip_prefix(prefix));
        folders.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    for (package, prefix) in [("socketcluster-client", "js-"), ("socketclusterclient", "py-")] {
        let (said, pinned) = (said(package), pinned(prefix));
        if said != pinned {
            broken.push(format!("README.md says that {package} {said:?} are run, and it is {pinned:?}"));
        }
    }
    if !tree.ending(&[".yml"]).any(|(path, text)| path.starts_with(".github/workflows/") && text.contains(".ci/run")) {
        broken.push("no workflow runs .ci/run".to_owned());
    }
    broken
}

/// Every rule, and files that break it with what is then said.
const RULES: &[(Rule, Sample, &str)] = &[
    (files_are_short, &[("x/src/long.rs", LONG)], "x/src/long.rs has 601 lines"),
    (the_top_level_is_the_list, &[("notes.txt", "")], "notes.txt is not listed"),
    (the_top_level_is_the_list, &[("LICENSE", "")], "README.md is missing"),
    (
        edges_are_allowed,
        &[("sc-protocol/Cargo.toml", "[dependencies]\nsc-auth = { workspace = true }")],
        "sc-protocol depends on sc-auth",
    ),
    (
        edges_are_allowed,
        &[("sc-client/Cargo.toml", "[dependencies]\nsc-server.workspace = true")],
        "sc-client depends on sc-server",
    ),
    (
        edges_are_allowed,
        &[("sc-auth/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nsc-broker = \"1\"")],
        "sc-auth depends on sc-broker",
    ),
    (
        edges_are_allowed,
        &[("conformance/Cargo.toml", "[dependencies.sc-cluster]\npath = \"..\"")],
        "conformance depends on sc-cluster",
    ),
    (unsafe_is_forbidden, &[("sc-auth/src/lib.rs", "")], "sc-auth/src/lib.rs does not forbid"),
    (unsafe_is_forbidden, &[("sc-cluster/src/bin/x/main.rs", "")], "sc-cluster/src/bin/x/main.rs does not forbid"),
    (unsafe_is_forbidden, &[("sc-cluster/examples/x/main.rs", "")], "examples/x/main.rs does not forbid"),
    (unsafe_is_forbidden, &[("sc-auth/Cargo.toml", "[package]")], "sc-auth does not take the workspace's lints"),
    (unsafe_is_forbidden, &[("Cargo.toml", "[workspace]")], "the workspace's lints do not forbid"),
    (
        crates_say_what_they_are,
        &[("sc-auth/Cargo.toml", ""), ("sc-auth/README.md", "# x")],
        "sc-auth/README.md says little",
    ),
    (
        crates_say_what_they_are,
        &[("sc-auth/Cargo.toml", ""), ("sc-auth/CHANGELOG.md", "# Changelog\n")],
        "no changes under Unreleased",
    ),
    (tests_do_not_sleep, &[("x/tests/a.rs", "thread::sleep(SECOND);")], "x/tests/a.rs sleeps"),
    (tests_do_not_sleep, &[("x/tests/b/c.mjs", "await page.waitForTimeout(5);")], "x/tests/b/c.mjs sleeps"),
    (
        pure_code_is_pure,
        &[("sc-broker/src/a.rs", "\nlet now = Instant::now();")],
        "sc-broker/src/a.rs:2 names Instant::now",
    ),
    (pure_code_is_pure, &[("sc-cluster/src/supervisor/a.rs", "use std::process;")], "names std::process"),
    (pure_code_is_pure, &[("sc-client/src/core/a.rs", "use std::net::TcpStream;")], "names TcpStream"),
    (locks_name_no_host, &[("a/package-lock.json", "\"resolved\": \"x\"")], "a/package-lock.json names a registry"),
    (locks_name_no_host, &[("a/requirements.txt", "x @ https://y")], "a/requirements.txt names a registry"),
    (locks_name_no_host, &[("Cargo.lock", "source = \"git+https://x\"")], "Cargo.lock takes a package from"),
    (links_lead_somewhere, &[("a/README.md", "[x](../b/c.md)")], "a/README.md links to ../b/c.md"),
    (the_readme_keeps_its_word, &[("README.md", "```rust,no_run\nfn main() {}\n```")], "shows another backend"),
    (
        the_readme_keeps_its_word,
        &[("README.md", "```rust,no_run\n```\n```rust,no_run\nlet x;\n```")],
        "no crate's page has: let x;",
    ),
    (the_readme_keeps_its_word, &[("conformance/clients/js-1.0.0/package.json", "")], "and it is {\"1.0.0\"}"),
    (the_readme_keeps_its_word, &[(".github/workflows/ci.yml", "run: make")], "no workflow runs .ci/run"),
];

const LONG: &str = match str::from_utf8(&[b'\n'; LINES_MAX + 1]) {
    Ok(lines) => lines,
    Err(_) => "",
};

#[test]
fn the_repository_keeps_its_rules() {
    let tree = Tree::load();
    let mut broken: Broken = RULES.iter().flat_map(|(rule, _, _)| rule(&tree)).collect();
    broken.extend(exceptions_are_needed(&tree));
    broken.sort();
    broken.dedup();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_rule_can_be_broken() {
    for (rule, files, said) in RULES {
        let broken = rule(&Tree::of(files));
        assert!(broken.iter().any(|text| text.contains(said)), "{files:?} is not found out: {broken:?}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    let tree = Tree::of(&[
        (
            "sc-server/Cargo.toml",
            "[dependencies]\nsc-auth = \"1\"\n[dev-dependencies]\nsc-cluster = \"1\"\n[lints]\nworkspace = true",
        ),
        ("sc-server/src/a.rs", "use std::net::IpAddr; // no TcpStream\n#[cfg(test)]\nmod tests {\n use std::fs;\n}"),
        ("sc-client/src/driver/mod.rs", "let now = Instant::now();"),
        ("sc-cluster/src/net.rs", "use mio::net::TcpStream;"),
        ("sc-server/README.md", "[a](src/a.rs), [b](https://x.y/z), [c](crate::X), [d](../sc-client)"),
    ]);
    for rule in [edges_are_allowed, pure_code_is_pure, tests_do_not_sleep, links_lead_somewhere, locks_name_no_host] {
        assert_eq!(rule(&tree), Broken::new());
    }
}
