//! Figures as data, and as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use crate::setting::StudyError;

/// Size in pixels.
const SIZE: (u32, u32) = (900, 440);
const FONT: &str = "sans-serif";
/// Colours of series, told apart by readers who do not see all of them (Okabe and Ito).
const COLORS: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x66, 0x66, 0x66),
    RGBColor(0x00, 0x00, 0x00),
];
/// Decades that a logarithmic axis of bars has at least below its smallest bar.
const BELOW: f64 = 0.3;

/// A figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Name of its file.
    pub id: String,
    /// Heading.
    pub title: String,
    /// Horizontal axis.
    pub x: Scale,
    /// Vertical axis.
    pub y: Scale,
    /// What is drawn.
    pub kind: Kind,
}

/// An axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// What it shows.
    pub label: String,
    /// Logarithmic.
    #[serde(default)]
    pub log: bool,
}

impl Scale {
    /// A linear axis.
    pub fn linear(label: &str) -> Self {
        Self { label: label.to_owned(), log: false }
    }

    /// A logarithmic axis.
    pub fn log(label: &str) -> Self {
        Self { label: label.to_owned(), log: true }
    }

    fn place(&self, value: f64) -> f64 {
        if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value }
    }

    fn text(&self, place: f64) -> String {
        let value = if self.log { 10f64.powf(place) } else { place };
        crate::verdict::short(value)
    }
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A line a series.
    Lines(Vec<Series>),
    /// Points.
    Points(Vec<Series>),
    /// Bars side by side, or on top of each other, for each category.
    Bars {
        /// Categories.
        categories: Vec<String>,
        /// Values a series, one a category.
        series: Vec<(String, Vec<f64>)>,
        /// On top of each other.
        stacked: bool,
    },
    /// A field of numbers, coloured by their sign and size.
    Heat {
        /// Names of the columns.
        columns: Vec<String>,
        /// Names of the rows.
        rows: Vec<String>,
        /// Values row by row; none where there is nothing.
        values: Vec<Vec<Option<f64>>>,
    },
}

/// A line or some points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name.
    pub name: String,
    /// Points.
    pub points: Vec<[f64; 2]>,
}

