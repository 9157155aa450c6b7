//! What metrics judge: anomaly scores, forecasts or class predictions.

use super::{Case, ClassificationCase, ForecastCase};

/// The kinds of results that there are metrics for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Anomaly scores and alarms.
    Detection,
    /// Forecasts, and values that were filled in.
    Forecast,
    /// Classes of samples.
    Classification,
}

impl Subject {
    pub const ALL: [Self; 3] = [Self::Detection, Self::Forecast, Self::Classification];

    /// What is judged, in the plural.
    pub fn name(self) -> &'static str {
        match self {
            Self::Detection => "anomaly scores",
            Self::Forecast => "forecasts",
            Self::Classification => "class predictions",
        }
    }
}

/// One result that is to be judged.
#[derive(Clone, Copy, Debug)]
pub enum Evidence<'a> {
    Detection(&'a Case),
    Forecast(&'a ForecastCase),
    Classification(&'a ClassificationCase),
}

impl Evidence<'_> {
    pub fn subject(self) -> Subject {
        match self {
            Self::Detection(_) => Subject::Detection,
            Self::Forecast(_) => Subject::Forecast,
            Self::Classification(_) => Subject::Classification,
        }
    }
}

/// A type of case, as a metric takes it.
pub trait Judged: Sized + 'static {
    const SUBJECT: Subject;

    /// The case in the evidence, if it is of this type.
    fn of(evidence: Evidence<'_>) -> Option<&Self>;
}

macro_rules! judged {
    ($($case:ident is $subject:ident),*) => {$(
        impl Judged for $case {
            const SUBJECT: Subject = Subject::$subject;

            fn of(evidence: Evidence<'_>) -> Option<&Self> {
                match evidence {
                    Evidence::$subject(case) => Some(case),
                    _ => None,
                }
            }
        }

        impl<'a> From<&'a $case> for Evidence<'a> {
            fn from(case: &'a $case) -> Self {
                Self::$subject(case)
            }
        }
    )*};
}
judged!(Case is Detection, ForecastCase is Forecast, ClassificationCase is Classification);
