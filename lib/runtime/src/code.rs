//! Codes that an operator can look up with `whimbrel explain`.

/// One page of `whimbrel explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `WB-` and three digits; never given another meaning once released.
    pub code: &'static str,
    pub title: &'static str,
    pub cause: &'static str,
    pub fix: &'static str,
}
