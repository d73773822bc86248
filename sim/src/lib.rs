//! What looks at the whole workspace: rules that no compiler checks stand in `tests/`, and [`fuzz`] feeds every decoder with
//! bytes that are not what they should be.

pub mod fuzz;
