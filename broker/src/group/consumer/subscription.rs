//! What the members read: names, regular expressions, and the topics that they come to.
//!
//! Expressions are matched as a whole name, as Kafka does; the syntax is RE2's without its Unicode classes (topic
//! names are ASCII), and as there the time is linear. Internal topics match no expression, nor do those which the member
//! may not describe whose heartbeat had it looked up, as in Kafka.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use whimbrel_wire::ErrorCode;

use super::{Change, Group, Heartbeat, Member, Now, Refusal, Regex, Sight};
use crate::group::store::Topics;

/// Most bytes a compiled expression may take: what a client sends must not decide how much memory is used.
const COMPILED_BYTES: usize = 1 << 20;

impl Group {
    pub(super) fn regex_of(&self, member: &Member) -> Option<&Regex> {
        self.regexes.get(member.profile.regex.as_ref()?)
    }

    /// Looks up an expression that is new here.
    pub(super) fn add_regex(
        &mut self,
        now: Now,
        pattern: &str,
        (topics, sight): (&dyn Topics, &Sight),
        out: &mut Vec<Change>,
    ) -> Result<(), Refusal> {
        if !self.regexes.contains_key(pattern) {
            let found = resolve(now, &compile(pattern)?, topics, sight);
            out.push(Change::Regex(pattern.to_owned(), Some(found.clone())));
            self.regexes.insert(pattern.to_owned(), found);
        }
        Ok(())
    }

    pub(super) fn drop_unused_regexes(&mut self, out: &mut Vec<Change>) {
        let used: BTreeSet<&String> = self
            .members
            .values()
            .filter_map(|member| member.profile.regex.as_ref())
            .collect();
        let unused: Vec<_> = self
            .regexes
            .keys()
            .filter(|pattern| !used.contains(pattern))
            .cloned()
            .collect();
        for pattern in unused {
            self.regexes.remove(&pattern);
            out.push(Change::Regex(pattern, None));
        }
    }

    /// Looks the expressions up again if topics have changed, but not all the time. False: there is nothing new.
    /// Whoever speaks the classic protocol has none, and does not say what it sees.
    pub(super) fn refresh_regexes(
        &mut self,
        now: Now,
        request: &Heartbeat,
        topics: &dyn Topics,
        out: &mut Vec<Change>,
    ) -> bool {
        let is_early = now.mono_ms < self.regexes_due_ms;
        if self.regexes.is_empty() || request.classic.is_some() || is_early {
            return false;
        }
        self.regexes_due_ms = now.mono_ms.saturating_add(self.rules.regex_refresh_ms);
        let version = i64::try_from(topics.version()).unwrap_or(i64::MAX);
        let mut changed = false;
        for (pattern, known) in &mut self.regexes {
            if known.version == version {
                continue;
            }
            // It was compiled when it came; one from a log that cannot be any more keeps what it stood for.
            let Ok(compiled) = compile(pattern) else {
                continue;
            };
            let found = resolve(now, &compiled, topics, &request.sight);
            if found.topics != known.topics {
                out.push(Change::Regex(pattern.clone(), Some(found.clone())));
                changed = true;
            }
            *known = found;
        }
        changed
    }

    /// Computes anew which topics the group reads; true if they, or their partitions, are others than before.
    pub(super) fn refresh_metadata(&mut self, topics: &dyn Topics) -> bool {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for member in self.members.values() {
            names.extend(member.profile.topics.iter().map(String::as_str));
            if let Some(regex) = self.regex_of(member) {
                names.extend(regex.topics.iter().map(String::as_str));
            }
        }
        let existing = names.into_iter().filter_map(|name| {
            let found = (topics.id(name)?, topics.partitions(name)?);
            Some((name.to_owned(), found))
        });
        let metadata: BTreeMap<_, _> = existing.collect();
        let hash = hash(&metadata);
        self.seen = Some(topics.version());
        self.metadata = metadata;
        let changed = hash != self.metadata_hash;
        self.metadata_hash = hash;
        changed
    }

    /// The topics of a member that exist, with their partition counts.
    pub(super) fn topics_of(&self, member: &Member) -> Vec<(Uuid, i32)> {
        let regex = self.regex_of(member);
        let mut names: BTreeSet<&String> = member.profile.topics.iter().collect();
        names.extend(regex.into_iter().flat_map(|regex| &regex.topics));
        names
            .into_iter()
            .filter_map(|name| self.metadata.get(name).copied())
            .collect()
    }
}

/// Whether an expression can be used at all.
pub(super) fn compile(pattern: &str) -> Result<regex_lite::Regex, Refusal> {
    let build = |text: &str| {
        regex_lite::RegexBuilder::new(text)
            .size_limit(COMPILED_BYTES)
            .build()
    };
    // Alone first: `a)|(b` must not become an expression by what is put around it.
    build(pattern)
        .and_then(|_| build(&format!("^(?:{pattern})$")))
        .map_err(|error| {
            Refusal::new(
                ErrorCode::INVALID_REGULAR_EXPRESSION,
                format!(
                    "SubscribedTopicRegex `{pattern}` is not a valid regular expression: {error}"
                ),
            )
        })
}

fn resolve(now: Now, compiled: &regex_lite::Regex, topics: &dyn Topics, sight: &Sight) -> Regex {
    let matching = topics
        .names()
        .into_iter()
        .filter(|name| compiled.is_match(name) && sight.sees(name));
    Regex {
        topics: matching.collect(),
        version: i64::try_from(topics.version()).unwrap_or(i64::MAX),
        resolved_ms: now.wall_ms,
    }
}

/// FNV-1a over names, ids and partition counts; 0 for none. Only compared with itself.
fn hash(metadata: &BTreeMap<String, (Uuid, i32)>) -> i64 {
    if metadata.is_empty() {
        return 0;
    }
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (name, (id, partitions)) in metadata {
        eat(name.as_bytes());
        eat(&[0]);
        eat(id.as_bytes());
        eat(&partitions.to_be_bytes());
    }
    state.cast_signed()
}
