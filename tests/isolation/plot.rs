//! Plots as small SVG files.

use std::path::{Path, PathBuf};

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (800, 360);
/// Above the highest point, for the legend.
const HEADROOM: f64 = 1.4;
const FONT: (&str, u32) = ("sans-serif", 14);
const COLORS: [RGBColor; 6] = [
    RGBColor(110, 110, 110),
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
];

/// Where plots go, if anywhere.
pub struct Plots(pub Option<PathBuf>);

pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    filled: bool,
}

pub struct Axes<'a> {
    pub title: &'a str,
    pub x: &'static str,
    pub y: &'static str,
    /// A horizontal line that matters, with its name.
    pub mark: Option<(&'static str, f64)>,
}

impl Line {
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), points, filled: false }
    }
}

impl Plots {
    pub fn lines(&self, name: &str, axes: &Axes, lines: &[Line]) -> Result<(), String> {
        self.draw(name, |path| {
            let (x, y) = ranges(axes, lines);
            chart(path, axes, (x.0..x.1, 0.0..y.1 * HEADROOM), SeriesLabelPosition::UpperRight, lines)
        })
    }

    /// Both axes logarithmic; every value must be above 0.
    pub fn log_lines(&self, name: &str, axes: &Axes, lines: &[Line]) -> Result<(), String> {
        self.draw(name, |path| {
            let (x, y) = ranges(axes, lines);
            chart(path, axes, ((x.0..x.1).log_scale(), (y.0..y.1).log_scale()), SeriesLabelPosition::LowerLeft, lines)
        })
    }

    /// One bar for each value, from `from` on, each `width` wide.
    pub fn bars(&self, name: &str, axes: &Axes, from: f64, width: f64, counts: &[usize]) -> Result<(), String> {
        let bar = |(slot, count): (usize, &usize)| {
            let (left, height) = (from + width * slot as f64, *count as f64);
            [(left, 0.0), (left, height), (left + width * 0.92, height), (left + width * 0.92, 0.0)]
        };
        let points = counts.iter().enumerate().flat_map(bar).collect();
        self.lines(name, axes, &[Line { name: String::new(), points, filled: true }])
    }

    fn draw(&self, name: &str, draw: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
        let Some(dir) = &self.0 else { return Ok(()) };
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        draw(&dir.join(format!("{name}.svg")))
    }
}

type Range = (f64, f64);

fn ranges(axes: &Axes, lines: &[Line]) -> (Range, Range) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| (low.min(value), high.max(value)))
    };
    let mark = axes.mark.map(|(_, y)| y);
    (range(&mut points().map(|point| point.0)), range(&mut points().map(|point| point.1).chain(mark)))
}

fn chart<X, Y>(
    path: &Path,
    axes: &Axes,
    (x, y): (X, Y),
    legend: SeriesLabelPosition,
    lines: &[Line],
) -> Result<(), String>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(axes.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)
        .map_err(|error| failed(&error))?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(axes.x).y_desc(axes.y).label_style(FONT).axis_desc_style(FONT);
    mesh.x_label_formatter(&label).y_label_formatter(&label);
    mesh.light_line_style(WHITE).draw().map_err(|error| failed(&error))?;
    for (line, color) in lines.iter().zip(COLORS.iter().cycle()) {
        if line.filled {
            let bars = line.points.chunks(4).map(|bar| Polygon::new(bar.to_vec(), color.mix(0.6)));
            chart.draw_series(bars).map_err(|error| failed(&error))?;
            continue;
        }
        let drawn = chart.draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)));
        let drawn = drawn.map_err(|error| failed(&error))?;
        if !line.name.is_empty() {
            drawn.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        }
    }
    if let Some((name, y)) = axes.mark {
        let ends = [chart.x_range().start, chart.x_range().end].map(|x| (x, y));
        let drawn = chart.draw_series(LineSeries::new(ends, BLACK)).map_err(|error| failed(&error))?;
        drawn.label(name).legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK));
    }
    let mut labels = chart.configure_series_labels();
    labels.label_font(FONT).background_style(WHITE.mix(0.8)).border_style(RGBColor(200, 200, 200));
    labels.position(legend).draw().map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that the library asks for")]
fn label(value: &f64) -> String {
    crate::isolation::report::number(*value)
}
