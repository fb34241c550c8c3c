//! The picture: for each figure every contender's rounds as dots, a colour for each case.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, IntoDrawingArea, IntoFont, RGBColor, SVGBackend, Text, WHITE,
};
use plotters::style::Color;

use super::record::{Point, Run};
use super::report::{SHOWN, Shown};
use crate::plot::{Area, Drawn, lane, name_at};

const WIDTH: u32 = 1280;
const PANEL_HEIGHT: u32 = 300;
const COLUMNS: usize = 2;
const DOT: u32 = 4;
/// Room for the contenders' names.
const NAMES: u32 = 130;
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(255, 127, 14), RGBColor(44, 160, 44), RGBColor(148, 103, 189)];
/// The figures that are drawn; the tables have all.
const DRAWN: [&str; 5] = ["per_second", "cpu_us", "mb_per_second", "cpu_s_per_gb", "kb_per_session"];

/// Draws it to an SVG file.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(run: &Run, file: &Path) -> Result<()> {
    let panels: Vec<&Shown> = SHOWN
        .iter()
        .filter(|shown| DRAWN.contains(&shown.figure) && !run.cases(shown.scenario.name()).is_empty())
        .collect();
    let rows = panels.len().div_ceil(COLUMNS).max(1);
    let height = PANEL_HEIGHT * u32::try_from(rows)?;
    let backend = SVGBackend::new(file, (WIDTH, height));
    draw_on(run, &panels, backend).map_err(|error| anyhow!("drawing {}: {error}", file.display()))
}

fn draw_on<'a>(run: &Run, panels: &[&Shown], backend: SVGBackend<'a>) -> Drawn<'a, ()> {
    let root = backend.into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((panels.len().div_ceil(COLUMNS).max(1), COLUMNS));
    for (shown, area) in panels.iter().zip(&areas) {
        draw_panel(run, shown, area)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel<'a>(run: &Run, shown: &Shown, area: &Area<'a>) -> Drawn<'a, ()> {
    let scenario = shown.scenario.name();
    let cases = run.cases(scenario);
    let values = |case, contender: &str| {
        run.values(Point { scenario, case, figure: shown.figure }, contender).into_values()
    };
    let has_some = |contender: &&String| cases.iter().any(|case| values(case, contender).len() > 0);
    let names: Vec<String> = run.contenders.iter().filter(has_some).cloned().collect();
    let all = cases.iter().flat_map(|case| names.iter().flat_map(|name| values(case, name)));
    let most = all.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let (charts, legend) = area.split_vertically(PANEL_HEIGHT - 22);
    let last = 2 * names.len();
    let mut chart = ChartBuilder::on(&charts)
        .caption(shown.title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..most * 1.05, 0.0..lane(last))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(last + 1)
        .y_label_formatter(&|y| name_at(&names, *y))
        .light_line_style(BLACK.mix(0.05))
        .bold_line_style(BLACK.mix(0.15))
        .label_style(("sans-serif", 12))
        .draw()?;
    for (row, name) in names.iter().enumerate() {
        for (number, (case, colour)) in cases.iter().zip(COLOURS.iter().cycle()).enumerate() {
            // The cases one below the other within the contender's lane of two units.
            let y = lane(2 * (names.len() - row)) - 2.0 * lane(number + 1) / (lane(cases.len()) + 1.0);
            let dots = values(case, name).map(|value| Circle::new((value, y), DOT, colour.mix(0.7).filled()));
            chart.draw_series(dots.collect::<Vec<_>>())?;
        }
    }
    draw_legend(&cases, &legend)
}

fn draw_legend<'a>(cases: &[&str], area: &Area<'a>) -> Drawn<'a, ()> {
    let mut x = i32::try_from(NAMES)?;
    for (case, colour) in cases.iter().zip(COLOURS.iter().cycle()) {
        area.draw(&Circle::new((x, 8), DOT, colour.filled()))?;
        area.draw(&Text::new((*case).to_owned(), (x + 9, 2), ("sans-serif", 12).into_font()))?;
        x += 30 + 7 * i32::try_from(case.chars().count())?;
    }
    Ok(())
}
