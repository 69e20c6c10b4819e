//! Curves, as SVG inside the page.

use std::ops::Range;

use plotters::chart::ChartBuilder;
use plotters::drawing::IntoDrawingArea;
use plotters::element::Circle;
use plotters::prelude::SVGBackend;
use plotters::series::LineSeries;
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle, TRANSPARENT};

use crate::html::{Html, Part};

/// Units of the drawing; a plot is shown about half as wide, so that curves are finer than a pixel.
const SIZE: (u32, u32) = (800, 460);

/// A line with up to so many points shows each as a dot.
const DOTTED: usize = 60;

/// Colours that stand for the style's own, which are light or dark as the reader chose (page.css names them).
const AXIS: RGBColor = RGBColor(1, 0, 0);
const GRID: RGBColor = RGBColor(1, 0, 1);
const LABEL: RGBColor = RGBColor(1, 0, 2);
const LINES: [RGBColor; 6] = [
    RGBColor(2, 0, 0),
    RGBColor(2, 0, 1),
    RGBColor(2, 0, 2),
    RGBColor(2, 0, 3),
    RGBColor(2, 0, 4),
    RGBColor(2, 0, 5),
];
const SWATCHES: [&str; 6] = [
    "swatch line0",
    "swatch line1",
    "swatch line2",
    "swatch line3",
    "swatch line4",
    "swatch line5",
];

#[derive(Debug, Clone, PartialEq)]
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Curves over one axis of steps. Title and names are HTML; the drawing itself holds numbers alone.
///
/// ```
/// use clip_page::{Page, Plot, Plots};
/// let loss = Plot::new("Loss").line("info_nce", [(1.0, 4.2), (2.0, 3.9)]);
/// let mut page = Page::new("A run", "en");
/// page.add(&Plots::new([loss]));
/// assert!(page.render().contains("<svg"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    title: String,
    lines: Vec<Line>,
}

impl Plot {
    /// A plot without lines yet.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            lines: Vec::new(),
        }
    }

    /// Appends a line through points, by ascending x. It is broken where a value is not finite.
    #[must_use]
    pub fn line(mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.lines.push(Line {
            name: name.into(),
            points: points.into_iter().collect(),
        });
        self
    }

    /// Whether no line has a point that can be drawn.
    pub fn is_empty(&self) -> bool {
        self.points().next().is_none()
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let all = self.lines.iter().flat_map(|line| line.points.iter().copied());
        all.filter(finite)
    }

    /// The least and the most of both coordinates, each a little apart.
    fn ranges(&self) -> (Range<f64>, Range<f64>) {
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
            (low, high)
        };
        let (left, right) = range(&mut self.points().map(|(x, _)| x));
        let (low, high) = range(&mut self.points().map(|(_, y)| y));
        let right = if right > left { right } else { left + 1.0 };
        // A curve that never moves lies in the middle.
        let margin = if high > low {
            (high - low) * 0.05
        } else {
            (low.abs() * 0.1).max(1e-9)
        };
        (left..right, low - margin..high + margin)
    }

    /// The drawing; `None` where there is nothing to draw, or plotters refuses.
    fn svg(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let (xs, ys) = self.ranges();
        let mut out = String::new();
        {
            let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
            let mut chart = ChartBuilder::on(&root)
                .margin_top(16)
                .margin_right(36)
                .margin_bottom(8)
                .x_label_area_size(48)
                .y_label_area_size(100)
                .build_cartesian_2d(xs, ys)
                .ok()?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .x_labels(5)
                .y_labels(5)
                .x_label_formatter(&|x| tick(*x))
                .y_label_formatter(&|y| tick(*y))
                .axis_style(AXIS)
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                // plotters writes 0.8 of the size it is given.
                .label_style(("sans-serif", 30).into_font().color(&LABEL))
                .draw()
                .ok()?;
            for (line, colour) in self.lines.iter().zip(LINES.iter().cycle()) {
                let style = colour.stroke_width(4);
                for piece in line
                    .points
                    .split(|point| !finite(point))
                    .filter(|piece| !piece.is_empty())
                {
                    chart.draw_series(LineSeries::new(piece.iter().copied(), style)).ok()?;
                }
                if line.points.len() <= DOTTED {
                    let dots = line.points.iter().copied().filter(finite);
                    let style: ShapeStyle = colour.filled();
                    chart.draw_series(dots.map(|point| Circle::new(point, 6, style))).ok()?;
                }
            }
            root.present().ok()?;
        }
        Some(out)
    }
}

fn finite((x, y): &(f64, f64)) -> bool {
    x.is_finite() && y.is_finite()
}

