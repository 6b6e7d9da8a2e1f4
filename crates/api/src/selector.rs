//! Label selectors, with the meaning that Kubernetes gives them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Selects objects by their labels. All requirements must hold; an empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LabelSelector {
    /// Labels that must be there with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements beyond equality.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Requirement {
    /// The label's name.
    pub key: String,
    /// How the label's value relates to `values`.
    pub operator: Operator,
    /// Values for `In` and `NotIn`; empty for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// The relation of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Operator {
    /// The label is there and its value is one of `values`.
    In,
    /// The label is missing, or its value is none of `values`.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|r| {
                let value = labels.get(&r.key);
                match r.operator {
                    Operator::In => value.is_some_and(|v| r.values.contains(v)),
                    Operator::NotIn => value.is_none_or(|v| !r.values.contains(v)),
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_follow_kubernetes() {
        let labels = BTreeMap::from([("rack".to_owned(), "r1".to_owned())]);
        let check = |json: &str, expected: bool| {
            let selector: LabelSelector = serde_json::from_str(json).unwrap();
            assert_eq!(selector.matches(&labels), expected, "{json}");
        };
        check("{}", true);
        check(r#"{"matchLabels":{"rack":"r1"}}"#, true);
        check(r#"{"matchLabels":{"rack":"r2"}}"#, false);
        check(r#"{"matchLabels":{"row":"r1"}}"#, false);
        check(
            r#"{"matchExpressions":[{"key":"rack","operator":"In","values":["r1","r2"]}]}"#,
            true,
        );
        check(
            r#"{"matchExpressions":[{"key":"rack","operator":"NotIn","values":["r1"]}]}"#,
            false,
        );
        check(
            r#"{"matchExpressions":[{"key":"row","operator":"NotIn","values":["x"]}]}"#,
            true,
        );
        check(
            r#"{"matchExpressions":[{"key":"rack","operator":"Exists"}]}"#,
            true,
        );
        check(
            r#"{"matchExpressions":[{"key":"rack","operator":"DoesNotExist"}]}"#,
            false,
        );
    }
}
