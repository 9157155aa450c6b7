//! `render-images`: every segment of a series as a line plot in the look of matplotlib's default, for models that read
//! images. Plots for people are drawn by `render-plots`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::{ArtifactKind, Image, Images, Segment, Series};
use contract::{Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};
use plot::{LinePlot, LinePlotStyle};

use super::draw_all;

/// The stage kind.
pub struct RenderImages;

/// The size of the plots and their look.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Pixels.
    #[schemars(range(min = 16, max = 4096))]
    pub width: u32,
    /// Pixels.
    #[schemars(range(min = 16, max = 4096))]
    pub height: u32,
    /// Pixels of an inch: it scales lines and labels.
    #[schemars(range(min = 10.0, max = 1000.0))]
    pub dpi: f32,
    /// Width of the line in points, of which an inch has 72.
    #[schemars(range(min = 0.1, max = 50.0))]
    pub line_width: f32,
    /// Whether frame, ticks and labels are drawn; without them the line has the whole image.
    pub axes: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            width: 224,
            height: 224,
            dpi: 100.0,
            line_width: 1.5,
            axes: true,
        }
    }
}

impl Stage for RenderImages {
    type Params = Params;

    const NAME: &'static str = "render-images";
    const VERSION: u32 = 1;
    const DOC: &'static str =
        "Draws each segment of a series as a line plot, in the look of matplotlib's default.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;

    fn inputs(_: &Params) -> Vec<Port> {
        let doc = "each segment is a sample; each channel becomes a line";
        vec![Port::new("series", ArtifactKind::Series, doc)]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let doc = "an image per segment, with its split and class";
        vec![Port::new("images", ArtifactKind::Images, doc)]
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let series = inputs.get::<Series>("series")?;
        Ok(Outputs::one("images", render(params, &series, context)?))
    }
}

fn render(params: &Params, series: &Series, context: &StageContext<'_>) -> Result<Images, Trouble> {
    let Params {
        width,
        height,
        dpi,
        line_width,
        axes,
    } = *params;
    let plot = LinePlot::new(LinePlotStyle {
        width,
        height,
        dpi,
        line_width,
        axes,
    });
    let plot =
        plot.map_err(|reason| Trouble::new(format!("the images cannot be drawn: {reason}")))?;
    let classes = series.classes();
    let size = (height as usize, width as usize);
    let named = named(&series.segments);
    let images = draw_all(&named, context, |(segment, name)| {
        let rows = segment.rows.start * series.width()..segment.rows.end * series.width();
        let raster = plot.draw(&series.values[rows], series.width());
        let position = |class| classes.iter().position(|known| known == class);
        let label = segment.class.as_ref().and_then(position);
        let label = label.map(|label| label as u32);
        let image = Image::from_rgb(name, segment.split, label, size, raster.rgb())?;
        Ok(image)
    })?;
    Ok(Images {
        height: size.0,
        width: size.1,
        classes,
        images,
    })
}

/// The segments with their names: the entity, with the first row behind it where an entity has several segments.
fn named(segments: &[Segment]) -> Vec<(&Segment, String)> {
    let (mut seen, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for segment in segments {
        if !seen.insert(segment.entity.as_str()) {
            repeated.insert(segment.entity.as_str());
        }
    }
    let mut named = Vec::with_capacity(segments.len());
    for segment in segments {
        let mut name = segment.entity.clone();
        if repeated.contains(name.as_str()) {
            name = format!("{name}/{}", segment.rows.start);
        }
        named.push((segment, name));
    }
    named
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use contract::NullHost;
    use contract::artifact::Split;
    use contract::testing::fault_of;

    fn series() -> Series {
        let segment = |index: usize, split, entity: &str, class: Option<&str>| {
            Segment::new(split, entity, index * 50..(index + 1) * 50)
                .of_class(class.map(str::to_owned))
        };
        Series {
            channels: vec!["value".into()],
            values: (0..200).map(|row| ((row * row) % 37) as f32).collect(),
            labels: vec![],
            times: vec![],
            segments: vec![
                segment(0, Split::Train, "a", Some("steep")),
                segment(1, Split::Train, "b", Some("flat")),
                segment(2, Split::Test, "b", Some("steep")),
                segment(3, Split::Test, "c", None),
            ],
            ..Series::default()
        }
    }

    fn rendered(parameters: serde_json::Value) -> Images {
        let params: Params = serde_json::from_value(parameters).unwrap();
        render(&params, &series(), &NullHost::default().context(0)).unwrap()
    }

    #[test]
    fn an_image_per_segment_keeps_split_and_class() {
        let images = rendered(json!({"width": 64, "height": 48}));
        images.validate().unwrap();
        assert_eq!((images.height, images.width, images.len()), (48, 64, 4));
        assert_eq!(images.classes, ["flat", "steep"]);
        let found: Vec<_> = images
            .images
            .iter()
            .map(|image| (image.name.as_str(), image.split, image.label))
            .collect();
        let expected = [
            ("a", Split::Train, Some(1)),
            ("b/50", Split::Train, Some(0)),
            ("b/100", Split::Test, Some(1)),
            ("c", Split::Test, None),
        ];
        assert_eq!(found, expected);
        assert_ne!(images.pixels(&[0]).unwrap(), images.pixels(&[1]).unwrap());
    }

    /// If this fails, outputs have changed: raise `RenderImages::VERSION` and put the new digest here.
    #[test]
    fn the_bits_are_those_of_this_version_whatever_the_threads() {
        let digest = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| rendered(json!({})).digest().to_string())
        };
        let found = digest(1);
        assert_eq!(found, digest(3));
        assert_eq!(
            (RenderImages::VERSION, found.as_str()),
            (
                1,
                "9ef8368eff5c17ecdd261e2316c17b6dfcc9b65e218c8bb4b99d00c135adf404"
            )
        );
    }

    #[test]
    fn checks_its_parameters() {
        for (value, parameter) in [
            (json!({"width": 5}), "width"),
            (json!({"height": 50_000}), "height"),
            (json!({"dpi": 0}), "dpi"),
            (json!({"line_width": -1.0}), "line_width"),
        ] {
            assert_eq!(
                fault_of::<RenderImages>(value).unwrap().parameter,
                parameter
            );
        }
    }
}
