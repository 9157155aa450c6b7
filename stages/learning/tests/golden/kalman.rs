//! statsmodels' Kalman filter and smoother, in 64 bits, and local levels by maximum likelihood.

use learning::models::DataShape;
use numerics::statistics::Matrix;
use numerics::statistics::local_level::LocalLevel;
use numerics::statistics::smoother::smooth;
use numerics::statistics::state_space::StateSpace;

use crate::Adapter;
use crate::case::{Case, Report};

const TOLERANCE: f64 = 1e-8;
const COVARIANCE: f64 = 1e-7;
const LOG_LIKELIHOOD: f64 = 1e-9;

/// A part of this ending is a local level whose variances were estimated, from the series of the name before it.
const MAXIMUM_LIKELIHOOD: &str = "_maximum_likelihood";

pub const ADAPTER: Adapter = Adapter {
    case: "observation y_t = d + Z a_t + e_t, e ~ N(0,H);",
    shape: |case| DataShape::detect(case.size("n"), case.size("observed")),
    check: |_, case, _, _| {
        let mut report = Report::of(case);
        let described = case.description["cases"].as_object().unwrap();
        for name in described.keys() {
            if let Some(series) = name.strip_suffix(MAXIMUM_LIKELIHOOD) {
                check_fit(case, name, series, &mut report);
            } else if case.has(&format!("in.{name}.Z")) {
                check_filter(case, name, &general(case, name), &mut report);
            } else {
                check_filter(case, name, &local_level(case, name), &mut report);
            }
        }
        assert!(
            report.compared > 10,
            "{}: hardly anything was compared",
            case.name
        );
        report
    },
    ..Adapter::BASE
};

fn rows(case: &Case, name: &str) -> Matrix {
    let shape = &case.tensors[name].shape;
    Matrix::new(shape[0], shape[1..].iter().product(), case.reals(name))
}

fn local_level(case: &Case, part: &str) -> StateSpace {
    let number = |name: &str| case.number(&["cases", part, name]).unwrap();
    let initial = &case.description["cases"][part];
    StateSpace {
        observation: Matrix::identity(1),
        observation_intercept: vec![0.0],
        observation_noise: Matrix::diagonal(&[number("sigma2_irregular")]),
        transition: Matrix::identity(1),
        state_intercept: vec![0.0],
        state_noise: Matrix::diagonal(&[number("sigma2_level")]),
        initial_mean: vec![initial["initial_state"][0].as_f64().unwrap()],
        initial_covariance: Matrix::diagonal(&[initial["initial_cov"][0][0].as_f64().unwrap()]),
    }
}

fn general(case: &Case, part: &str) -> StateSpace {
    let matrix = |name: &str| rows(case, &format!("in.{part}.{name}"));
    let vector = |name: &str| case.reals(&format!("in.{part}.{name}"));
    StateSpace {
        observation: matrix("Z"),
        observation_intercept: vector("d"),
        observation_noise: matrix("H"),
        transition: matrix("T"),
        state_intercept: vector("c"),
        state_noise: matrix("R").sandwich(&matrix("Q")),
        initial_mean: vector("a0"),
        initial_covariance: matrix("P0"),
    }
}

fn check_filter(case: &Case, name: &str, model: &StateSpace, report: &mut Report) {
    let filtered = model.filter(&rows(case, &format!("in.{name}.y"))).unwrap();
    let smoothed = smooth(model, &filtered).unwrap();
    let steps = &filtered.steps;
    let mut compare = |output: &str, found: Vec<f64>, tolerance: f64| {
        report.compare_reals(case, &format!("out.{name}.{output}"), &found, tolerance);
    };
    let vectors = |of: fn(&numerics::statistics::state_space::Step) -> &Vec<f64>| {
        steps.iter().flat_map(of).copied()
    };
    compare(
        "predicted_state",
        vectors(|step| &step.predicted)
            .chain(filtered.next_mean.clone())
            .collect(),
        TOLERANCE,
    );
    compare(
        "filtered_state",
        vectors(|step| &step.filtered).collect(),
        TOLERANCE,
    );
    compare(
        "forecast",
        vectors(|step| &step.forecast).collect(),
        TOLERANCE,
    );
    compare(
        "forecast_error",
        vectors(|step| &step.error).collect(),
        TOLERANCE,
    );
    let flat = |matrices: Vec<&Matrix>| {
        matrices
            .into_iter()
            .flat_map(Matrix::values)
            .copied()
            .collect::<Vec<f64>>()
    };
    let predicted: Vec<&Matrix> = steps
        .iter()
        .map(|step| &step.gains.predicted)
        .chain([&filtered.next_covariance])
        .collect();
    // The reference's covariance of an error is that of all channels, missing ones included.
    let errors: Vec<Matrix> = predicted[..steps.len()]
        .iter()
        .map(|predicted| {
            model
                .observation
                .sandwich(predicted)
                .plus(&model.observation_noise)
        })
        .collect();
    compare("predicted_cov", flat(predicted), COVARIANCE);
    compare(
        "forecast_error_cov",
        flat(errors.iter().collect()),
        COVARIANCE,
    );
    compare(
        "filtered_cov",
        flat(steps.iter().map(|step| &step.gains.filtered).collect()),
        COVARIANCE,
    );
    compare(
        "smoothed_state",
        smoothed
            .iter()
            .flat_map(|state| state.mean.clone())
            .collect(),
        TOLERANCE,
    );
    compare(
        "smoothed_cov",
        flat(
            smoothed
                .iter()
                .map(|state| state.covariance.as_ref())
                .collect(),
        ),
        COVARIANCE,
    );
    let ahead = case.tensors[&format!("out.{name}.future_mean")].shape[0];
    let (means, covariances) =
        model.forecast(&filtered.next_mean, &filtered.next_covariance, ahead);
    compare("future_mean", means.into_values(), TOLERANCE);
    compare("future_cov", flat(covariances.iter().collect()), COVARIANCE);
    if case.has(&format!("out.{name}.llf_obs")) {
        compare(
            "llf_obs",
            steps.iter().map(|step| step.log_likelihood).collect(),
            LOG_LIKELIHOOD,
        );
    }
    let expected = case.number(&["cases", name, "log_likelihood"]).unwrap();
    let difference = (filtered.log_likelihood() / expected - 1.0).abs();
    report.judge(
        &format!("{name}: log-likelihood"),
        difference,
        LOG_LIKELIHOOD,
    );
}

/// The reference starts from an approximately diffuse level; ours is exact.
fn check_fit(case: &Case, part: &str, series: &str, report: &mut Report) {
    let found = LocalLevel::fit(&[case.reals(&format!("in.{series}"))], 0.0).unwrap();
    for (name, value, tolerance) in [
        ("sigma2_irregular", found.irregular, 1e-2),
        ("sigma2_level", found.level, 1e-2),
        ("log_likelihood", found.log_likelihood, 1e-3),
    ] {
        let expected = case.number(&["cases", part, name]).unwrap();
        let title = format!("{series}: {name}");
        report.judge(&title, (value / expected - 1.0).abs(), tolerance);
    }
}
