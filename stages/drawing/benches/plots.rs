//! Time of plots: line plots as data sets of images need them, and a chart of 23,000 rows. One thread.

use std::hint::black_box;

use contract::Random;
use contract::artifact::{Image, Split};
use criterion::{Criterion, criterion_group, criterion_main};
use plot::{Canvas, Chart, Line, LinePlot, LinePlotStyle, Panel, Raster, Svg, TimeAxis, palette};

fn values(count: usize) -> Vec<f32> {
    let mut random = Random::new(2, "plots");
    (0..count)
        .map(|row| (row as f32 * 0.05).sin() + random.normal() as f32 * 0.2)
        .collect()
}

/// A plot in the look of matplotlib's default, as `render-images` makes it: drawn, compressed, its digest taken.
fn line_plot(plot: &LinePlot, size: (usize, usize), values: &[f32]) -> Image {
    let raster = plot.draw(values, 1);
    Image::from_rgb("sample", Split::Train, None, size, raster.rgb())
        .expect("the pixels are as many as the size says")
}

fn chart(values: &[f32]) -> Chart {
    let line = Line {
        name: "score".into(),
        values: values.iter().map(|value| f64::from(*value)).collect(),
        color: palette::BLUE,
    };
    let time = TimeAxis {
        rows: values.len(),
        first: 0,
        label: "row".into(),
        times: vec![],
        breaks: vec![],
    };
    let panels = vec![Panel::of_lines("", vec![line])];
    Chart {
        title: "anomaly score".into(),
        subtitle: String::new(),
        time,
        panels,
    }
}

fn bench(criterion: &mut Criterion) {
    let short = values(500);
    for (width, height) in [(224, 224), (800, 600)] {
        let style = LinePlotStyle {
            width,
            height,
            dpi: 100.0,
            line_width: 1.5,
            axes: true,
        };
        let plot = LinePlot::new(style).expect("a small image");
        let size = (height as usize, width as usize);
        let name = format!("line plot {width}x{height}, 500 points, drawn");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| plot.draw(black_box(&short), 1))
        });
        let name = format!("line plot {width}x{height}, 500 points, PNG");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| line_plot(&plot, size, black_box(&short)))
        });
    }
    let chart = chart(&values(23_000));
    criterion.bench_function("chart 1200x360, 23,000 rows, PNG", |bencher| {
        bencher.iter(|| {
            let mut raster = Box::new(Raster::new(1200, 360).expect("an image"));
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
