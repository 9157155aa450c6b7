//! The catalogue: every stage kind of `runner`, a line each, and what else the engine asks of the stages.

use contract::artifact::Direction;
use contract::{Catalogue, StageKind};

use data::readers;
use judging::metrics;

/// Everything that the engine knows of the stages.
pub fn catalogue() -> Catalogue {
    Catalogue {
        kinds: kinds(),
        directions,
        hardware: &numerics::Machine,
        read_series: readers::read_fresh,
        look: readers::look,
    }
}

/// Which way each metric is better; whatever it judges, that is the same.
fn directions() -> Vec<(&'static str, Direction)> {
    let mut directions = Vec::new();
    for metric in metrics::all() {
        let readings = metric.readings();
        directions.extend(
            readings
                .first()
                .map(|first| (metric.name(), first.direction)),
        );
    }
    directions
}

/// All stage kinds, in the order of the documentation: each crate lists its own.
fn kinds() -> Vec<StageKind> {
    [
        data::kinds(),
        learning::kinds(),
        judging::kinds(),
        drawing::kinds(),
        programs::kinds(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use contract::KEYWORDS;
    use serde_json::Value;

    use super::*;

    /// Every keyword of a schema and of the schemas in it.
    fn keywords<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            found.push(keyword);
            match (keyword.as_str(), value) {
                ("properties", Value::Object(parts)) => {
                    parts.values().for_each(|part| keywords(part, found));
                }
                ("oneOf" | "anyOf" | "allOf" | "prefixItems", Value::Array(parts)) => {
                    parts.iter().for_each(|part| keywords(part, found));
                }
                ("items" | "additionalProperties", part) => keywords(part, found),
                _ => {}
            }
        }
    }

    #[test]
    fn no_schema_has_a_limit_that_nobody_checks() {
        let mut limits = 0;
        for kind in kinds() {
            let schema = kind.schema().to_value();
            let mut found = Vec::new();
            keywords(&schema, &mut found);
            for keyword in found {
                limits += usize::from(keyword == "minimum");
                assert!(KEYWORDS.contains(&keyword), "{}: {keyword}", kind.name);
            }
        }
        assert!(
            limits > 100,
            "only {limits} limits: is the search still right?"
        );
    }
}
