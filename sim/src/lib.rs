//! Tests over the whole workspace; there is no code in here that anything could use.