impl Series {
    /// A series.
    pub fn new(name: impl Into<String>, points: Vec<[f64; 2]>) -> Self {
        Self { name: name.into(), points }
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), String>;

impl Figure {
    /// The figure as SVG.
    ///
    /// # Errors
    /// A figure that cannot be drawn.
    pub fn svg(&self) -> Result<String, StudyError> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE).map_err(|error| StudyError::Plot(text(error)))?;
            let drawn = match &self.kind {
                Kind::Lines(series) => self.curves(&area, series, true),
                Kind::Points(series) => self.curves(&area, series, false),
                Kind::Bars { categories, series, stacked } => self.bars(&area, categories, series, *stacked),
                Kind::Heat { columns, rows, values } => heat(&area, columns, rows, values, &self.title),
            };
            drawn.and_then(|()| area.present().map_err(text)).map_err(StudyError::Plot)?;
        }
        Ok(svg)
    }

    fn curves(&self, area: &Area<'_>, series: &[Series], lines: bool) -> Drawn {
        let places = |axis: usize, scale: &Scale| {
            let all: Vec<f64> = series.iter().flat_map(|s| &s.points).map(|point| scale.place(point[axis])).collect();
            range(&all, scale.log)
        };
        let (x, y) = (places(0, &self.x), places(1, &self.y));
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 17))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)
            .map_err(text)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|place| self.x.text(*place))
            .y_label_formatter(&|place| self.y.text(*place))
            .draw()
            .map_err(text)?;
        for (index, one) in series.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            let points: Vec<(f64, f64)> =
                one.points.iter().map(|[px, py]| (self.x.place(*px), self.y.place(*py))).collect();
            if lines {
                chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2))).map_err(text)?;
            }
            let radius = if lines { 3 } else { 2 };
            let few = !lines || points.len() <= 24;
            let dots = points.iter().filter(|_| few).map(|point| Circle::new(*point, radius, color.filled()));
            let drawn = chart.draw_series(dots).map_err(text)?;
            drawn
                .label(&one.name)
                .legend(move |(lx, ly)| Rectangle::new([(lx, ly - 4), (lx + 12, ly + 4)], color.filled()));
        }
        legend(&mut chart, series.len())
    }

    fn bars(&self, area: &Area<'_>, categories: &[String], series: &[(String, Vec<f64>)], stacked: bool) -> Drawn {
        let (low, high) = self.extent(categories.len(), series, stacked);
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 17))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..categories.len() as f64, low..high)
            .map_err(text)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_labels(0)
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .y_label_formatter(&|place| self.y.text(*place))
            .draw()
            .map_err(text)?;
        let mut tops = vec![0.0; categories.len()];
        for (index, (name, values)) in series.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            let width = if stacked { 0.7 } else { 0.8 / series.len() as f64 };
            let bars = values.iter().enumerate().map(|(category, value)| {
                let left = category as f64 + if stacked { 0.15 } else { 0.1 + width * index as f64 };
                let (from, to) = if stacked { (tops[category], tops[category] + value) } else { (0.0, *value) };
                let foot = if self.y.log { low } else { from };
                Rectangle::new([(left, foot), (left + width * 0.95, self.y.place(to))], color.filled())
            });
            let bars: Vec<_> = bars.collect();
            let drawn = chart.draw_series(bars).map_err(text)?;
            drawn.label(name).legend(move |(lx, ly)| Rectangle::new([(lx, ly - 4), (lx + 12, ly + 4)], color.filled()));
            if stacked {
                values.iter().enumerate().for_each(|(category, value)| tops[category] += value);
            }
        }
        let names = categories.iter().enumerate();
        let size = if categories.len() > 10 { 9 } else { 12 };
        let labels = names.map(|(index, name)| {
            let (pixel, _) = chart.backend_coord(&(index as f64 + 0.5, low));
            (name, pixel)
        });
        let labels: Vec<_> = labels.collect();
        legend(&mut chart, series.len())?;
        for (name, pixel) in labels {
            let style = (FONT, size).into_font().into_text_style(area);
            let (wide, _) = area.estimate_text_size(name, &style).map_err(text)?;
            area.draw_text(name, &style, (pixel - wide as i32 / 2, SIZE.1 as i32 - 50)).map_err(text)?;
        }
        Ok(())
    }

    fn extent(&self, categories: usize, series: &[(String, Vec<f64>)], stacked: bool) -> (f64, f64) {
        let tops: Vec<f64> = match stacked {
            true => (0..categories).map(|at| series.iter().filter_map(|(_, values)| values.get(at)).sum()).collect(),
            false => series.iter().flat_map(|(_, values)| values.iter().copied()).collect(),
        };
        let places: Vec<f64> = tops.iter().map(|top| self.y.place(*top)).collect();
        let (least, most) = range(&places, self.y.log);
        match self.y.log {
            true => (least.min(0.0) - BELOW, most),
            false => (least.min(0.0), most.max(0.0)),
        }
    }
}

/// Where an axis begins and ends: a little around the places, from 0 if it is linear and nothing is below.
fn range(places: &[f64], log: bool) -> (f64, f64) {
    let finite = || places.iter().copied().filter(|place| place.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        return (0.0, 1.0);
    }
    let air = ((high - low) * 0.08).max(if log { 0.05 } else { 1e-9 });
    if !log && low >= 0.0 { (0.0, high + air) } else { (low - air, high + air) }
}

fn legend<'a>(chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedF64, RangedF64>>, series: usize) -> Drawn {
    if series < 2 {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(0xcc, 0xcc, 0xcc))
        .label_font((FONT, 12))
        .draw()
        .map_err(text)
}

type RangedF64 = plotters::coord::types::RangedCoordf64;

