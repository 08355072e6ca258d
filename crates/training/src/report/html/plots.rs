//! The plots of a page as SVG.
//!
//! Drawn by plotters with its SVG backend alone, so that no font file is read: the page's own
//! fonts show the texts. Colours are few fixed values, which the page's style sheet gives
//! other values by the reader's preference for light or dark.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use crate::options::Metric;
use crate::report::{
    LearningCurve, RefusalPoint, ReliabilityBin, Report, TrialEnding, TrialReport,
};

const WIDTH: u32 = 560;
const HEIGHT: u32 = 320;
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const ACCENT: RGBColor = RGBColor(0x1f, 0x6f, 0xb2);
const SECOND: RGBColor = RGBColor(0xc8, 0x70, 0x2a);
const MUTED: RGBColor = RGBColor(0x88, 0x88, 0x88);
const FONT: (&str, i32) = ("sans-serif", 15);
/// Points drawn of a kind at most: more are a blot of ink and hundreds of kilobytes.
const MOST_POINTS: usize = 1200;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;
/// Drawing into memory fails only where a plot has no extent, which [`range`] keeps from being.
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Every trial's score when it ended, and the best so far among those over all folds.
pub fn score_over_time(report: &Report) -> Option<String> {
    let seconds = |trial: &TrialReport| {
        let passed = trial.ended_at.as_millis().saturating_sub(report.started_at.as_millis());
        passed as f64 / 1e3
    };
    let mut points: Vec<(f64, f64)> = report
        .trials
        .iter()
        .map(|trial| (seconds(trial), shown(report.metric, trial.score)))
        .filter(|(_, score)| score.is_finite())
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let last = points.last()?.0;
    let mut complete: Vec<(f64, f64)> = report
        .trials
        .iter()
        .filter(|trial| trial.ending == TrialEnding::Complete)
        .map(|trial| (seconds(trial), shown(report.metric, trial.score)))
        .filter(|(_, score)| score.is_finite())
        .collect();
    complete.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (unit, label) = if last > 180.0 { (60.0, "minutes") } else { (1.0, "seconds") };
    points.iter_mut().chain(&mut complete).for_each(|point| point.0 /= unit);
    let mut best: Vec<(f64, f64)> = Vec::new();
    for &(at, score) in &complete {
        let before = best.last().map(|best| best.1);
        let is_better = before.is_none_or(|before| match report.metric {
            Metric::LogLoss => score < before,
            _ => score > before,
        });
        if let Some(before) = before {
            best.push((at, before));
        }
        if is_better {
            best.push((at, score));
        }
    }
    let scores = inner_range(points.iter().map(|point| point.1), report.metric);
    points.iter_mut().for_each(|point| point.1 = point.1.clamp(scores.start, scores.end));
    best.iter_mut().for_each(|point| point.1 = point.1.clamp(scores.start, scores.end));
    points.truncate(MOST_POINTS);
    drawn("Score of each trial against time", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(40)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..(last / unit * 1.03).max(1e-3), scores.clone())?;
        axes(&mut chart, label, &score_label(report.metric))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, MUTED.filled())))?;
        chart.draw_series(LineSeries::new(best.iter().copied(), ACCENT.stroke_width(2)))?;
        let ends = complete.iter().map(|&(at, score)| (at, score.clamp(scores.start, scores.end)));
        chart.draw_series(ends.map(|point| Circle::new(point, 4, ACCENT.filled())))?;
        Ok(())
    })
}

/// Every trial's score against the size of its head; members of the ensemble stand out.
pub fn score_against_size(report: &Report) -> Option<String> {
    let is_member =
        |trial: &TrialReport| report.members.iter().any(|member| member.trial == trial.number);
    let points: Vec<(f64, f64, bool)> = report
        .trials
        .iter()
        .filter(|trial| trial.score.is_finite() && trial.head_bytes > 0)
        .map(|trial| {
            let kib = trial.head_bytes as f64 / 1024.0;
            (kib, shown(report.metric, trial.score), is_member(trial))
        })
        .take(MOST_POINTS)
        .collect();
    let sizes = || points.iter().map(|point| point.0);
    let (least, most) = (sizes().reduce(f64::min)?, sizes().reduce(f64::max)?);
    if most < 1.5 * least {
        return None;
    }
    let scores = inner_range(points.iter().map(|point| point.1), report.metric);
    drawn("Score of each trial against the size of its weights", |area| {
        let place = |point: &(f64, f64, bool)| (point.0, point.1.clamp(scores.start, scores.end));
        let others: Vec<(f64, f64)> = points.iter().filter(|point| !point.2).map(place).collect();
        let members: Vec<(f64, f64)> = points.iter().filter(|point| point.2).map(place).collect();
        let dots = [
            Dots { places: &others, radius: 3, colour: MUTED.to_rgba() },
            Dots { places: &members, radius: 6, colour: ACCENT.to_rgba() },
        ];
        scatter(
            area,
            least..most,
            scores.clone(),
            "KiB of weights",
            &score_label(report.metric),
            &dots,
        )
    })
}

