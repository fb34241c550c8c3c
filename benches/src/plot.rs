//! The picture: for each contender every event's resumption and gap as a dot, on logarithmic axes.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, DrawingArea, IntoDrawingArea, IntoFont, IntoLogRange, PathElement, RGBColor,
    SVGBackend, Text, WHITE,
};
use plotters::style::{Color, ShapeStyle};

use crate::results::{Kind, Run, Seen};

const SIZE: (u32, u32) = (960, 640);
const SWITCHOVER: RGBColor = RGBColor(31, 119, 180);
const DEATH: RGBColor = RGBColor(214, 39, 40);
const DOT: u32 = 4;
/// Room for the contenders' names.
const NAMES: u32 = 150;
/// Where "never" is drawn, right of every time that can be measured.
const NEVER_MS: f64 = 300_000.0;

struct Panel {
    title: &'static str,
    from_ms: f64,
    value: fn(&Seen) -> Option<f64>,
}

const RESUMED: Panel = Panel {
    title: "From the new leader's leaving recovery to the first acknowledged write",
    from_ms: 0.5,
    value: Seen::resumed_ms,
};
const GAP: Panel = Panel {
    title: "Longest time without an acknowledged write",
    from_ms: 500.0,
    value: |seen| (!seen.gap_open).then_some(seen.gap_ms),
};

/// Draws it to an SVG file.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(run: &Run, file: &Path) -> Result<()> {
    draw_on(run, SVGBackend::new(file, SIZE)).map_err(|error| anyhow!("drawing {}: {error}", file.display()))
}

pub(crate) type Drawn<'a, T> = std::result::Result<T, Box<dyn std::error::Error + 'a>>;
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_on<'a>(run: &Run, backend: SVGBackend<'a>) -> Drawn<'a, ()> {
    let root = backend.into_drawing_area();
    root.fill(&WHITE)?;
    let (legend, charts) = root.split_vertically(34);
    draw_legend(&legend)?;
    let halves = charts.split_evenly((2, 1));
    for (panel, area) in [RESUMED, GAP].iter().zip(&halves) {
        draw_panel(run, panel, area)?;
    }
    root.present()?;
    Ok(())
}

fn draw_legend<'a>(area: &Area<'a>) -> Drawn<'a, ()> {
    let font = ("sans-serif", 14).into_font();
    for (x, colour, words) in [(NAMES, SWITCHOVER, "switchover"), (NAMES + 120, DEATH, "leader death")] {
        let x = i32::try_from(x)?;
        area.draw(&Circle::new((x, 18), DOT, colour.filled()))?;
        area.draw(&Text::new(words, (x + 10, 11), font.clone()))?;
    }
    let words =
        "at \"never\": not before the watching ended.  Hollow: it did not serve before the event either.";
    area.draw(&Text::new(words, (i32::try_from(NAMES + 250)?, 11), font))?;
    Ok(())
}

fn draw_panel<'a>(run: &Run, panel: &Panel, area: &Area<'a>) -> Drawn<'a, ()> {
    let rows = run.contenders.len();
    let names = run.contenders.clone();
    let last = 2 * rows;
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(NAMES)
        .build_cartesian_2d((panel.from_ms..2.0 * NEVER_MS).log_scale(), 0.0..lane(last))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(last + 1)
        .y_label_formatter(&|y| name_at(&names, *y))
        .x_label_formatter(&|ms| axis_label(*ms))
        .x_labels(12)
        .light_line_style(BLACK.mix(0.05))
        .bold_line_style(BLACK.mix(0.15))
        .label_style(("sans-serif", 13))
        .draw()?;
    let never = [(NEVER_MS, 0.0), (NEVER_MS, lane(last))];
    chart.draw_series([PathElement::new(never, BLACK.mix(0.3))])?;
    chart.draw_series([Text::new("never", (NEVER_MS, lane(last)), ("sans-serif", 13).into_font())])?;
    for (row, contender) in run.contenders.iter().enumerate() {
        for (kind, colour, up) in [(Kind::Switchover, SWITCHOVER, 0.2), (Kind::Death, DEATH, -0.2)] {
            let y = lane(2 * (rows - row) - 1) + up;
            let dots = run.seen(contender, kind).map(|seen| {
                let ms = (panel.value)(seen).map_or(NEVER_MS, |ms| ms.max(panel.from_ms));
                Circle::new((ms, y), DOT, style(colour, seen.worked_before))
            });
            chart.draw_series(dots.collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

fn style(colour: RGBColor, worked_before: bool) -> ShapeStyle {
    if worked_before { colour.mix(0.7).filled() } else { colour.stroke_width(1) }
}

/// Every contender has two units of height, its name in the middle.
pub(crate) fn lane(half_rows: usize) -> f64 {
    u32::try_from(half_rows).map_or(0.0, f64::from)
}

pub(crate) fn name_at(names: &[String], y: f64) -> String {
    let row = (1..=names.len()).find(|row| (lane(2 * row - 1) - y).abs() < 0.01);
    row.and_then(|row| names.get(names.len() - row)).cloned().unwrap_or_default()
}

fn axis_label(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms} ms") } else { format!("{} s", ms / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_middle_of_their_lanes_first_on_top() {
        let names = ["x".to_owned(), "y".to_owned()];
        assert_eq!(
            (name_at(&names, 3.0), name_at(&names, 1.0), name_at(&names, 2.0)),
            ("x".into(), "y".into(), String::new())
        );
    }
}