/// Orange where something is gained by leaving it, blue where by doing it: below 0 is a gain.
fn shade(value: f64, most: f64) -> RGBColor {
    let part = (value.abs() / most.max(1e-9)).min(1.0).sqrt();
    let base = if value <= 0.0 { COLORS[0] } else { COLORS[1] };
    let mix = |channel: u8| (255.0 - part * 0.8 * (255.0 - f64::from(channel))).round() as u8;
    RGBColor(mix(base.0), mix(base.1), mix(base.2))
}

fn heat(area: &Area<'_>, columns: &[String], rows: &[String], values: &[Vec<Option<f64>>], title: &str) -> Drawn {
    let (left, top) = (210, 70);
    let width = (SIZE.0 as i32 - left - 20) / columns.len().max(1) as i32;
    let height = (SIZE.1 as i32 - top - 20) / rows.len().max(1) as i32;
    let style = |size: i32| (FONT, size).into_font().into_text_style(area);
    let centred = |words: &str, size: i32, (x, y): (i32, i32)| -> Drawn {
        let style = style(size);
        let (wide, high) = area.estimate_text_size(words, &style).map_err(text)?;
        area.draw_text(words, &style, (x - wide as i32 / 2, y - high as i32 / 2)).map_err(text)
    };
    centred(title, 17, (SIZE.0 as i32 / 2, 22))?;
    let most = values.iter().flatten().flatten().fold(0.0f64, |most, value| most.max(value.abs()));
    for (c, name) in columns.iter().enumerate() {
        centred(name, 12, (left + c as i32 * width + width / 2, top - 14))?;
    }
    for (r, name) in rows.iter().enumerate() {
        let y = top + r as i32 * height;
        area.draw_text(name, &style(12), (12, y + height / 2 - 6)).map_err(text)?;
        for (c, value) in values.get(r).into_iter().flatten().enumerate() {
            let corner = (left + c as i32 * width, y);
            let color = value.map_or(RGBColor(0xee, 0xee, 0xee), |value| shade(value, most));
            let cell = [corner, (corner.0 + width - 2, corner.1 + height - 2)];
            area.draw(&Rectangle::new(cell, color.filled())).map_err(text)?;
            let words = value.map_or_else(|| "-".to_owned(), |value| format!("{value:+.0}"));
            centred(&words, 12, (corner.0 + width / 2, corner.1 + height / 2))?;
        }
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(kind: Kind, log: bool) -> Figure {
        let scale = |label| Scale { label: String::from(label), log };
        Figure { id: "f".into(), title: "title <&>".into(), x: scale("across"), y: scale("up"), kind }
    }

    #[test]
    fn every_kind_is_drawn_with_its_names() {
        let series = || vec![Series::new("one", vec![[1.0, 2.0], [10.0, 3.0]]), Series::new("two", vec![[2.0, 5.0]])];
        let bars = |stacked| Kind::Bars {
            categories: vec!["left".into(), "right".into()],
            series: vec![("one".into(), vec![1.0, 20.0]), ("two".into(), vec![3.0, 4.0])],
            stacked,
        };
        let heat = Kind::Heat {
            columns: vec!["left".into()],
            rows: vec!["one".into(), "two".into()],
            values: vec![vec![Some(-12.4)], vec![None]],
        };
        for (kind, log, words) in [
            (Kind::Lines(series()), true, ["one", "two", "across"]),
            (Kind::Points(series()), false, ["one", "two", "up"]),
            (bars(true), false, ["left", "right", "two"]),
            (bars(false), true, ["left", "right", "one"]),
            (heat, false, ["-12", "one", "left"]),
        ] {
            let svg = figure(kind, log).svg().unwrap();
            assert!(svg.starts_with("<svg") && svg.contains("title &lt;&amp;&gt;"), "{svg}");
            words.iter().for_each(|word| assert!(svg.contains(word), "{word}: {svg}"));
        }
    }

    #[test]
    fn a_figure_without_points_is_drawn_as_well() {
        assert!(figure(Kind::Lines(Vec::new()), true).svg().is_ok());
    }
}