/// A number beside an axis, in few characters.
fn tick(value: f64) -> String {
    let size = value.abs();
    // What a sum of steps leaves beside 0.
    if size < 1e-12 {
        return "0".into();
    }
    let trimmed = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    match size {
        1e6.. => format!("{}M", trimmed(format!("{:.2}", value / 1e6))),
        1e4.. => format!("{}k", trimmed(format!("{:.1}", value / 1e3))),
        100.0.. => trimmed(format!("{value:.1}")),
        1.0.. => trimmed(format!("{value:.2}")),
        1e-3.. => trimmed(format!("{value:.4}")),
        _ => {
            let text = format!("{value:.1e}");
            text.replace(".0e", "e")
        }
    }
}

impl Part for Plot {
    fn render(&self, html: &mut Html) {
        html.element("figure", &[("class", "plot")], |html| {
            html.element("figcaption", &[], |html| {
                html.text_element("strong", "", &self.title);
                // One line needs no key unless it says something else than the title.
                let alone = self.lines.len() == 1 && self.lines.first().is_some_and(|line| line.name == self.title);
                for (line, swatch) in self.lines.iter().zip(SWATCHES.iter().cycle()).filter(|_| !alone) {
                    html.element("span", &[("class", "key")], |html| {
                        html.element("span", &[("class", swatch), ("aria-hidden", "true")], |_| {});
                        html.text_element("span", "", &line.name);
                    });
                }
            });
            match self.svg() {
                Some(svg) => {
                    let label = [
                        ("class", "drawing"),
                        ("role", "img"),
                        ("aria-label", self.title.as_str()),
                    ];
                    html.element("div", &label, |html| html.drawing(&svg));
                }
                None => html.text_element("p", "", "–"),
            }
        });
    }
}

/// Plots beside each other, as many as the screen is wide.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plots {
    plots: Vec<Plot>,
}

impl Plots {
    /// Given plots, in order.
    pub fn new(plots: impl IntoIterator<Item = Plot>) -> Self {
        Self {
            plots: plots.into_iter().collect(),
        }
    }
}

impl Part for Plots {
    fn render(&self, html: &mut Html) {
        html.element("div", &[("class", "plots")], |html| {
            self.plots.iter().for_each(|plot| plot.render(html))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(svg: &str, what: &str) -> usize {
        svg.matches(what).count()
    }

    #[test]
    fn a_line_is_broken_where_a_value_is_missing() {
        let points = (0..200).map(|x| (f64::from(x), if x == 100 { f64::NAN } else { f64::from(x) }));
        let svg = Plot::new("loss").line("loss", points).svg().unwrap();
        assert_eq!(count(&svg, "stroke=\"#020000\""), 2, "{svg}");
        assert_eq!(count(&svg, "<circle"), 0);
        let few = Plot::new("").line("", [(1.0, 0.5), (2.0, f64::INFINITY), (3.0, 0.7)]);
        assert_eq!(count(&few.svg().unwrap(), "<circle"), 2);
    }

    #[test]
    fn the_drawing_holds_numbers_alone() {
        let plot = Plot::new("<b>").line("</svg><script>", [(0.0, 1.0), (50.0, 3.0)]);
        let svg = plot.svg().unwrap();
        let mut rest = svg.as_str();
        while let Some((_, text)) = rest.split_once("<text") {
            let (text, behind) = text.split_once("</text>").unwrap();
            let words = text.split_once('>').unwrap().1.trim();
            assert!(words.parse::<f64>().is_ok(), "{words}");
            rest = behind;
        }
        assert!(!svg.contains("script") && !svg.contains("style="));
    }

    #[test]
    fn plots_without_a_spread_and_without_points() {
        for points in [
            vec![(3.0, 2.0)],
            vec![(1.0, 0.0), (2.0, 0.0)],
            vec![(1.0, -5e300), (2.0, 5e300)],
        ] {
            assert!(Plot::new("").line("", points).svg().is_some());
        }
        let nothing = Plot::new("x").line("y", [(1.0, f64::NAN)]);
        assert!(nothing.is_empty() && nothing.svg().is_none() && Plot::new("z").is_empty());
    }

    #[test]
    fn ticks_are_short() {
        let cases = [
            (0.0, "0"),
            (5e-5, "5e-5"),
            (2.5e-4, "2.5e-4"),
            (0.01, "0.01"),
            (3.25, "3.25"),
            (-2.5, "-2.5"),
            (150.0, "150"),
            (4000.0, "4000"),
            (12500.0, "12.5k"),
            (2e6, "2M"),
        ];
        for (value, text) in cases {
            assert_eq!(tick(value), text);
        }
    }
}
