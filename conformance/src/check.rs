//! What a check is, and how a run of checks is told.

use std::fmt;
use std::io;

use sc_protocol::Version;
use serde::Serialize;
use serde_json::Value;

/// Why a check did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The rule is broken: what was expected, and what came.
    Fail(String),
    /// It cannot be found out here.
    Skip(String),
}

impl Stop {
    /// A broken rule.
    pub fn fail(what: impl Into<String>) -> Self {
        Self::Fail(what.into())
    }

    /// A rule that cannot be looked at.
    pub fn skip(why: impl Into<String>) -> Self {
        Self::Skip(why.into())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Fail(error.to_string())
    }
}

/// What a check comes to.
pub type Verdict<T = ()> = Result<T, Stop>;

/// Fails a check with a text unless something holds.
///
/// # Errors
/// [`Stop::Fail`] with the text, if it does not hold.
pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Stop::Fail(otherwise())) }
}

/// Fails a check unless two values are equal.
///
/// # Errors
/// [`Stop::Fail`] with both values, if they differ.
pub fn equal<A: PartialEq<B> + fmt::Debug, B: fmt::Debug>(what: &str, got: A, wanted: B) -> Verdict {
    ensure(got == wanted, || format!("{what}: expected {wanted:?}, got {got:?}"))
}

/// Fails a check unless a JSON value is this one.
///
/// # Errors
/// [`Stop::Fail`] with both values, if they differ.
pub fn member(what: &str, got: &Value, wanted: Value) -> Verdict {
    ensure(*got == wanted, || format!("{what}: expected {wanted}, got {got}"))
}

/// One rule, by name.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// `area/what`, for scripts and for lists of known deviations.
    pub name: &'static str,
    /// Where the rule comes from.
    pub source: &'static str,
    /// The version that it holds for; `None`: both.
    pub version: Option<Version>,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The rule is kept.
    Pass,
    /// It is broken.
    Fail,
    /// It could not be looked at.
    Skip,
}

/// A check that was run.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// [`Rule::name`].
    pub name: &'static str,
    /// [`Rule::source`].
    pub source: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was wrong, or why it was skipped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// All checks of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was checked.
    pub subject: String,
    /// As which version of the protocol.
    pub protocol: u8,
    /// The checks, in the order in which they ran.
    pub checks: Vec<Line>,
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(subject: impl Into<String>, version: Version) -> Self {
        let protocol = if version == Version::V1 { 1 } else { 2 };
        Self { subject: subject.into(), protocol, checks: Vec::new() }
    }

    /// Adds what a check came to.
    pub fn add(&mut self, rule: Rule, verdict: Verdict) {
        let (outcome, detail) = match verdict {
            Ok(()) => (Outcome::Pass, String::new()),
            Err(Stop::Fail(what)) => (Outcome::Fail, what),
            Err(Stop::Skip(why)) => (Outcome::Skip, why),
        };
        self.checks.push(Line { name: rule.name, source: rule.source, outcome, detail });
    }

    /// How many went so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.checks.iter().filter(|line| line.outcome == outcome).count()
    }

    /// Names of the rules that are broken.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|line| line.outcome == Outcome::Fail).map(|line| line.name).collect()
    }
}

/// A table: result, name, source, and details of what did not pass.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} as protocol {}", self.subject, self.protocol)?;
        let width = self.checks.iter().map(|line| line.name.len()).max().unwrap_or(0);
        for line in &self.checks {
            let word = match line.outcome {
                Outcome::Pass => "pass",
                Outcome::Fail => "FAIL",
                Outcome::Skip => "skip",
            };
            writeln!(f, "{word}  {:width$}  {}", line.name, line.source)?;
            if !line.detail.is_empty() {
                writeln!(f, "      {}", line.detail)?;
            }
        }
        let [pass, fail, skip] = [Outcome::Pass, Outcome::Fail, Outcome::Skip].map(|outcome| self.count(outcome));
        write!(f, "{pass} passed, {fail} failed, {skip} skipped")
    }
}
