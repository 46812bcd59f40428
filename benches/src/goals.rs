//! What this server is to reach, held against what was measured.

/// The median of a figure (a JSON pointer into an outcome) of a server under a load.
pub type Median<'a> = &'a dyn Fn(&str, &str, &str) -> Option<f64>;

const PER_CPU: &str = "/work_per_cpu_second";

/// A goal: what is measured, what it should be at least (or, for costs, at most), and what it is.
struct Goal {
    what: String,
    wanted: f64,
    /// Smaller is better.
    is_cost: bool,
    reached: Option<f64>,
    unit: &'static str,
}

/// The table of goals.
#[must_use]
pub fn table(median: Median<'_>) -> String {
    let mut text = "| goal | wanted | reached | |\n|---|---|---|---|\n".to_owned();
    for goal in goals(median) {
        let Goal { what, wanted, is_cost, reached, unit } = goal;
        let bound = if is_cost { "≤" } else { "≥" };
        let (figure, verdict) = match reached {
            None => ("–".to_owned(), "not measured"),
            Some(figure) if (figure <= wanted) == is_cost || figure == wanted => {
                (format!("{figure:.2}{unit}"), "reached")
            }
            Some(figure) => (format!("{figure:.2}{unit}"), "**missed**"),
        };
        text += &format!("| {what} | {bound} {wanted}{unit} | {figure} | {verdict} |\n");
    }
    text
}

fn goals(median: Median<'_>) -> Vec<Goal> {
    let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let (ours, floor, sc4) = ("ours", "floor", "SC 4.3.2");
    let mut goals = Vec::new();
    for (load, name, of_floor, of_sc4) in [
        ("fan1", "fan-out, 1 in flight", 0.85, 5.0),
        ("fan16", "fan-out, 16 in flight", 0.95, 44.0),
        ("many", "many channels", 0.75, 9.0),
        ("chat", "chat", 0.95, 7.0),
        ("echo1", "echo, 1 in flight", 0.9, 7.5),
        ("echo16", "echo, 16 in flight", 0.8, 65.0),
        ("connect", "handshakes, `none`", 0.85, 30.0),
    ] {
        let at = |server| median(server, load, PER_CPU);
        for (what, wanted, other, unit) in [("of the floor", of_floor, floor, ""), ("SC 4.3.2", of_sc4, sc4, "×")] {
            let reached = ratio(at(ours), at(other));
            goals.push(Goal { what: format!("{name}: {what}"), wanted, is_cost: false, reached, unit });
        }
    }
    let connect = |server| median(server, "connect", PER_CPU);
    for (what, wanted, other, unit) in [("of the floor", 0.55, floor, ""), ("SC 4.3.2", 20.0, sc4, "×")] {
        let reached = ratio(connect("ours, rr"), connect(other));
        goals.push(Goal { what: format!("handshakes, `rr`: {what}"), wanted, is_cost: false, reached, unit });
    }
    for (load, wanted) in [("fan1", 0.9), ("fan16", 0.9), ("many", 0.6)] {
        let reached = ratio(median("ours, 2 workers", load, PER_CPU), median(ours, load, PER_CPU));
        let what = format!("2 workers + 1 broker: {load}, of its own one-worker figure");
        goals.push(Goal { what, wanted, is_cost: false, reached, unit: "" });
    }
    let (before, after) = (median(ours, "idle", "/server_pss_before"), median(ours, "idle", "/server_pss_after"));
    let connections = median(ours, "idle", "/connections");
    let each = before.zip(after).zip(connections).map(|((before, after), n)| (after - before) / n / 1024.0);
    let process = ratio(before, median(ours, "idle", "/server_processes")).map(|bytes| bytes / 1_048_576.0);
    for (what, wanted, reached, unit) in [
        ("idle connection with one subscription, PSS of all processes", 0.5, each, " KiB"),
        ("empty server, PSS of a process", 4.0, process, " MiB"),
    ] {
        goals.push(Goal { what: what.to_owned(), wanted, is_cost: true, reached, unit });
    }
    for (figure, name) in [("/latency_us/p50", "p50"), ("/latency_us/p99", "p99")] {
        let at = |server| median(server, "latency", figure);
        let what = format!("latency at 20,000 deliveries/s, {name}: of the floor's");
        goals.push(Goal { what, wanted: 1.1, is_cost: true, reached: ratio(at(ours), at(floor)), unit: "" });
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_reached_missed_or_not_measured() {
        let text = table(&|server, load, figure| match (server, load, figure) {
            ("ours", "fan1", PER_CPU) => Some(80.0),
            ("floor", "fan1", PER_CPU) => Some(100.0),
            ("SC 4.3.2", "fan1", PER_CPU) => Some(10.0),
            ("ours" | "floor", "latency", "/latency_us/p50") => Some(5.0),
            _ => None,
        });
        assert!(text.contains("| fan-out, 1 in flight: of the floor | ≥ 0.85 | 0.80 | **missed** |"), "{text}");
        assert!(text.contains("| fan-out, 1 in flight: SC 4.3.2 | ≥ 5× | 8.00× | reached |"), "{text}");
        assert!(text.contains("p50: of the floor's | ≤ 1.1 | 1.00 | reached |"), "{text}");
        assert!(text.contains("| chat: of the floor | ≥ 0.95 | – | not measured |"), "{text}");
    }
}
