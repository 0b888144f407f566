//! Put and open times over the number of entries, drawn as SVG: two panels with logarithmic axes.
//!
//! By hand: four lines and a dozen marks need no plotting library.

use std::fmt::Write as _;

use crate::report::shown_time;

/// One panel's measurements: entries, ours, and what stands beside it, in nanoseconds.
type Points = Vec<(usize, f64, f64)>;

/// What is drawn.
#[derive(Debug, Default)]
pub(crate) struct Plot {
    put: Points,
    open: Points,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 48.0;
const OURS: &str = "#1f5fa8";
const BESIDE: &str = "#c2571a";

impl Plot {
    pub(crate) fn put(&mut self, entries: usize, ours: f64, bare: f64) {
        self.put.push((entries, ours, bare));
    }

    pub(crate) fn open(&mut self, entries: usize, ours: f64, heads: f64) {
        self.open.push((entries, ours, heads));
    }

    /// The drawing, if anything was measured.
    pub(crate) fn svg(&self) -> Option<String> {
        let panels = [
            (&self.put, "durable put of 4 KiB", "bare append + fdatasync"),
            (&self.open, "open by age identity and get", "reading the heads"),
        ];
        let drawn: Vec<_> = panels.into_iter().filter(|(points, ..)| !points.is_empty()).collect();
        if drawn.is_empty() {
            return None;
        }
        let mut svg = String::new();
        let mut width = 0.0;
        for (points, ours, beside) in drawn {
            let _ = write!(svg, "<g transform=\"translate({width} 0)\">");
            panel(&mut svg, points, ours, beside);
            svg.push_str("</g>");
            width += WIDTH;
        }
        Some(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\"><rect width=\"100%\" height=\"100%\" \
             fill=\"#fff\"/>{svg}</svg>\n"
        ))
    }
}

/// A logarithmic axis between two powers of ten.
struct Axis {
    first: i32,
    last: i32,
    from: f64,
    to: f64,
}

impl Axis {
    #[expect(clippy::cast_possible_truncation, reason = "exponents of ten")]
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::NEG_INFINITY, f64::max);
        let first = least.log10().floor() as i32;
        Self { first, last: (most.log10().ceil() as i32).max(first + 1), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        self.from + part * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|power| 10_f64.powi(power))
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of entries")]
fn panel(svg: &mut String, points: &Points, ours: &str, beside: &str) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x = Axis::over(points.iter().map(|(entries, ..)| *entries as f64), LEFT, right);
    let y = Axis::over(points.iter().flat_map(|(_, ours, beside)| [*ours, *beside]), bottom, TOP);
    let grid = "stroke=\"#ddd\"";
    for tick in x.ticks() {
        let at = x.at(tick);
        let _ = write!(svg, "<path d=\"M{at:.1} {TOP}V{bottom}\" {grid}/>");
        let below = bottom + 18.0;
        let _ = write!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{tick}</text>");
    }
    for tick in y.ticks() {
        let (at, left) = (y.at(tick), LEFT - 6.0);
        let label = shown_time(tick).replace(".00", "").replace(".0", "");
        let _ = write!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\" {grid}/>");
        let _ = write!(svg, "<text x=\"{left}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", at + 4.0);
    }
    let (middle, below) = (f64::midpoint(LEFT, right), HEIGHT - 10.0);
    let _ = write!(svg, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">entries of 4 KiB</text>");
    for (name, colour, legend, is_ours) in [(ours, OURS, 22.0, true), (beside, BESIDE, 42.0, false)] {
        let value = |point: &(usize, f64, f64)| if is_ours { point.1 } else { point.2 };
        let path =
            points.iter().map(|point| format!("{:.1},{:.1}", x.at(point.0 as f64), y.at(value(point))));
        let path = path.collect::<Vec<_>>().join(" ");
        let _ =
            write!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        for point in points {
            let (x, y) = (x.at(point.0 as f64), y.at(value(point)));
            let _ = write!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"><title>{}</title></circle>",
                shown_time(value(point))
            );
        }
        let _ = write!(svg, "<text x=\"{LEFT}\" y=\"{legend}\" fill=\"{colour}\">{name}</text>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_is_a_mark_at_its_place() {
        let mut plot = Plot::default();
        assert_eq!(plot.svg(), None);
        plot.put(10, 1e6, 1e7);
        plot.put(1_000, 1e6, 1e6);
        let svg = plot.svg().unwrap();
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(svg.matches("<polyline").count(), 2, "one panel: nothing was opened");
        // 10 to 1,000 entries and 1 to 10 ms span the panel.
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        assert!(svg.contains(&format!("points=\"{LEFT:.1},{bottom:.1} {right:.1},{bottom:.1}\"")), "{svg}");
        assert!(svg.contains(&format!("points=\"{LEFT:.1},{TOP:.1} {right:.1},{bottom:.1}\"")), "{svg}");
        plot.open(10, 2e6, 1e6);
        assert_eq!(plot.svg().unwrap().matches("<polyline").count(), 4);
    }
}
