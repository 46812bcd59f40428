//! What tables need beside the figures.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The middle one, or the mean of the two in the middle.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let (len, middle) = (figures.len(), figures.len() / 2);
    match len {
        0 => None,
        _ if len.is_multiple_of(2) => Some((figures[middle - 1] + figures[middle]) / 2.0),
        _ => Some(figures[middle]),
    }
}

/// The machine, the commit and the day.
#[must_use]
pub fn circumstances() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).and_then(|line| line.split_once(": "));
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "Commit {commit}; {} CPUs ({}), Linux {}, load average at the end {}.",
        cpus,
        model.map_or("unknown", |(_, model)| model),
        kernel.trim().split('-').next().unwrap_or_default(),
        load.split(' ').next().unwrap_or_default()
    )
}

/// One outcome in a few words.
#[must_use]
pub fn brief(outcome: &Value) -> String {
    let number = |pointer: &str| outcome.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    format!(
        "{:.0} per CPU second, {:.0}/s, p50 {:.0} µs, p99 {:.0} µs, {} faults",
        number("/work_per_cpu_second"),
        number("/work_per_second"),
        number("/latency_us/p50"),
        number("/latency_us/p99"),
        number("/faults")
    )
}

/// Replaces what stands between `<!-- name:begin -->` and `<!-- name:end -->` in a file.
///
/// # Errors
/// The file cannot be read or written, or has no such markers.
pub fn between_markers(file: &Path, name: &str, text: &str) -> io::Result<()> {
    let old = fs::read_to_string(file)?;
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let parts = old.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let Some((head, tail)) = parts else {
        return Err(io::Error::other(format!("{} has no markers {begin} and {end}", file.display())));
    };
    fs::write(file, format!("{head}{begin}\n{}\n{end}{tail}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let dir = std::env::temp_dir().join(format!("markers-{}", std::process::id()));
        fs::write(&dir, "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nz\n").unwrap();
        between_markers(&dir, "x", "new\n").unwrap();
        assert_eq!(fs::read_to_string(&dir).unwrap(), "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nz\n");
        assert!(between_markers(&dir, "y", "").is_err());
        fs::remove_file(&dir).unwrap();
    }
}
