//! Plots of a report as SVG: cycles by operation, and the roofline.

use plotters::prelude::*;

use super::figures::{Figures, OperationFigures, Report};
use crate::error::CompileError;
use crate::operation::OperationClass;

const SIZE: (u32, u32) = (960, 420);

impl Report {
    /// Both plots with their headings.
    pub(super) fn plots(&self) -> Result<String, CompileError> {
        let (bars, roofline) = (draw(|area| self.bars(area))?, draw(|area| self.roofline(area))?);
        Ok(format!("<h2>Cycles by operation</h2>\n{bars}\n<h2>Roofline</h2>\n{roofline}\n"))
    }

    /// A bar for each operation of a layer, summed over the layers.
    fn bars(&self, area: &Area<'_>) -> Result<(), String> {
        let most = self.parts.iter().map(|part| part.cycles).max().unwrap_or(1) as f64;
        let count = self.parts.len();
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(150)
            .build_cartesian_2d(0.0..most * 1.05, 0.0..count.max(1) as f64)
            .map_err(text)?;
        let name = |y: &f64| {
            let index = (count as f64 - y).floor() as usize;
            self.parts.get(index).map_or_else(String::new, Figures::marked_name)
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_desc("cycles, all layers")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()
            .map_err(text)?;
        for (index, part) in self.parts.iter().enumerate() {
            let y = (count - index) as f64;
            let bar =
                Rectangle::new([(0.0, y - 0.85), (part.cycles as f64, y - 0.15)], color(self.class_of(part)).filled());
            let label = Text::new(name(&(y - 0.5)), (0.0, y - 0.35), ("sans-serif", 13).into_font());
            chart.draw_series([bar]).map_err(text)?;
            chart.draw_series([label]).map_err(text)?;
        }
        Ok(())
    }

    fn class_of(&self, part: &Figures) -> OperationClass {
        let of_part = |o: &&OperationFigures| crate::plan::part(&o.figures.name) == part.name;
        self.operations.iter().find(of_part).map_or(OperationClass::Matmul, |o| o.class)
    }

    /// Multiply-accumulates a cycle over intensity, both logarithmic, under the limits of array and port.
    fn roofline(&self, area: &Area<'_>) -> Result<(), String> {
        let peak = self.macs_per_cycle as f64;
        let bandwidth = self.bytes_per_cycle as f64;
        let points = self.parts.iter().filter(|p| p.macs > 0 && p.cycles > 0 && p.intensity > 0.0);
        let points: Vec<_> =
            points.map(|p| (p.intensity, p.macs as f64 / p.cycles as f64, self.class_of(p), p.name.clone())).collect();
        let low = points.iter().map(|p| p.0).fold(1.0, f64::min) / 2.0;
        let high = points.iter().map(|p| p.0).fold(peak / bandwidth, f64::max) * 4.0;
        let floor = points.iter().map(|p| p.1).fold(peak, f64::min) / 4.0;
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((low..high).log_scale(), (floor..peak * 2.0).log_scale())
            .map_err(text)?;
        chart.configure_mesh().x_desc("MACs per byte").y_desc("MACs per cycle").draw().map_err(text)?;
        let knee = peak / bandwidth;
        let roof = [(low, low * bandwidth), (knee, peak), (high, peak)];
        let roof = roof.into_iter().map(|(x, y): (f64, f64)| (x, y.max(floor)));
        chart.draw_series(LineSeries::new(roof, BLACK.stroke_width(2))).map_err(text)?;
        for (x, y, class, name) in points {
            chart.draw_series([Circle::new((x, y), 5, color(class).filled())]).map_err(text)?;
            chart.draw_series([Text::new(name, (x * 1.06, y), ("sans-serif", 12).into_font())]).map_err(text)?;
        }
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(plot: impl FnOnce(&Area<'_>) -> Result<(), String>) -> Result<String, CompileError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        plot(&area).map_err(CompileError::Plot)?;
        area.present().map_err(|error| CompileError::Plot(error.to_string()))?;
    }
    Ok(svg)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn color(class: OperationClass) -> RGBColor {
    match class {
        OperationClass::Matmul => RGBColor(0x2b, 0x6c, 0xb0),
        OperationClass::Nonlinear => RGBColor(0xdd, 0x6b, 0x20),
        OperationClass::DataMovement => RGBColor(0x38, 0xa1, 0x69),
    }
}
