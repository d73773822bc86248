//! How configs come out of a change: nothing of it is taken when a part of it is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FLUSH_MESSAGES, Kind, TABLE, Table, parts, refuse, value};

/// What is done to a config (`AlterConfigOp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Set,
    /// Back to the default; the value does not count.
    Delete,
    /// Adds the parts of a list that are not in it yet.
    Append,
    /// Takes parts out of a list.
    Subtract,
}

/// One config's part of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub name: String,
    pub op: Op,
    pub value: String,
}

impl Change {
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            op: Op::Set,
            value: value.into(),
        }
    }

    pub fn delete(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            op: Op::Delete,
            value: String::new(),
        }
    }
}

/// Why configs cannot be as asked, in words for the client: Kafka's INVALID_CONFIG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What a topic's configs are after the changes. With `replace`, those not named lose their values.
pub fn changed(
    before: &BTreeMap<String, String>,
    changes: &[Change],
    replace: bool,
) -> Result<BTreeMap<String, String>, Refusal> {
    let after = TABLE.changed(before, changes, replace)?;
    check_pairs(&after)?;
    Ok(after)
}

impl Table {
    /// What configs of this table are after the changes. With `replace`, those not named lose their values.
    pub fn changed(
        &self,
        before: &BTreeMap<String, String>,
        changes: &[Change],
        replace: bool,
    ) -> Result<BTreeMap<String, String>, Refusal> {
        let mut after = if replace {
            BTreeMap::new()
        } else {
            before.clone()
        };
        for (at, change) in changes.iter().enumerate() {
            let name = change.name.as_str();
            if changes[..at].iter().any(|other| other.name == name) {
                return Err(Refusal(format!("{name:.128} is named twice")));
            }
            let Some(entry) = (self.entry)(name) else {
                // A name that an earlier table knew can still be taken off.
                if change.op == Op::Delete && after.remove(name).is_some() {
                    continue;
                }
                return Err(Refusal((self.unknown)(name)));
            };
            let now = before.get(name).map_or(entry.default, String::as_str);
            let new = match change.op {
                Op::Delete => None,
                Op::Set => Some(change.value.trim().to_owned()),
                Op::Append | Op::Subtract if entry.kind != Kind::List => {
                    return Err(Refusal(format!(
                        "{name} is no list: nothing can be appended to it or subtracted from it"
                    )));
                }
                Op::Append => {
                    let mut list = parts(now).collect::<Vec<_>>();
                    for part in parts(&change.value) {
                        if !list.contains(&part) {
                            list.push(part);
                        }
                    }
                    Some(list.join(","))
                }
                Op::Subtract => {
                    let gone: Vec<&str> = parts(&change.value).collect();
                    let kept = parts(now).filter(|p| !gone.contains(p));
                    Some(kept.collect::<Vec<_>>().join(","))
                }
            };
            match new {
                None => {
                    after.remove(name);
                }
                Some(new) => {
                    if let Some(why) = self.refuse(name, &new) {
                        return Err(Refusal(why));
                    }
                    after.insert(name.to_owned(), new);
                }
            }
        }
        Ok(after)
    }
}

/// Configs that a topic is to begin with.
pub fn check_all(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in configs {
        if let Some(why) = refuse(name, value) {
            return Err(Refusal(why));
        }
    }
    check_pairs(configs)
}

/// What the fleet's own topics may not have: their readers count on what was acknowledged.
pub fn check_internal(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    match configs.get(FLUSH_MESSAGES).map(String::as_str) {
        None | Some("1") => Ok(()),
        Some(_) => Err(Refusal(format!(
            "{FLUSH_MESSAGES} of an internal topic is 1: nothing of it is acknowledged before it is synced"
        ))),
    }
}

