//! Charts: a panel for each figure, with a row for each setup and a dot for each measurement.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, DrawingArea, IntoDrawingArea, IntoFont, IntoLogRange, PathElement, RGBColor,
    Ranged, SVGBackend, Text, WHITE,
};
use plotters::style::Color;

use crate::statistics::NEVER;

const COLUMNS: usize = 2;
const PANEL: (u32, u32) = (640, 300);
const LEGEND_HEIGHT: u32 = 22;
/// Room for the names of the rows.
const NAMES_WIDTH: u32 = 130;
const DOT: u32 = 4;
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 39, 40), RGBColor(44, 160, 44), RGBColor(148, 103, 189)];
/// Where [`NEVER`] is drawn on a logarithmic axis of milliseconds.
const NEVER_MS: f64 = 300_000.0;

/// The axis of a panel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// From zero.
    Linear,
    /// Logarithmic, in milliseconds, from this value to "never".
    LogMs(f64),
}

/// One panel.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    title: String,
    scale: Scale,
    rows: Vec<String>,
    series: Vec<String>,
    dots: Vec<Dot>,
}

#[derive(Clone, Copy, Debug)]
struct Dot {
    row: usize,
    series: usize,
    value: f64,
    hollow: bool,
}

impl Panel {
    pub(crate) fn new(title: &str, scale: Scale, rows: &[&str], series: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self { title: title.to_owned(), scale, rows: owned(rows), series: owned(series), dots: Vec::new() }
    }

    /// Adds a dot to a row, in the colour of a series.
    pub(crate) fn dot(&mut self, row: usize, series: usize, value: f64, hollow: bool) {
        self.dots.push(Dot { row, series, value, hollow });
    }

    /// Every row has two units of height, with its name in the middle, and the series below each other.
    fn y(&self, dot: &Dot) -> f64 {
        number(2 * (self.rows.len() - dot.row)) - 2.0 * number(dot.series + 1) / number(self.series.len() + 1)
    }

    fn name_at(&self, y: f64) -> String {
        let row = (0..self.rows.len()).find(|row| (number(2 * (self.rows.len() - row) - 1) - y).abs() < 0.01);
        row.and_then(|row| self.rows.get(row)).cloned().unwrap_or_default()
    }

    fn x(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::LogMs(_) if value == NEVER => NEVER_MS,
            Scale::LogMs(from) => value.max(from),
        }
    }

    fn label(&self, value: f64) -> String {
        match self.scale {
            Scale::Linear => value.to_string(),
            Scale::LogMs(_) if value < 1000.0 => format!("{value} ms"),
            Scale::LogMs(_) => format!("{} s", value / 1000.0),
        }
    }
}

/// Draws panels to an SVG file.
pub(crate) fn draw(panels: &[Panel], file: &Path) -> Result<()> {
    let columns = panels.len().clamp(1, COLUMNS);
    let rows = panels.len().div_ceil(columns).max(1);
    let size = (PANEL.0 * u32::try_from(columns)?, PANEL.1 * u32::try_from(rows)?);
    let root = SVGBackend::new(file, size).into_drawing_area();
    draw_all(panels, &root, (rows, columns)).map_err(|error| anyhow!("drawing {}: {error}", file.display()))
}

type Drawn<'a> = std::result::Result<(), Box<dyn std::error::Error + 'a>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_all<'a>(panels: &[Panel], root: &Area<'a>, split: (usize, usize)) -> Drawn<'a> {
    root.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(&root.split_evenly(split)) {
        let (chart, legend) = area.split_vertically(PANEL.1 - LEGEND_HEIGHT);
        match panel.scale {
            Scale::Linear => {
                let highest = panel.dots.iter().map(|dot| dot.value).fold(f64::MIN_POSITIVE, f64::max);
                draw_panel(panel, &chart, 0.0..highest * 1.05)?;
            }
            Scale::LogMs(from) => draw_panel(panel, &chart, (from..2.0 * NEVER_MS).log_scale())?,
        }
        draw_legend(panel, &legend)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel<'a, X>(panel: &Panel, area: &Area<'a>, x: X) -> Drawn<'a>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let top = 2 * panel.rows.len();
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(NAMES_WIDTH)
        .build_cartesian_2d(x, 0.0..number(top))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(top + 1)
        .y_label_formatter(&|y| panel.name_at(*y))
        .x_label_formatter(&|x| panel.label(*x))
        .light_line_style(BLACK.mix(0.05))
        .bold_line_style(BLACK.mix(0.15))
        .label_style(("sans-serif", 12))
        .draw()?;
    if panel.scale != Scale::Linear {
        let line = [(NEVER_MS, 0.0), (NEVER_MS, number(top))];
        chart.draw_series([PathElement::new(line, BLACK.mix(0.3))])?;
        chart.draw_series([Text::new("never", (NEVER_MS, number(top)), ("sans-serif", 12).into_font())])?;
    }
    let dots = panel.dots.iter().map(|dot| {
        let colour = colour_of(dot.series);
        let style = if dot.hollow { colour.stroke_width(1) } else { colour.mix(0.7).filled() };
        Circle::new((panel.x(dot.value), panel.y(dot)), DOT, style)
    });
    chart.draw_series(dots.collect::<Vec<_>>())?;
    Ok(())
}

fn draw_legend<'a>(panel: &Panel, area: &Area<'a>) -> Drawn<'a> {
    let mut x = i32::try_from(NAMES_WIDTH)?;
    for (number, name) in panel.series.iter().enumerate() {
        area.draw(&Circle::new((x, 8), DOT, colour_of(number).filled()))?;
        area.draw(&Text::new(name.clone(), (x + 9, 2), ("sans-serif", 12).into_font()))?;
        x += 30 + 7 * i32::try_from(name.chars().count())?;
    }
    Ok(())
}

fn colour_of(series: usize) -> RGBColor {
    COLOURS[series % COLOURS.len()]
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_middle_of_their_rows_and_the_first_is_on_top() {
        let panel = Panel::new("x", Scale::Linear, &["a", "b"], &["only"]);
        assert_eq!([3.0, 1.0, 2.0].map(|y| panel.name_at(y)), ["a", "b", ""]);
        assert_eq!(panel.y(&Dot { row: 0, series: 0, value: 1.0, hollow: false }), 3.0);
    }
}
