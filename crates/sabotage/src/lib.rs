//! Seeded defects. `sabotaged!("name")` is `false`, and nothing of it is in the program, unless the program was built with
//! the feature `on`; then it is true in processes whose variable `A9S_SABOTAGE` has that name. `ci/sabotage.tsv` lists
//! them with what fails for each, `ci/sabotage` shows that the conformance suite catches it so.

/// The variable that switches a defect on.
pub const VARIABLE: &str = "A9S_SABOTAGE";

/// Whether a defect is switched on.
#[cfg(not(feature = "on"))]
#[macro_export]
macro_rules! sabotaged {
    ($name:literal) => {
        $crate::NONE
    };
}

/// What every [`sabotaged`] is where there are no defects.
#[cfg(not(feature = "on"))]
pub const NONE: bool = false;

/// Whether a defect is switched on.
#[cfg(feature = "on")]
#[macro_export]
macro_rules! sabotaged {
    ($name:literal) => {
        $crate::is_on($name)
    };
}

/// The defect that is switched on, for processes that are started with an environment of their own.
pub fn chosen() -> Option<String> {
    if cfg!(feature = "on") { std::env::var(VARIABLE).ok() } else { None }
}

/// See [`sabotaged`].
#[cfg(feature = "on")]
pub fn is_on(name: &str) -> bool {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<String>> = LazyLock::new(chosen);
    CHOSEN.as_deref() == Some(name)
}