/// What holds between two configs, by their names: the first must not be above the second.
fn check_pairs(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let number = |name: &str| value(configs, name).and_then(|v| v.parse::<i64>().ok());
    let above = |least: &str, most: &str| match (number(least), number(most)) {
        (Some(low), Some(high)) if low > high => {
            Err(Refusal(format!("{least}={low} is above {most}={high}")))
        }
        _ => Ok(()),
    };
    above("min.compaction.lag.ms", "max.compaction.lag.ms")?;
    for (local, all) in [
        ("local.retention.ms", "retention.ms"),
        ("local.retention.bytes", "retention.bytes"),
    ] {
        // -2 is "as the other"; -1 is "no limit", which only the same keeps up with.
        match (number(local), number(all)) {
            (Some(-2), _) | (_, Some(..0)) => {}
            (Some(-1), Some(limit)) => {
                return Err(Refusal(format!("{local}=-1 is above {all}={limit}")));
            }
            _ => above(local, all)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn list(op: Op, value: &str) -> Change {
        Change {
            op,
            ..Change::set("cleanup.policy", value)
        }
    }

    #[test]
    fn a_change_sets_and_deletes_and_leaves_the_rest() {
        let before = configs(&[("retention.ms", "1000"), ("segment.bytes", "2048")]);
        let after = changed(
            &before,
            &[
                Change::set("flush.ms", "5"),
                Change::delete("retention.ms"),
                Change::delete("segment.ms"),
            ],
            false,
        );
        assert_eq!(
            after,
            Ok(configs(&[("flush.ms", "5"), ("segment.bytes", "2048")]))
        );
    }

    #[test]
    fn a_replacement_keeps_only_what_it_names() {
        let before = configs(&[("retention.ms", "1000"), ("segment.bytes", "2048")]);
        let after = changed(&before, &[Change::set("flush.ms", "5")], true);
        assert_eq!(after, Ok(configs(&[("flush.ms", "5")])));
    }

    #[test]
    fn lists_grow_and_shrink_from_their_default() {
        let none = configs(&[]);
        let both = changed(&none, &[list(Op::Append, "compact,delete")], false).unwrap();
        assert_eq!(both, configs(&[("cleanup.policy", "delete,compact")]));
        let one = changed(&both, &[list(Op::Subtract, "delete")], false).unwrap();
        assert_eq!(one, configs(&[("cleanup.policy", "compact")]));
        let kept = changed(&one, &[list(Op::Subtract, "compact")], false).unwrap();
        assert_eq!(kept, configs(&[("cleanup.policy", "")]));
        let again = changed(&kept, &[list(Op::Append, "delete")], false).unwrap();
        assert_eq!(again, configs(&[("cleanup.policy", "delete")]));
    }

    #[test]
    fn nothing_is_taken_of_a_change_that_cannot_be() {
        let before = configs(&[]);
        for refused in [
            Change::set("no.such.config", "1"),
            Change::delete("no.such.config"),
            Change::set("retention.ms", "soon"),
            Change {
                op: Op::Append,
                ..Change::set("retention.ms", "1")
            },
        ] {
            let all = [Change::set("flush.ms", "5"), refused];
            assert!(changed(&before, &all, false).is_err(), "{all:?}");
        }
        let twice = [Change::set("flush.ms", "5"), Change::delete("flush.ms")];
        assert!(changed(&before, &twice, false).is_err());
    }

    #[test]
    fn a_config_that_is_no_longer_listed_can_be_taken_off() {
        let before = configs(&[("old.name", "1")]);
        let after = changed(&before, &[Change::delete("old.name")], false);
        assert_eq!(after, Ok(configs(&[])));
    }

    #[test]
    fn pairs_that_contradict_each_other_are_refused() {
        for pairs in [
            [
                ("min.compaction.lag.ms", "10"),
                ("max.compaction.lag.ms", "9"),
            ],
            [("local.retention.ms", "10"), ("retention.ms", "9")],
            [("local.retention.bytes", "-1"), ("retention.bytes", "9")],
        ] {
            assert!(check_all(&configs(&pairs)).is_err(), "{pairs:?}");
        }
        for pairs in [
            [("local.retention.ms", "-2"), ("retention.ms", "9")],
            [("local.retention.bytes", "9"), ("retention.bytes", "-1")],
            [("local.retention.ms", "-1"), ("retention.ms", "-1")],
        ] {
            assert_eq!(check_all(&configs(&pairs)), Ok(()), "{pairs:?}");
        }
    }
}
