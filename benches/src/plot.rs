//! Plots as SVG, which need nothing to be looked at, in light and in dark.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
const COLOURS: [&str; 8] = ["#2f6fde", "#8a94a6", "#e0793a", "#2fa36b", "#b05cc8", "#c9a227", "#d1495b", "#4aa3a2"];

const STYLE: &str = "<style>text{font:12px system-ui,sans-serif;fill:#333}.t{font-weight:600;font-size:14px}.g{stroke:#ccc}\
    .a{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){svg{background:#15181d}text{fill:#ddd}.g{stroke:#444}}</style>";

/// Groups of horizontal bars: for each workload a bar per server.
#[must_use]
pub fn bars(title: &str, groups: &[(String, Vec<(String, f64)>)]) -> String {
    let rows: usize = groups.iter().map(|(_, bars)| bars.len()).sum();
    let height = 50.0 + rows as f64 * 16.0 + groups.len() as f64 * 26.0;
    let most = groups.iter().flat_map(|(_, bars)| bars).map(|bar| bar.1).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - 70.0) / most;
    let mut svg = open(title, height);
    let mut y = 44.0;
    // Full height of the plot: where the floor is.
    let floor = LEFT + scale;
    let _ =
        write!(svg, "<line class=\"g\" x1=\"{floor:.1}\" x2=\"{floor:.1}\" y1=\"32\" y2=\"{:.0}\"/>", height - 14.0);
    for (group, bars) in groups {
        let _ = write!(svg, "<text class=\"t\" x=\"8\" y=\"{:.0}\">{}</text>", y + 6.0, escape(group));
        y += 12.0;
        for (name, value) in bars {
            let colour = match name.as_str() {
                "floor" => COLOURS[1],
                name if name.starts_with("ours") => COLOURS[0],
                _ => COLOURS[7],
            };
            let _ = write!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text><rect x=\"{LEFT}\" y=\"{:.0}\" width=\"{:.1}\" height=\"12\" \
                 rx=\"2\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.0}\">{value:.2}</text>",
                LEFT - 8.0,
                y + 10.0,
                escape(name),
                y,
                (value * scale).max(1.0),
                LEFT + value * scale + 6.0,
                y + 10.0
            );
            y += 16.0;
        }
        y += 14.0;
    }
    svg + "</svg>\n"
}

/// Lines over a logarithmic x axis, each y axis beginning at 0.
#[must_use]
pub fn lines(title: &str, x_title: &str, y_title: &str, lines: &[(String, Vec<(f64, f64)>)]) -> String {
    const HEIGHT: f64 = 320.0;
    const BOTTOM: f64 = 270.0;
    let points = || lines.iter().flat_map(|(_, points)| points);
    let (first, last) = (points().map(|p| p.0).fold(f64::MAX, f64::min), points().map(|p| p.0).fold(1.0, f64::max));
    let most = points().map(|p| p.1).fold(f64::MIN_POSITIVE, f64::max) * 1.05;
    let span = (last / first).ln().max(f64::MIN_POSITIVE);
    let x = |value: f64| 80.0 + (value / first).ln() / span * (WIDTH - 260.0);
    let y = |value: f64| BOTTOM - value / most * (BOTTOM - 50.0);
    let mut svg = open(title, HEIGHT);
    for step in 0..=4 {
        let value = most * f64::from(step) / 4.0;
        let _ = write!(
            svg,
            "<line class=\"g\" x1=\"80\" x2=\"{:.0}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text x=\"74\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - 180.0,
            y(value),
            y(value),
            y(value) + 4.0,
            short(value)
        );
    }
    let mut marks: Vec<f64> = points().map(|p| p.0).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    for mark in marks {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            x(mark),
            BOTTOM + 18.0,
            short(mark)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
        80.0 + (WIDTH - 260.0) / 2.0,
        BOTTOM + 38.0,
        escape(x_title)
    );
    let _ = write!(svg, "<text x=\"8\" y=\"40\">{}</text>", escape(y_title));
    for (number, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        let _ = write!(svg, "<polyline class=\"a\" stroke=\"{colour}\" points=\"{}\"/>", path.join(" "));
        for point in points {
            let _ =
                write!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(point.0), y(point.1));
        }
        let at = 60.0 + number as f64 * 18.0;
        let _ = write!(
            svg,
            "<rect x=\"{:.0}\" y=\"{:.0}\" width=\"12\" height=\"3\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{at:.0}\">{}</text>",
            WIDTH - 170.0,
            at - 5.0,
            WIDTH - 152.0,
            escape(name)
        );
    }
    svg + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">{STYLE}<title>{0}</title>\
         <text class=\"t\" x=\"8\" y=\"20\">{0}</text>",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number in few characters.
#[must_use]
pub fn short(value: f64) -> String {
    match value {
        v if v >= 9_950_000.0 => format!("{:.0}M", v / 1e6),
        v if v >= 1_000_000.0 => format!("{:.2}M", v / 1e6),
        v if v >= 9_950.0 => format!("{:.0}k", v / 1e3),
        v if v >= 1_000.0 => format!("{:.1}k", v / 1e3),
        v if v >= 10.0 || v == v.trunc() => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.5, 16.0, 1_000.0, 65_536.0, 2_345_678.0].map(short);
        assert_eq!(all, ["0", "0.50", "16", "1.0k", "66k", "2.35M"]);
    }

    #[test]
    fn a_plot_shows_its_names_and_is_one_document() {
        let svg = bars("a & b", &[("fan1".to_owned(), vec![("ours".to_owned(), 1.0), ("<x>".to_owned(), 0.5)])]);
        assert!(
            svg.starts_with("<svg")
                && svg.ends_with("</svg>\n")
                && svg.contains("a &amp; b")
                && svg.contains("&lt;x&gt;")
        );
        let svg = lines("t", "x", "y", &[("l".to_owned(), vec![(1.0, 2.0), (10.0, 4.0)])]);
        assert!(svg.contains("polyline") && !svg.contains("NaN"));
    }
}