/// How the ensemble's score rose with each member.
pub fn ensemble(report: &Report) -> Option<String> {
    let scores: Vec<(f64, f64)> = report
        .members
        .iter()
        .enumerate()
        .map(|(at, member)| ((at + 1) as f64, shown(report.metric, member.score_with)))
        .filter(|point| point.1.is_finite())
        .collect();
    if scores.len() < 2 {
        return None;
    }
    let range = range(scores.iter().map(|point| point.1), 0.2);
    drawn("Score of the ensemble as members joined", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(40)
            .y_label_area_size(62)
            .build_cartesian_2d(0.5..scores.len() as f64 + 0.5, range)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .disable_x_mesh()
            .axis_style(INK)
            .label_style(FONT)
            .x_labels(scores.len())
            .y_labels(6)
            .x_desc("members")
            .y_desc(score_label(report.metric))
            .y_label_formatter(&tick)
            .x_label_formatter(&|at| {
                if at.fract() == 0.0 { format!("{at}") } else { String::new() }
            })
            .draw()?;
        chart.draw_series(LineSeries::new(scores.iter().copied(), ACCENT.stroke_width(2)))?;
        chart.draw_series(scores.iter().map(|&point| Circle::new(point, 4, ACCENT.filled())))?;
        Ok(())
    })
}

/// How often predictions of like confidence are right; on the diagonal they are as often
/// right as they say. Circles are as large as there are rows.
pub fn reliability(bins: &[ReliabilityBin]) -> Option<String> {
    let most = bins.iter().map(|bin| bin.rows).max().filter(|&most| most > 0)? as f64;
    let points: Vec<(f64, f64, i32)> = bins
        .iter()
        .filter(|bin| bin.rows > 0)
        .map(|bin| {
            let radius = 3.0 + 9.0 * (bin.rows as f64 / most).sqrt();
            (100.0 * bin.confidence, 100.0 * bin.accuracy, radius as i32)
        })
        .collect();
    drawn("Accuracy against confidence", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..100.0, 0.0..100.0)?;
        axes(&mut chart, "confidence, %", "right, %")?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (100.0, 100.0)], MUTED.stroke_width(1)))?;
        let line = points.iter().map(|point| (point.0, point.1));
        chart.draw_series(LineSeries::new(line, ACCENT.stroke_width(2)))?;
        chart.draw_series(
            points.iter().map(|&(x, y, radius)| Circle::new((x, y), radius, ACCENT.filled())),
        )?;
        Ok(())
    })
}

/// The accuracy that is left when the least sure predictions are refused.
pub fn refusals(points: &[RefusalPoint]) -> Option<String> {
    let line: Vec<(f64, f64)> =
        points.iter().map(|point| (100.0 * point.answered, 100.0 * point.accuracy)).collect();
    if line.len() < 2 {
        return None;
    }
    let answered = range(line.iter().map(|point| point.0), 0.03);
    let accuracy = range(line.iter().map(|point| point.1), 0.1);
    drawn("Accuracy against the share of rows answered", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(40)
            .y_label_area_size(62)
            .build_cartesian_2d(answered.start..101.0, accuracy.start..accuracy.end.min(100.5))?;
        axes(&mut chart, "answered, %", "right, %")?;
        chart.draw_series(LineSeries::new(line.iter().copied(), ACCENT.stroke_width(2)))?;
        chart.draw_series(line.iter().map(|&point| Circle::new(point, 3, ACCENT.filled())))?;
        Ok(())
    })
}

/// The held-out score against the rows fitted on, and what twice as many should bring.
pub fn learning_curve(curve: &LearningCurve) -> Option<String> {
    let line: Vec<(f64, f64)> =
        curve.points.iter().map(|point| (point.rows as f64, 100.0 * point.score)).collect();
    let &(rows, score) = line.last()?;
    let expected = (2.0 * rows, score + 100.0 * curve.gain_of_doubling);
    let scores = range(line.iter().chain([&expected]).map(|point| point.1), 0.1);
    drawn("Score against rows", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(40)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..2.1 * rows.max(1.0), scores)?;
        axes(&mut chart, "rows fitted on", "score, %")?;
        chart.draw_series(DashedLineSeries::new(
            [(rows, score), expected],
            6,
            5,
            SECOND.stroke_width(2),
        ))?;
        chart.draw_series([Circle::new(expected, 5, SECOND.stroke_width(2))])?;
        chart.draw_series(LineSeries::new(line.iter().copied(), ACCENT.stroke_width(2)))?;
        chart.draw_series(line.iter().map(|&point| Circle::new(point, 4, ACCENT.filled())))?;
        Ok(())
    })
}

