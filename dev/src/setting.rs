//! One option of every process of a role, given on the command line as `ROLE.KEY[.KEY..]=VALUE`; with `ROLE-NUMBER`, of
//! the one of that number in each region.

use std::str::FromStr;

use toml::{Table, Value};
use whimbrel_fleet::Role;

use crate::children::role_name;

/// Deepest path: a role's table, a table in it, and a key there is all that exists today; one more is room.
const MOST_KEYS: usize = 4;
const ROLES: [Role; 4] = [Role::Broker, Role::Mirror, Role::Tiering, Role::Controller];

/// What is to be set; whether the role knows the key is found when its configuration is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    role: String,
    number: Option<u16>,
    keys: Vec<String>,
    value: Value,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "write ROLE.KEY=VALUE with a role of broker, mirror, tiering, controller, for example broker.default-partitions=4, not '{0}'"
)]
pub struct NotASetting(String);

impl FromStr for Setting {
    type Err = NotASetting;

    fn from_str(text: &str) -> Result<Self, NotASetting> {
        let refused = || NotASetting(text.to_owned());
        let (path, value) = text.split_once('=').ok_or_else(refused)?;
        let mut names = path.split('.').map(str::to_owned);
        let role = names.next().ok_or_else(refused)?;
        let keys: Vec<String> = names.collect();
        let (role, number) = match role.split_once('-') {
            None => (role, None),
            Some((role, number)) => {
                let number = number.parse().map_err(|_| refused())?;
                (role.to_owned(), Some(number))
            }
        };
        let known = ROLES.into_iter().any(|known| role_name(known) == role);
        let empty = keys.is_empty() || keys.iter().any(String::is_empty);
        if !known || empty || keys.len() > MOST_KEYS {
            return Err(refused());
        }
        // What TOML does not read as a number, a boolean, a list or a quoted string is a string.
        let value = format!("value = {value}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self {
            role,
            number,
            keys,
            value,
        })
    }
}

impl Setting {
    /// Puts the value into the table of one process, over what stands there, if it is meant.
    pub fn apply(&self, (role, number): (&str, u16), table: &mut Table) {
        if role != self.role || self.number.is_some_and(|meant| meant != number) {
            return;
        }
        let Some((last, inner)) = self.keys.split_last() else {
            return;
        };
        let mut at = table;
        for key in inner {
            let entry = at
                .entry(key.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Some(next) = entry.as_table_mut() else {
                return;
            };
            at = next;
        }
        at.insert(last.clone(), self.value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str, role: &str, before: &str) -> String {
        let mut table: Table = before.parse().unwrap();
        text.parse::<Setting>()
            .unwrap()
            .apply((role, 2), &mut table);
        toml::to_string(&table).unwrap()
    }

    #[test]
    fn numbers_booleans_and_words_keep_their_kind() {
        assert_eq!(applied("broker.n=4", "broker", ""), "n = 4\n");
        assert_eq!(applied("broker.on=false", "broker", ""), "on = false\n");
        assert_eq!(applied("broker.t=3s", "broker", ""), "t = \"3s\"\n");
        assert_eq!(applied("broker.t=a=b", "broker", ""), "t = \"a=b\"\n");
    }

    #[test]
    fn a_nested_key_leaves_its_neighbours() {
        let before = "[limits]\na = 1\nb = 2\n";
        assert_eq!(
            applied("broker.limits.b=3", "broker", before),
            "[limits]\na = 1\nb = 3\n"
        );
    }

    #[test]
    fn another_role_is_left_alone() {
        assert_eq!(applied("broker.n=4", "mirror", "n = 1\n"), "n = 1\n");
    }

    #[test]
    fn one_of_several_can_be_meant() {
        assert_eq!(applied("broker-2.n=4", "broker", ""), "n = 4\n");
        assert_eq!(applied("broker-3.n=4", "broker", ""), "");
    }

    #[test]
    fn what_is_not_a_setting_is_refused() {
        for text in [
            "",
            "broker",
            "broker=1",
            ".a=1",
            "baker.a=1",
            "broker.=1",
            "broker-.a=1",
            "broker-b.a=1",
            "broker.a",
            "b.a.a.a.a.a=1",
        ] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
    }
}
