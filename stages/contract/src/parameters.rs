//! Parameters with their defaults, declared at one place.

/// Declares parameters as a struct. It is read from YAML and written again, has a schema, and refuses keys that it does
/// not know; a key that is missing has the value behind its `=`.
///
/// ```ignore
/// contract::parameters! {
///     /// A moving average.
///     pub struct Smoothing {
///         /// Rows that are averaged.
///         #[schemars(range(min = 1))]
///         pub rows: usize = 25,
///     }
/// }
/// ```
///
/// The crate that calls it depends on `serde` and `schemars`.
#[macro_export]
macro_rules! parameters {
    (
        $(#[$about:meta])*
        $visible:vis struct $name:ident {
            $($(#[$attribute:meta])* $shown:vis $field:ident: $type:ty = $default:expr),* $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        $visible struct $name {
            $($(#[$attribute])* $shown $field: $type),*
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    crate::parameters! {
        /// A toy.
        #[derive(PartialEq)]
        pub struct Toy {
            /// How many.
            #[schemars(range(min = 1))]
            pub count: usize = 3,
            name: Option<String> = None,
        }
    }

    #[test]
    fn defaults_limits_and_words_stand_beside_each_other() {
        let toy: Toy = serde_json::from_str(r#"{"name": "x"}"#).unwrap();
        assert_eq!((toy.count, toy.name.as_deref()), (3, Some("x")));
        assert!(serde_json::from_str::<Toy>(r#"{"number": 1}"#).is_err());
        assert_eq!(Toy::default(), serde_json::from_str("{}").unwrap());
        let schema = schemars::schema_for!(Toy).to_value();
        let count = &schema["properties"]["count"];
        assert_eq!(
            (&count["minimum"], &count["default"]),
            (&1.into(), &3.into())
        );
        assert_eq!(count["description"], "How many.");
    }
}
