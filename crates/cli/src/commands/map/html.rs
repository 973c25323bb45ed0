//! `--html`: a search as one page with plots; no scripts, nothing fetched.

use std::fmt::Write;

use plotters::prelude::*;
use pollux_mapper::search;
use pollux_mapper::timeline::{Timeline, timeline};

use super::Report;
use crate::failure::Failure;

const SIZE: (u32, u32) = (960, 420);
/// Windows of the timeline.
const WINDOWS: usize = 240;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#222}\
pre{font-size:13px;overflow-x:auto}svg{max-width:100%;height:auto}";

const BLUE: RGBColor = RGBColor(0x2b, 0x6c, 0xb0);
const ORANGE: RGBColor = RGBColor(0xdd, 0x6b, 0x20);
const GREEN: RGBColor = RGBColor(0x38, 0xa1, 0x69);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The page.
pub fn page(report: &Report<'_>) -> Result<String, Failure> {
    let title = format!("{} on {}, memory {}", report.problem, report.config.name, report.around.memory);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title>\n<style>{STYLE}</style>\n<h1>{0}</h1>\n<pre>{1}</pre>\n",
        escape(&title),
        escape(&report.text())
    );
    let ran = report.found.candidates.iter().filter(|candidate| candidate.result.is_some()).count();
    let sections = [
        (
            "Candidates",
            format!(
                "The {ran} mappings that ran to their end: cycles against energy. The line is the front that none is better than in both."
            ),
            draw(|area| cloud(report, area))?,
        ),
        (
            "Distribution",
            "The part of them that takes at most so many times the cycles of the best.".to_owned(),
            draw(|area| distribution(report, area))?,
        ),
    ];
    for (heading, text, plot) in sections {
        let _ = write!(page, "<h2>{heading}</h2>\n<p>{text}</p>\n{plot}\n");
    }
    if let Some(result) = report.found.best.result {
        let best = &report.found.best.mapping;
        let line = timeline(report.config, report.problem, best, report.around, (result.cycles, WINDOWS));
        let line = line.map_err(Failure::input)?;
        let _ = write!(
            page,
            "<h2>The best one over time</h2>\n<p>Part of its windows of {} cycles in which a row enters the array, and a beat is read or written.</p>\n{}\n",
            line.window,
            draw(|area| over_time(&line, area))?
        );
    }
    page.push_str("</html>\n");
    Ok(page)
}

fn cloud(report: &Report<'_>, area: &Area<'_>) -> Result<(), String> {
    let microjoules = |pj: f64| pj / 1e6;
    let results = report.found.candidates.iter().filter_map(|candidate| candidate.result);
    let points: Vec<(f64, f64)> = results.map(|r| (r.cycles as f64, microjoules(r.energy_pj))).collect();
    let front: Vec<(f64, f64)> = search::pareto(&report.found.candidates)
        .iter()
        .map(|(_, r)| (r.cycles as f64, microjoules(r.energy_pj)))
        .collect();
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(around(points.iter().map(|p| p.0)), around(points.iter().map(|p| p.1)))
        .map_err(text)?;
    let cycles = |x: &f64| format!("{x:.0}");
    chart.configure_mesh().x_desc("cycles").y_desc("energy, uJ").x_label_formatter(&cycles).draw().map_err(text)?;
    chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, BLUE.filled()))).map_err(text)?;
    chart.draw_series(LineSeries::new(front, GREEN.stroke_width(2))).map_err(text)?;
    let marked = [(&report.found.gemmini, ORANGE, "Gemmini's own rule"), (&report.found.best, GREEN, "found")];
    for (candidate, color, name) in marked {
        let Some(result) = candidate.result else { continue };
        let at = (result.cycles as f64, microjoules(result.energy_pj));
        chart.draw_series([Circle::new(at, 6, color.filled())]).map_err(text)?;
        chart.draw_series([Text::new(name, at, ("sans-serif", 13).into_font())]).map_err(text)?;
    }
    Ok(())
}

fn distribution(report: &Report<'_>, area: &Area<'_>) -> Result<(), String> {
    let mut cycles: Vec<f64> =
        report.found.candidates.iter().filter_map(|c| c.result.map(|r| r.cycles as f64)).collect();
    cycles.sort_by(f64::total_cmp);
    let (least, count) = (cycles.first().copied().unwrap_or(1.0), cycles.len().max(1) as f64);
    let steps = cycles.iter().enumerate().flat_map(|(index, cycles)| {
        let x = cycles / least;
        [(x, index as f64 / count), (x, (index + 1) as f64 / count)]
    });
    let most = cycles.last().copied().unwrap_or(1.0) / least;
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(1.0..most.max(1.001), 0.0..1.0)
        .map_err(text)?;
    chart.configure_mesh().x_desc("cycles over the best's").y_desc("part").draw().map_err(text)?;
    chart.draw_series(LineSeries::new(steps, BLUE.stroke_width(2))).map_err(text)?;
    Ok(())
}

fn over_time(line: &Timeline, area: &Area<'_>) -> Result<(), String> {
    let most = [&line.array, &line.read, &line.written].into_iter().flatten().copied().fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..line.cycles.max(1) as f64, 0.0..most * 1.15)
        .map_err(text)?;
    let cycles = |x: &f64| format!("{x:.0}");
    chart.configure_mesh().x_desc("cycle").y_desc("in use").x_label_formatter(&cycles).draw().map_err(text)?;
    let parts = [("array", &line.array, BLUE), ("read", &line.read, GREEN), ("written", &line.written, ORANGE)];
    for (index, (name, part, color)) in parts.into_iter().enumerate() {
        let points =
            part.iter().enumerate().map(|(window, share)| ((window as f64 + 0.5) * line.window as f64, *share));
        chart.draw_series(LineSeries::new(points, color.stroke_width(2))).map_err(text)?;
        let at = (line.cycles as f64 * (0.02 + 0.1 * index as f64), most * 1.12);
        chart.draw_series([Text::new(name, at, ("sans-serif", 14).into_font().color(&color))]).map_err(text)?;
    }
    Ok(())
}

/// A range around values, with a margin.
fn around(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    if least > most {
        return 0.0..1.0;
    }
    let margin = ((most - least) * 0.08).max(most.abs() * 0.01).max(f64::MIN_POSITIVE);
    least - margin..most + margin
}

fn draw(plot: impl FnOnce(&Area<'_>) -> Result<(), String>) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        plot(&area).map_err(Failure::Input)?;
        area.present().map_err(Failure::input)?;
    }
    Ok(svg)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
