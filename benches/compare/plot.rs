//! Plots as SVG text.

use std::fmt::Write as _;

use crate::row::Row;
use crate::sample::{Curve, number};

const COLORS: [&str; 2] = ["#c2541b", "#3b6ea5"];
const FONT: &str = "font-family=\"sans-serif\" font-size=\"12\"";
const ROW: f64 = 22.0;
const LABELS: f64 = 330.0;
const BARS: f64 = 460.0;

/// One bar per ratio on a logarithmic scale, with the range of single rounds.
pub(crate) fn ratios(names: &[String; 2], rows: &[Row]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row, row.ratio()?)))
        .collect();
    // Decades on either side of 1.
    let right = rows
        .iter()
        .map(|(_, ratio)| ratio.max.log10())
        .fold(0.3, f64::max);
    let left = rows
        .iter()
        .map(|(_, ratio)| -ratio.min.log10())
        .fold(0.1, f64::max);
    let x = |ratio: f64| LABELS + (ratio.log10() + left) / (left + right) * BARS;
    let height = 60.0 + ROW * rows.len() as f64;
    let mut svg = open(LABELS + BARS + 80.0, height);
    let title = format!("How many times better {} is than {}", names[0], names[1]);
    text(&mut svg, 10.0, 20.0, "start", &title);
    for mark in [0.1_f64, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0] {
        if mark.log10() < -left || mark.log10() > right {
            continue;
        }
        let shade = if mark == 1.0 { "#000" } else { "#ccc" };
        line(
            &mut svg,
            [x(mark), 32.0, x(mark), height - 20.0],
            shade,
            1.0,
        );
        text(&mut svg, x(mark), height - 6.0, "middle", &mark.to_string());
    }
    for (index, (row, ratio)) in rows.iter().enumerate() {
        let y = 36.0 + ROW * index as f64;
        let color = COLORS[usize::from(ratio.median < 1.0)];
        let (from, to) = (x(1.0).min(x(ratio.median)), x(1.0).max(x(ratio.median)));
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{color}\"/>",
            to - from
        );
        let middle = y + 7.0;
        line(
            &mut svg,
            [x(ratio.min), middle, x(ratio.max), middle],
            "#222",
            1.5,
        );
        text(&mut svg, LABELS - 8.0, y + 11.0, "end", &row.kind.metric);
        let value = format!("{:.2}", ratio.median);
        text(
            &mut svg,
            x(ratio.max.max(1.0)) + 6.0,
            y + 11.0,
            "start",
            &value,
        );
    }
    svg + "</svg>\n"
}

/// The curves of both sides, every round a line.
pub(crate) fn curves(names: &[String; 2], curves: &[Vec<Curve>; 2]) -> String {
    const SIDE: f64 = 60.0;
    const WIDTH: f64 = 560.0;
    const HEIGHT: f64 = 320.0;
    let points = || curves.iter().flatten().flat_map(|curve| &curve.points);
    let most_x = points().map(|point| point.x).fold(1.0, f64::max);
    let most_y = points().map(|point| point.y).fold(1.0, f64::max);
    let x = |value: f64| SIDE + value / most_x * WIDTH;
    let y = |value: f64| 40.0 + (1.0 - value / most_y) * HEIGHT;
    let mut svg = open(SIDE + WIDTH + 40.0, HEIGHT + 100.0);
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let at = y(most_y * part);
        line(&mut svg, [SIDE, at, SIDE + WIDTH, at], "#ddd", 1.0);
        text(
            &mut svg,
            SIDE - 6.0,
            at + 4.0,
            "end",
            &number(most_y * part),
        );
        let foot = HEIGHT + 58.0;
        text(
            &mut svg,
            x(most_x * part),
            foot,
            "middle",
            &format!("{:.0}", most_x * part),
        );
    }
    if let Some(curve) = curves.iter().flatten().next() {
        text(&mut svg, SIDE, 20.0, "start", curve.y);
        text(
            &mut svg,
            SIDE + WIDTH / 2.0,
            HEIGHT + 76.0,
            "middle",
            curve.x,
        );
    }
    for (side, rounds) in curves.iter().enumerate() {
        for curve in rounds {
            let mut path = String::new();
            for point in &curve.points {
                let _ = write!(path, "{:.1},{:.1} ", x(point.x), y(point.y));
            }
            let _ = writeln!(
                svg,
                "<polyline points=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>",
                COLORS[side]
            );
        }
        let left = SIDE + WIDTH - 110.0 * (2 - side) as f64;
        line(&mut svg, [left, 16.0, left + 20.0, 16.0], COLORS[side], 3.0);
        text(&mut svg, left + 26.0, 20.0, "start", &names[side]);
    }
    svg + "</svg>\n"
}

fn open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         {FONT}>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    )
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn line(svg: &mut String, [x1, y1, x2, y2]: [f64; 4], color: &str, width: f64) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
         stroke=\"{color}\" stroke-width=\"{width}\"/>"
    );
}
