//! Time of pictures: a 224x224 line plot as data sets of pictures need them, and a chart of 23,000 rows.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use stages::contract::Random;
use stages::plot::{Anchor, Canvas, Chart, Line, Panel, Raster, Stroke, Svg, TextStyle, TimeAxis, palette};

fn values(count: usize) -> Vec<f32> {
    let mut random = Random::new(2, "plots");
    (0..count).map(|row| (row as f32 * 0.05).sin() + random.normal() as f32 * 0.2).collect()
}

/// A frame, ten labels and a line of 500 points.
fn line_plot(values: &[f32]) -> Vec<u8> {
    let mut raster = Box::new(Raster::new(224, 224).expect("a small picture"));
    let frame = Stroke { color: palette::TEXT, width: 1.0, dashed: false };
    raster.polyline(&[(28.5, 8.5), (28.5, 204.5), (216.5, 204.5), (216.5, 8.5), (28.5, 8.5)], frame);
    let style = TextStyle { size: 9.0, color: palette::TEXT, anchor: Anchor::End };
    for tick in 0..5_u8 {
        raster.text(25.0, 20.0 + f32::from(tick) * 40.0, "-0.25", style);
        raster.text(60.0 + f32::from(tick) * 38.0, 216.0, "100", style);
    }
    let count = values.len() as f32;
    let point = |(row, value): (usize, &f32)| (28.0 + row as f32 / count * 188.0, 106.0 - value * 60.0);
    let points: Vec<(f32, f32)> = values.iter().enumerate().map(point).collect();
    raster.polyline(&points, Stroke { color: palette::BLUE, width: 1.5, dashed: false });
    raster.finish().expect("memory takes all bytes")
}

fn chart(values: &[f32]) -> Chart {
    let line = Line { name: "score".into(), values: values.to_vec(), color: palette::BLUE };
    let time = TimeAxis { rows: values.len(), first: 0, label: "row".into(), times: vec![], breaks: vec![] };
    let panels = vec![Panel::of_lines("", vec![line])];
    Chart { title: "anomaly score".into(), subtitle: String::new(), time, panels }
}

fn bench(criterion: &mut Criterion) {
    let short = values(500);
    criterion.bench_function("line plot 224x224, 500 points, PNG", |bencher| {
        bencher.iter(|| line_plot(black_box(&short)));
    });
    let chart = chart(&values(23_000));
    criterion.bench_function("chart 1200x360, 23,000 rows, PNG", |bencher| {
        bencher.iter(|| {
            let mut raster = Box::new(Raster::new(1200, 360).expect("a picture"));
            black_box(&chart).draw(raster.as_mut());
            raster.finish()
        });
    });
    criterion.bench_function("chart 1200x360, 23,000 rows, SVG", |bencher| {
        bencher.iter(|| {
            let mut svg = Box::new(Svg::new(1200, 360));
            black_box(&chart).draw(svg.as_mut());
            svg.finish()
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
