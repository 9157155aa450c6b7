//! statsmodels' vector autoregression, in 64 bits: the statistics themselves, and the model on top of them.

use candle_core::{Device, Tensor};
use learning::models::{Batch, DataShape};
use numerics::statistics::Matrix;
use numerics::statistics::autoregression::{Autoregression, Criterion, Trend, mahalanobis};
use serde_json::json;

use crate::Adapter;
use crate::case::{Case, Report};

const TOLERANCE: f64 = 1e-8;
/// Of standard errors and covariances.
const SECOND_ORDER: f64 = 1e-7;

pub const ADAPTER: Adapter = Adapter {
    case: "y_t = intercept + sum_i coefs[i] y_{t-1-i} + u_t,",
    choice: |case| {
        (
            "var",
            json!({"order": case.size("order"), "score": "squares"}),
        )
    },
    shape: |case| DataShape::detect(case.size("order") + 1, case.size("variables")),
    check: |adapter, case, device, _| {
        let mut report = Report::of(case);
        check_statistics(case, &mut report);
        check_criteria(case, &mut report);
        check_model(adapter, case, device, &mut report);
        report
    },
    ..Adapter::BASE
};

fn rows(case: &Case, name: &str) -> Matrix {
    let shape = &case.tensors[name].shape;
    Matrix::new(shape[0], shape[1], case.reals(name))
}

fn trend(case: &Case) -> Trend {
    if case.hyperparameter("trend") == "n" {
        Trend::None
    } else {
        Trend::Constant
    }
}

fn check_statistics(case: &Case, report: &mut Report) {
    let (train, test, order) = (
        rows(case, "in.train"),
        rows(case, "in.test"),
        case.size("order"),
    );
    let fit = Autoregression::fit(std::slice::from_ref(&train), order, trend(case)).unwrap();
    let flat = |matrices: &[Matrix]| {
        matrices
            .iter()
            .flat_map(Matrix::values)
            .copied()
            .collect::<Vec<f64>>()
    };
    let unbiased = fit.unbiased_covariance();
    report.compare_reals(case, "out.coefs", &flat(&fit.coefficients), TOLERANCE);
    if case.has("out.intercept") && fit.trend == Trend::Constant {
        report.compare_reals(case, "out.intercept", &fit.intercept, TOLERANCE);
    }
    report.compare_reals(
        case,
        "out.residual_cov_mle",
        fit.covariance.values(),
        SECOND_ORDER,
    );
    report.compare_reals(
        case,
        "out.residual_cov_unbiased",
        unbiased.values(),
        SECOND_ORDER,
    );
    report.compare_reals(
        case,
        "out.params_stderr",
        fit.standard_errors.values(),
        SECOND_ORDER,
    );
    let (channels, values) = (train.columns(), [train.values(), test.values()].concat());
    let next = |row: usize| fit.next(&values[..row * channels]);
    let fitted: Vec<f64> = (order..train.rows()).flat_map(next).collect();
    let residuals: Vec<f64> = values[order * channels..]
        .iter()
        .zip(&fitted)
        .map(|(y, fit)| y - fit)
        .collect();
    report.compare_reals(case, "out.fitted", &fitted, TOLERANCE);
    report.compare_reals(case, "out.residuals", &residuals, TOLERANCE);
    let ahead = case.tensors["out.forecast_multi"].shape[0];
    report.compare_reals(
        case,
        "out.forecast_multi",
        fit.forecast(train.values(), ahead).values(),
        TOLERANCE,
    );
    let steps = case.tensors["out.forecast_cov"].shape[0];
    report.compare_reals(
        case,
        "out.forecast_cov",
        &flat(&fit.forecast_covariances(&unbiased, steps)),
        SECOND_ORDER,
    );
    let one_step: Vec<Vec<f64>> = (train.rows()..train.rows() + test.rows())
        .map(next)
        .collect();
    report.compare_reals(case, "out.forecast_one_step", &one_step.concat(), TOLERANCE);
    let errors = |row: usize| {
        test.row(row)
            .iter()
            .zip(&one_step[row])
            .map(|(y, fit)| y - fit)
            .collect::<Vec<f64>>()
    };
    let distances: Vec<f64> = (0..test.rows())
        .map(|row| mahalanobis(&errors(row), &unbiased).unwrap())
        .collect();
    report.compare_reals(case, "out.score_mahalanobis", &distances, SECOND_ORDER);
}

fn check_criteria(case: &Case, report: &mut Report) {
    let train = [rows(case, "in.train")];
    let criteria = [
        ("aic", Criterion::Akaike),
        ("bic", Criterion::Bayes),
        ("hqic", Criterion::HannanQuinn),
    ];
    let orders = case.description["information_criteria_per_order"]
        .as_object()
        .unwrap();
    for order in orders.keys() {
        let fit = Autoregression::fit(&train, order.parse().unwrap(), trend(case)).unwrap();
        let determinant = numerics::statistics::Cholesky::new(&fit.covariance)
            .unwrap()
            .log_determinant();
        let coefficients = fit.channels() * fit.regressors();
        for (name, criterion) in criteria {
            let expected = case
                .number(&["information_criteria_per_order", order, name])
                .unwrap();
            let found = criterion.value(determinant, fit.rows, coefficients);
            report.judge(
                &format!("{name} of order {order}"),
                (found / expected - 1.0).abs(),
                TOLERANCE,
            );
        }
    }
    let most = case.size("order") + 3;
    for (name, criterion) in criteria {
        let expected = case.number(&["select_order_same_sample", name]).unwrap();
        let found = Autoregression::choose_order(&train, most, trend(case), criterion).unwrap();
        report.judge(
            &format!("order by {name}"),
            (found as f64 - expected).abs(),
            0.0,
        );
    }
}

/// The model's forecasts and scores, which are 32-bit.
fn check_model(adapter: &Adapter, case: &Case, device: &Device, report: &mut Report) {
    if trend(case) == Trend::None {
        return;
    }
    let network = crate::check::network(adapter, case, device);
    let (train, test, order) = (
        rows(case, "in.train"),
        rows(case, "in.test"),
        case.size("order"),
    );
    let channels = train.columns();
    let to_f32 = |values: &[f64]| {
        values
            .iter()
            .map(|value| *value as f32)
            .collect::<Vec<f32>>()
    };
    let windows = contract::testing::training_windows(to_f32(train.values()), channels, order + 1);
    network
        .fit(&windows, &contract::NullHost::default().context(0))
        .unwrap();
    let all = to_f32(
        &[
            &train.values()[(train.rows() - order) * channels..],
            test.values(),
        ]
        .concat(),
    );
    let windows: Vec<f32> = (0..test.rows())
        .flat_map(|row| all[row * channels..(row + order + 1) * channels].to_vec())
        .collect();
    let inputs = Tensor::from_vec(windows, (test.rows(), order + 1, channels), device).unwrap();
    let errors = network
        .errors(&Batch::of(inputs))
        .unwrap()
        .mean(2)
        .unwrap()
        .narrow(1, order, 1)
        .unwrap();
    let errors: Vec<f32> = errors.flatten_all().unwrap().to_vec1().unwrap();
    let errors: Vec<f64> = errors.into_iter().map(f64::from).collect();
    report.compare_reals(case, "out.score_mean_sq", &errors, 1e-4);
}