/// The F1 of each class against its rows.
pub fn classes(report: &Report) -> Option<String> {
    let mut points: Vec<(f64, f64)> = report
        .classes
        .iter()
        .filter(|class| class.support > 0 && class.f1.is_finite())
        .map(|class| (class.support as f64, 100.0 * class.f1))
        .collect();
    // Points of one place are one circle.
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    points.dedup();
    points.truncate(MOST_POINTS);
    let (least, most) = (points.first()?.0, points.last()?.0);
    let f1 = range(points.iter().map(|point| point.1), 0.15);
    let f1 = f1.start.max(0.0)..f1.end.min(102.0);
    drawn("F1 of each class against its rows", |area| {
        let dots = [Dots { places: &points, radius: 4, colour: ACCENT.mix(0.55) }];
        scatter(area, least..most, f1, "rows of the class", "F1, %", &dots)
    })
}

/// Dots of one kind.
#[derive(Clone, Copy)]
struct Dots<'a> {
    places: &'a [(f64, f64)],
    radius: i32,
    colour: RGBAColor,
}

/// Dots of several kinds; `x` on a scale by powers of ten
/// where it spans more than one of them.
fn scatter(
    area: &Area<'_>,
    x: Range<f64>,
    y: Range<f64>,
    x_label: &str,
    y_label: &str,
    dots: &[Dots<'_>],
) -> Drawn {
    let mut sheet = ChartBuilder::on(area);
    sheet.margin(8).x_label_area_size(40).y_label_area_size(62);
    if x.end > 30.0 * x.start {
        let mut chart = sheet.build_cartesian_2d((x.start / 1.4..x.end * 1.4).log_scale(), y)?;
        axes(&mut chart, x_label, y_label)?;
        draw_dots(&mut chart, dots)
    } else {
        let mut chart = sheet.build_cartesian_2d(0.0..x.end * 1.05, y)?;
        axes(&mut chart, x_label, y_label)?;
        draw_dots(&mut chart, dots)
    }
}

fn draw_dots<X, Y>(chart: &mut Chart<'_, '_, X, Y>, dots: &[Dots<'_>]) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for &Dots { places, radius, colour } in dots {
        chart.draw_series(places.iter().map(|&at| Circle::new(at, radius, colour.filled())))?;
    }
    Ok(())
}

/// Grid, axes and their labels.
fn axes<X, Y>(chart: &mut Chart<'_, '_, X, Y>, x_label: &str, y_label: &str) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(FONT)
        .x_labels(6)
        .y_labels(6)
        .x_desc(x_label)
        .y_desc(y_label)
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .draw()
}

/// Draws onto a sheet; `None` where plotters cannot, which leaves the page without the plot.
fn drawn(label: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Option<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        draw(&area).ok()?;
        area.present().ok()?;
    }
    // The page decides on the size; who cannot see the plot is told what it is.
    let start = format!("<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" ");
    let rest = svg.strip_prefix(&start)?;
    Some(format!("<svg role=\"img\" aria-label=\"{label}\" {rest}"))
}

/// A metric's value as it is shown: shares as percent.
fn shown(metric: Metric, score: f64) -> f64 {
    if metric == Metric::LogLoss { score } else { 100.0 * score }
}

fn score_label(metric: Metric) -> String {
    if metric == Metric::LogLoss { metric.to_string() } else { format!("{metric}, %") }
}

/// A number at an axis: as many digits as tell it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what plotters hands to a formatter")]
fn tick(value: &f64) -> String {
    let rounded = (value * 1e4).round() / 1e4;
    if rounded.abs() >= 1e6 {
        format!("{:.0}M", rounded / 1e6)
    } else if rounded.abs() >= 1e4 {
        format!("{:.0}k", rounded / 1e3)
    } else {
        format!("{rounded}")
    }
}

/// From the least to the largest value with a share of it left around; never empty.
fn range(values: impl Iterator<Item = f64>, margin: f64) -> Range<f64> {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    if !(least.is_finite() && most.is_finite()) {
        return 0.0..1.0;
    }
    let left = (margin * (most - least)).max(1e-3 * most.abs()).max(1e-6);
    least - left..most + left
}

/// The same for scores of trials, without the worst fifth of them, which would press all
/// others together: those are drawn at the edge.
fn inner_range(scores: impl Iterator<Item = f64>, metric: Metric) -> Range<f64> {
    let mut scores: Vec<f64> = scores.collect();
    scores.sort_by(|a, b| metric.goodness_of(*b).total_cmp(&metric.goodness_of(*a)));
    let kept = scores.len() - scores.len() / 5;
    range(scores.into_iter().take(kept), 0.1)
}
