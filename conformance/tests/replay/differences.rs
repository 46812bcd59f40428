//! The listed differences: one file for each recorded version, `conformance/transcripts/differences/<version>.txt`.
//!
//! ```text
//! rule <name>: <reason>                       a change that is made to everything recorded, see [`Rule`]
//! because <reason>                            the reason of what follows
//! <recording> <connection>
//! - <what the recorded server sent>
//! + <what ours sends>
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::recording::folder;

/// A difference that every recording of a version has. Each has to apply somewhere, or its listing fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Servers before 5.3 number every event; only what wants an ack needs it.
    NoCidWithoutAck,
    /// Servers 4.1.9 to 4.1.13 send `#removeAuthToken` to a client that has no token.
    NothingToRemove,
    /// Server 4 puts why it refuses an upgrade into the status line, ours into the body.
    RefusalsSayWhy,
    /// Server 20 keeps its own `pingTimeout` when it speaks protocol 1.
    TwentySeconds,
}

impl Rule {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "no-cid-without-ack" => Self::NoCidWithoutAck,
            "nothing-to-remove" => Self::NothingToRemove,
            "refusals-say-why" => Self::RefusalsSayWhy,
            "twenty-seconds" => Self::TwentySeconds,
            _ => return None,
        })
    }

    /// Applies it to what the recorded server sent; answers whether it changed anything.
    pub(crate) fn apply(self, theirs: &mut Vec<String>, ours: &mut Vec<String>) -> bool {
        let before = theirs.clone();
        match self {
            Self::NoCidWithoutAck => number_as_ours(theirs, ours),
            Self::NothingToRemove => remove_needless(theirs),
            Self::RefusalsSayWhy => {
                for line in theirs.iter_mut().chain(&mut *ours) {
                    if line.starts_with("HTTP 4") {
                        line.truncate("HTTP 400".len());
                    }
                }
            }
            Self::TwentySeconds => {
                for line in &mut *theirs {
                    *line = line.replace("\"pingTimeout\":30000", "\"pingTimeout\":20000");
                }
            }
        }
        *theirs != before
    }
}

/// Gives each event the cid of our own event that corresponds to it, or none if ours has none.
fn number_as_ours(theirs: &mut [String], ours: &[String]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in theirs {
        let Some((event, cid)) = event_and_cid(line) else { continue };
        let ordinal = seen.entry(event.clone()).or_default();
        let own = ours.iter().filter(|own| event_and_cid(own).is_some_and(|(own, _)| own == event)).nth(*ordinal);
        *ordinal += 1;
        if cid {
            *line = own.cloned().unwrap_or(event);
        }
    }
}

/// An event without its cid, and whether it had one.
fn event_and_cid(line: &str) -> Option<(String, bool)> {
    let Ok(Value::Object(mut packet)) = serde_json::from_str::<Value>(line) else { return None };
    packet.get("event")?;
    let cid = packet.remove("cid").is_some();
    Some((Value::Object(packet).to_string(), cid))
}

fn remove_needless(theirs: &mut Vec<String>) {
    const REMOVE: &str = r##"{"data":null,"event":"#removeAuthToken"}"##;
    let mut at = 0;
    while at + 1 < theirs.len() {
        let next: Value = serde_json::from_str(&theirs[at + 1]).unwrap_or_default();
        let anonymous = next["data"]["isAuthenticated"] == false && next["data"].get("authError").is_none();
        if theirs[at] == REMOVE && anonymous && next["data"].get("pingTimeout").is_some() {
            theirs.remove(at);
        }
        at += 1;
    }
}

/// A recording and one of its connections.
pub(crate) type Place = (String, String);

#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) rules: Vec<Rule>,
    pub(crate) differences: BTreeMap<Place, Vec<String>>,
}

pub(crate) fn load(pack: &str) -> Listed {
    let path = folder().join("differences").join(format!("{pack}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut listed = Listed::default();
    let (mut reason, mut place) = (false, None);
    for (number, line) in text.lines().enumerate() {
        let here = format!("{}:{}", path.display(), number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rule) = line.strip_prefix("rule ") {
            let (name, why) = rule.split_once(": ").unwrap_or_else(|| panic!("{here}: a rule has a reason"));
            assert!(!why.is_empty(), "{here}: a rule has a reason");
            listed.rules.push(Rule::named(name).unwrap_or_else(|| panic!("{here}: no such rule")));
        } else if let Some(why) = line.strip_prefix("because ") {
            (reason, place) = (!why.trim().is_empty(), None);
        } else if line.starts_with("- ") || line.starts_with("+ ") {
            let place = place.clone().unwrap_or_else(|| panic!("{here}: a difference has a place"));
            listed.differences.entry(place).or_default().push(line.to_owned());
        } else {
            let Some((recording, conn)) = line.split_once(' ') else { panic!("{here}: neither place nor difference") };
            assert!(reason, "{here}: a difference has a reason");
            let new = (recording.to_owned(), conn.to_owned());
            assert!(!listed.differences.contains_key(&new), "{here}: a place is listed once");
            place = Some(new);
        }
    }
    listed
}

/// The shortest way from one sequence to the other, as lines with `-` and `+`.
pub(crate) fn diff(theirs: &[String], ours: &[String]) -> Vec<String> {
    let (rows, columns) = (theirs.len(), ours.len());
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = match theirs[row] == ours[column] {
                true => common[row + 1][column + 1] + 1,
                false => common[row + 1][column].max(common[row][column + 1]),
            };
        }
    }
    let (mut row, mut column, mut lines) = (0, 0, Vec::new());
    while row < rows || column < columns {
        if row < rows && column < columns && theirs[row] == ours[column] {
            (row, column) = (row + 1, column + 1);
        } else if column == columns || row < rows && common[row + 1][column] >= common[row][column + 1] {
            lines.push(format!("- {}", theirs[row]));
            row += 1;
        } else {
            lines.push(format!("+ {}", ours[column]));
            column += 1;
        }
    }
    lines
}

/// What differs from the list, in the list's own form.
pub(crate) fn against(listed: &Listed, found: &BTreeMap<Place, Vec<String>>) -> Option<String> {
    let mut out = String::new();
    for (place, lines) in found {
        if listed.differences.get(place) != Some(lines) {
            let listed = if listed.differences.contains_key(place) { "  (listed otherwise)" } else { "" };
            let _ = writeln!(out, "{} {}{listed}\n{}\n", place.0, place.1, lines.join("\n"));
        }
    }
    for place in listed.differences.keys().filter(|place| !found.contains_key(place)) {
        let _ = writeln!(out, "{} {}: listed, but there is no difference any more\n", place.0, place.1);
    }
    (!out.is_empty()).then_some(out)
}
